"""Results of ``autopose infer`` on pictures as draft labels: COCO's records, to be corrected in a label tool."""

import re
from pathlib import Path, PurePosixPath

import numpy as np

from autopose.data.coco_file import CocoFile, named_folder
from autopose.data.labels import Labels, find_picture
from autopose.data.picture_header import picture_header, refuse_turned
from autopose.errors import DataError
from autopose.files import with_slashes
from autopose.poses import Poses
from autopose.results import load_results
from autopose.skeleton_record import skeleton_object

#: Joints with a lower score are not labelled; drawing leaves them out as well.
SEEN = 0.2
_BEGINNING = re.compile(rb'\s*\{\s*"format"\s*:\s*"autopose-results"')


def is_results(path: Path) -> bool:
    """Tell whether a file holds results of ``autopose infer``."""
    if path.suffix.lower() not in (".json", ".jsonl") or not path.is_file():
        return False
    with path.open("rb") as file:
        return _BEGINNING.match(file.read(256)) is not None


def read_drafts(path: Path, *, images: Path | None = None) -> CocoFile:
    """Read results of pictures as COCO's records.

    Every joint that is seen is listed under ``pseudo``, as a model's label, and every box has its ``score``.

    Args:
        path: ``.json``, or the ``.part.jsonl`` of an interrupted run.
        images: folder of the pictures; None: where the run read them.

    Raises:
        DataError: these are results of a video or a stream, a picture is not there or has another size, or pictures are
            stored turned.
    """
    path = Path(path)
    images = named_folder(images) if images is not None else None
    results = load_results(path)
    kind = results.header.get("source", {}).get("kind")
    if kind not in ("images", "image"):
        raise DataError(
            f"{path}: holds results of a {'video' if kind == 'video' else 'stream'}; labels are of pictures.\n"
            "Take pictures out of it (ffmpeg -i VIDEO -vf fps=1 frames/%06d.png), and run 'autopose infer frames'."
        )
    read, turned = Labels(path), []
    for entry in results.frames:
        where = f"{path}: frame {entry.frame}"
        picture = _picture(entry.poses, images, where)
        header = picture_header(picture)
        if header.turned:
            turned.append(picture)
        elif header.size_wh != entry.poses.image_size_wh:
            width, height = entry.poses.image_size_wh
            raise DataError(
                f"{where}: its picture {str(picture)!r} is {header.size_wh[0]}x{header.size_wh[1]}; the run saw it at "
                f"{width}x{height}. Run 'autopose infer' on the pictures again."
            )
        read.add_picture(picture, header.size_wh, complete=False)
        for person in entry.poses:
            seen = person.keypoint_scores[0] >= SEEN
            joints = np.concatenate([person.keypoints[0], np.where(seen, 2.0, 0.0)[:, None]], axis=1)
            read.add_person(
                person.boxes[0].astype(np.float64), joints.astype(np.float64), where,
                score=round(float(person.box_scores[0]), 4), pseudo=np.flatnonzero(seen).tolist(),
            )  # fmt: skip
    refuse_turned(turned, len(results.frames), path, "autopose infer")
    skeleton = results.skeleton
    name = "person" if skeleton.is_known else skeleton.name
    return read.as_coco({**skeleton_object(skeleton), "name": name, "keypoints": list(skeleton.joints)})


def _picture(poses: Poses, images: Path | None, where: str) -> Path:
    """Return a picture's file: where the run read it, or in a folder, by as much of its path as is the same there."""
    if poses.source is None:
        raise DataError(f"{where}: does not name its picture. Run 'autopose infer' on files.")
    # Not beside the results: there lie the run's own pictures, with skeletons.
    if images is None:
        return find_picture([Path(poses.source)], where)
    parts = PurePosixPath(with_slashes(poses.source)).parts
    return find_picture(
        [images.joinpath(*parts[place:]) for place in range(1, len(parts))] or [images / parts[0]], where
    )
