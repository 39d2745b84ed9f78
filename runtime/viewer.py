"""One self-contained HTML page per results file: pictures with skeletons, a timeline of tracks, angles and speeds."""

import html
import json
import logging
import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from autopose.angles import BONES
from autopose.drawing import TRACK_COLOURS
from autopose.errors import DataError, MediaError, UsageError
from autopose.files import write_atomic
from autopose.results import FramePoses, Results, load_results
from autopose.runtime.preview import (
    DENSE_FRAME,
    PREVIEW_SIDE,
    SPARSE_FRAME,
    SPARSE_SIDE,
    located_sources,
    preview_images,
    preview_video,
    results_stem,
)

log = logging.getLogger(__name__)

#: Characters of a page that nobody asked to be larger, about: browsers open it without delay, mail takes it.
PAGE_SIZE = 20_000_000


def write_viewer(
    results_path: str | Path,
    out: str | Path | None = None,
    *,
    pictures: bool = True,
    stride: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the page and return its path.

    Args:
        results_path: ``.json`` of ``autopose infer``, or the ``.part.jsonl`` of an interrupted run.
        out: the page; None for ``STEM.html`` beside the results.
        pictures: embed a smaller copy of the source; without it, or where the source is gone, skeletons stand on black.
        stride: keep every n-th frame, at full size; None for as many as a page of 20 MB holds.
        progress: is told the pictures done and their number.

    Raises:
        DataError: the results cannot be read or hold no frames.
        UsageError: the page would take the place of the results.
    """
    results_path = Path(results_path)
    results = load_results(results_path)
    if not results.frames:
        raise DataError(f"{results_path}: holds no frames, so there is nothing to show.")
    out = Path(out) if out is not None else results_path.with_name(f"{results_stem(results_path)}.html")
    if out.exists() and out.samefile(results_path):
        raise UsageError(f"-o {out}: these are the results themselves. Give the page another name, for instance .html.")
    source = results.header.get("source", {})
    page = (resources.files("autopose.runtime") / "viewer.html").read_text(encoding="utf-8")
    content, remarks = _content(results, results_path, pictures, stride, PAGE_SIZE - len(page), progress)
    model = results.header.get("model", {})
    facts = [str(source.get("path", "")), f"model {model['name']}" if model.get("name") else "", *remarks]
    content["note"] = " · ".join(fact for fact in facts if fact)
    text = _json(content)
    title = html.escape(Path(str(source.get("path") or results_path)).name)
    write_atomic(out, _filled(page, {"title": title, "data": text}))
    return out


def _filled(page: str, texts: Mapping[str, str]) -> str:
    """Put texts into their places, ``{{name}}``; in a text itself, where a file is named so, these are no places."""
    return re.sub(r"\{\{(\w+)\}\}", lambda place: texts[place[1]], page)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")  # no name can end the script element


def _content(
    results: Results,
    results_path: Path,
    pictures: bool,
    stride: int | None,
    size: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, Any], list[str]]:
    """Return what the page holds, and what is to be said about it."""
    remarks: list[str] = []
    paths: list[Path] = []
    if pictures:
        try:
            paths = located_sources(results, results_path)
        except MediaError as error:
            remarks.append(_without_pictures(results_path, error))
    video = bool(paths) and results.header["source"].get("kind") == "video"
    content = _data(results)
    lengths = np.array([len(_json(frame)) + 1 for frame in content["frames"]])
    chosen = stride or _stride_that_fits(lengths, size, video=video, separate=bool(paths) and not video)
    content["frames"], content["stride"] = content["frames"][::chosen], chosen
    room = size - int(lengths[::chosen].sum())
    side = PREVIEW_SIDE
    if paths:
        count = len(content["frames"])

        def passed(done: int) -> None:
            if progress is not None:
                progress(done, count)

        try:
            if video:
                side = PREVIEW_SIDE if stride or chosen == 1 else SPARSE_SIDE
                wanted = {round(entry.time_s or 0, 6) for entry in results.frames[::chosen]}
                content["video"] = preview_video(paths[0], wanted, side, None if stride else room, passed)
            else:
                content["images"], side = preview_images(paths[::chosen], None if stride else room, passed)
        except MediaError as error:
            remarks.append(_without_pictures(results_path, error))
    thinned = _thinning(len(lengths), chosen, side)
    if thinned and not stride:
        log.warning(
            "%s: the page holds %s, to stay below about 20 MB. 'autopose view --stride 1' keeps all.",
            results_path,
            thinned,
        )
    return content, remarks + ([thinned] if thinned else [])


def _without_pictures(results_path: Path, error: MediaError) -> str:
    log.warning("%s: its page has no pictures, but skeletons on black: %s", results_path, error)
    return f"without pictures: {error}"


def _stride_that_fits(lengths: np.ndarray[Any, Any], size: int, *, video: bool, separate: bool) -> int:
    """Return the least stride whose poses fit into the page, with room for pictures.

    Args:
        lengths: of the frames' poses, in characters.
        size: of all, in characters.
        video: whether the pictures are frames of a video, of which only those with poses are kept.
        separate: whether they are separate ones, which can be made smaller.
    """
    for stride in range(1, len(lengths) + 1):
        frames = lengths[::stride]
        each = (DENSE_FRAME if stride == 1 else SPARSE_FRAME) if video else 0
        if frames.sum() + each * len(frames) <= (size / 2 if separate else size):
            return stride
    return len(lengths)


def _thinning(frames: int, stride: int, side: int) -> str:
    """Say what a page lacks that the results have; nothing if it lacks nothing."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if stride // 10 % 10 == 1 else endings.get(stride % 10, "th")
    facts = [f"every {stride}{ending} of {frames} frames"] if stride > 1 else []
    if side < PREVIEW_SIDE:
        facts.append(f"pictures of at most {side} pixels")
    return ", ".join(facts)


def _data(results: Results) -> dict[str, Any]:
    """Return frames and skeleton in the short form of the page."""
    timed = all(entry.time_s is not None for entry in results.frames)
    frames = []
    for i, entry in enumerate(results.frames):
        size = [max(side, 1) for side in entry.poses.image_size_wh]
        time = entry.time_s if timed else i
        frame: dict[str, Any] = {"f": entry.frame, "t": time, "size": size, "persons": _persons(entry)}
        if entry.poses.source is not None:
            frame["name"] = PureWindowsPath(entry.poses.source).name  # which knows both kinds of slashes
        frames.append(frame)
    skeleton = results.skeleton
    return {
        "frames": frames,
        "joints": skeleton.joints,
        "colours": [f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in TRACK_COLOURS],
        "limbs": skeleton.limb_indices.tolist(),
        "angles": BONES,
        "unit": "s" if timed else "",
        "tracked": any(entry.poses.ids is not None for entry in results.frames),
        "offset": frames[0]["t"] if timed else 0,
    }


def _persons(entry: FramePoses) -> list[dict[str, Any]]:
    poses = entry.poses
    persons = []
    for i in range(len(poses)):
        triples = np.concatenate([poses.keypoints[i], poses.keypoint_scores[i][:, None]], -1)
        person: dict[str, Any] = {
            "box": [round(float(v), 1) for v in poses.boxes[i]],
            "k": [round(float(v), 2 if j % 3 == 2 else 1) for j, v in enumerate(triples.ravel())],
        }
        if poses.ids is not None:
            person["id"] = int(poses.ids[i])
        persons.append(person)
    return persons
