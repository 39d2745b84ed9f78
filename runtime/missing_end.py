"""Whether a video came, and to its end, by what its container says of itself."""


def no_frame(problem: str, *, distant: bool) -> str:
    """Say that not one frame came, as a sentence without its subject.

    Args:
        problem: what was met in reading.
        distant: it is a file on a server, some of which send files from their beginning only.
    """
    server = ", or its server cannot skip to an index at its end: download it, and give the file" if distant else ""
    return f"not one frame can be decoded ({problem}). It is damaged{server}."


def missing_end(count: int, promised: int, last_s: float, duration_s: float) -> str | None:
    """Tell that a video ended before its end, as a sentence without its subject; None if it did not.

    Args:
        count: frames that came.
        promised: frames that the container names; 0 if it does not.
        last_s: time of the last frame.
        duration_s: that the container names; 0 if it does not.
    """
    few = max(2, promised // 50)
    # AVI counts the frames that a recorder dropped: they are missing in between, not at the end.
    to_the_end = promised and last_s >= duration_s * (1 - (few + 1) / promised) > 0
    if promised and count < promised - few and not to_the_end:
        return f"breaks off after {count} of {promised} frames; it is cut off or damaged."
    if not promised and duration_s and last_s < duration_s - max(1.0, duration_s / 20):
        return f"breaks off at {last_s:.1f} of {duration_s:.1f} s; it is cut off or damaged."
    return None
