"""One self-contained HTML page per results file: pictures with skeletons, a timeline of tracks, angles and speeds."""

import base64
import html
import json
from fractions import Fraction
from importlib import resources
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from autopose.errors import DataError, MediaError, UsageError
from autopose.files import write_atomic
from autopose.image_files import read_image
from autopose.results import FramePoses, Results, load_results
from autopose.runtime.video import VideoReader
from autopose.runtime.video_writer import VideoWriter

#: The longer side of the embedded pictures, in pixels.
PREVIEW_SIDE = 960
#: Separate images that are embedded, at most.
MAX_IMAGES = 300


def write_viewer(results_path: str | Path, out: str | Path | None = None, *, pictures: bool = True) -> Path:
    """Write the page and return its path.

    Args:
        results_path: ``.json`` of ``autopose infer``, or the ``.part.jsonl`` of an interrupted run.
        out: the page; None for ``STEM.html`` beside the results.
        pictures: embed a smaller copy of the source; without it, or where the source is gone, skeletons stand on black.

    Raises:
        DataError: the results cannot be read or hold no frames.
        UsageError: the page would take the place of the results.
    """
    results_path = Path(results_path)
    results = load_results(results_path)
    if not results.frames:
        raise DataError(f"{results_path}: holds no frames, so there is nothing to show.")
    out = Path(out) if out is not None else results_path.with_name(f"{_stem(results_path)}.html")
    if out.exists() and out.samefile(results_path):
        raise UsageError(f"-o {out}: these are the results themselves. Give the page another name, for instance .html.")
    source = results.header.get("source", {})
    media: dict[str, Any] = {}
    note = ""
    if pictures:
        try:
            media = _embedded(results, results_path)
        except MediaError as error:
            note = f"without pictures: {error}"
    content = {**_data(results), **media}
    model = results.header.get("model", {})
    facts = [str(source.get("path", "")), f"model {model['name']}" if model.get("name") else "", note]
    content["note"] = " · ".join(fact for fact in facts if fact)
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")  # no name can end the script element
    page = (resources.files("autopose.runtime") / "viewer.html").read_text(encoding="utf-8")
    title = html.escape(Path(str(source.get("path") or results_path)).name)
    write_atomic(out, page.replace("{{title}}", title).replace("{{data}}", text))
    return out


def _stem(results_path: Path) -> str:
    """Return what the run called the source: its name may hold dots."""
    for ending in (".part.jsonl", ".json"):
        if results_path.name.endswith(ending):
            return results_path.name.removesuffix(ending)
    return results_path.stem


def _data(results: Results) -> dict[str, Any]:
    """Return frames and skeleton in the short form of the page."""
    timed = all(entry.time_s is not None for entry in results.frames)
    frames = []
    for i, entry in enumerate(results.frames):
        size = [max(side, 1) for side in entry.poses.image_size_wh]
        time = entry.time_s if timed else i
        frames.append({"f": entry.frame, "t": time, "size": size, "persons": _persons(entry)})
    skeleton = results.skeleton
    return {
        "frames": frames,
        "joints": skeleton.joints,
        "limbs": skeleton.limb_indices.tolist(),
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


def _embedded(results: Results, results_path: Path) -> dict[str, Any]:
    """Return the pictures as data URLs: ``video``, or ``images`` one per frame."""
    kind = results.header.get("source", {}).get("kind")
    if kind == "video":
        named = results.header["source"].get("path")
        if not named:
            raise MediaError("the results do not name their video.")
        path = _located(str(named), results_path)
        # By time: after --start, numbers are computed from the average rate, which frames need not keep to.
        return {"video": _preview_video(path, {round(entry.time_s or 0, 6) for entry in results.frames})}
    names = [entry.poses.source for entry in results.frames]
    if kind in ("images", "image") and all(names):
        if len(names) > MAX_IMAGES:
            raise MediaError(f"{len(names)} images are more than the {MAX_IMAGES} that a page embeds.")
        return {"images": [_preview_image(_located(str(name), results_path)) for name in names]}
    raise MediaError("a live source is not kept.")


def _located(name: str, results_path: Path) -> Path:
    """Return where a source lies: where the run read it, else beside the results, as when both were moved."""
    recorded, folder = Path(name), results_path.parent
    if recorded.is_absolute() and recorded.is_file():
        return recorded
    for path in (recorded, folder / name, folder / PureWindowsPath(name).name):  # which knows both kinds of slashes
        if path.is_file() and not _may_be_output(path, results_path):
            return path
    raise MediaError(f"{name} is not there any more.")


def _may_be_output(path: Path, results_path: Path) -> bool:
    """Tell whether a file may be a picture with skeletons of the same run, which bears the name of its source."""
    if path.resolve().parent != results_path.resolve().parent:
        return False
    return path.suffix == ".jpg" or path.name == f"{_stem(results_path)}.mp4"


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = PREVIEW_SIDE / max(height, width)
    if scale >= 1:
        return image
    size_wh = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _preview_image(path: Path) -> str:
    found, content = cv2.imencode(".jpg", _reduced(read_image(path)), [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert found
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def _preview_video(path: Path, wanted: set[float]) -> str:
    """Return a smaller H.264 copy of the frames that have results."""
    with TemporaryDirectory() as folder:
        writer: VideoWriter | None = None
        last = max(wanted)
        for frame in VideoReader(path):
            if round(frame.time_s or 0, 6) in wanted:
                small = _reduced(frame.image)
                if writer is None:
                    size_wh = small.shape[1], small.shape[0]
                    base = frame.time_base or Fraction(1, 90_000)
                    writer = VideoWriter(
                        Path(folder) / "preview.mp4", size_wh, fps=Fraction(25), time_base=base, crf=27
                    )
                writer.write(small, frame.pts)
            if (frame.time_s or 0) >= last:
                break
        video = None if writer is None else writer.close()
        if video is None:
            raise MediaError(f"{path} holds none of the frames.")
        return "data:video/mp4;base64," + base64.b64encode(video.read_bytes()).decode()
