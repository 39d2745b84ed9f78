"""OCHuman's own annotation file, ``ochuman.json``, as :class:`autopose.poses.Person`.

Source: Zhang et al., Pose2Seg, CVPR 2019 (5,081 images, 13,360 persons, 10,375 of them with joints) and the layout that
the authors' OCHumanApi reads: images carry their annotations, boxes are corners, joints are named once for the file.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.data.coco import BOX_SHARE
from autopose.data.coco_file import clipped_box, need_keys, need_size, number_fault, picture_folder, read_json
from autopose.errors import DataError
from autopose.poses import Person
from autopose.skeleton import OCHUMAN19

#: Marks of a joint: 1 visible, 2 hidden by its own person, 3 by another; all are labelled. 0 is missing.
MISSING = 0


def is_ochuman(path: Path) -> bool:
    """Tell whether a file is OCHuman's own: the authors' files in COCO's format are not."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    content = path.read_bytes()
    return b'"keypoint_names"' in content and b'"keypoint_visible"' in content


def load_ochuman(annotations: Path, *, images: Path | None = None, sample_weight: float = 1.0) -> list[Person]:
    """Read the persons who have joints, with 19 of them.

    The authors evaluate only persons that also have a mask; those are in their files in COCO's format. Image ids, which
    are text in this file, become the images' numbers in it, from 1.

    Args:
        annotations: ``ochuman.json``.
        images: folder of the pictures; None: ``images`` beside the file, or its own.
        sample_weight: becomes ``Person.weight_sample``.

    Raises:
        DataError: the file is missing or laid out otherwise (the record named), or the pictures are not there.
    """
    path = Path(annotations)
    content = read_json(path, "annotation file")
    if not isinstance(content, dict) or not isinstance(content.get("images"), list) or not content["images"]:
        raise DataError(f"{path}: not OCHuman's annotations: expected an object with 'images' and 'keypoint_names'.")
    names = content.get("keypoint_names")
    names = names if isinstance(names, list) else []
    unknown = [name for name in OCHUMAN19.joints if name not in names]
    if unknown:
        raise DataError(f"{path}: its 'keypoint_names' lack {', '.join(unknown)}; expected OCHuman's 19 joints.")
    order = [names.index(name) for name in OCHUMAN19.joints]
    persons: list[Person] = []
    folder = None
    for image_id, image in enumerate(content["images"], start=1):
        where = f"{path}: images[{image_id - 1}]"
        need_keys(image, ("file_name", "width", "height", "annotations"), where)
        need_size(image, where)
        if not isinstance(image["annotations"], list):
            raise DataError(f"{where}: 'annotations' is {str(image['annotations'])[:40]}; expected a list of objects.")
        folder = folder or picture_folder(path, str(image["file_name"]), images)
        for number, record in enumerate(image["annotations"]):
            spot = f"{where}: annotations[{number}]"
            if not isinstance(record, dict):
                raise DataError(f"{spot} is {str(record)[:40]!r}; expected an object with keypoints and bbox.")
            if not record.get("keypoints"):
                continue  # a box, or a box and a mask
            xy, labelled = _joints(record["keypoints"], len(names), order, spot)
            if not labelled.any():
                continue
            box = _box(record.get("bbox"), (image["width"], image["height"]), spot)
            persons.append(
                Person(
                    image_path=folder / str(image["file_name"]),
                    box_xyxy=box,
                    keypoints=xy,
                    weight=labelled.astype(np.float32),
                    area=float(np.prod(box[2:] - box[:2]) * BOX_SHARE),
                    image_id=image_id,
                    annotation_id=len(persons) + 1,
                    weight_sample=sample_weight,
                    skeleton=OCHUMAN19,
                )
            )
    return persons


def _joints(values: Any, count: int, order: list[int], where: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    try:
        flat = np.asarray(values, np.float64)
    except (OverflowError, TypeError, ValueError):
        flat = np.zeros(0)
    if flat.shape != (3 * count,) or not np.isfinite(flat).all():
        raise DataError(f"{where}: 'keypoints' has {flat.size} numbers; expected {3 * count} finite ones.")
    joints = flat.reshape(-1, 3)[order]
    labelled = joints[:, 2] != MISSING
    return np.where(labelled[:, None], joints[:, :2], 0), labelled


def _box(corners: Any, size_wh: tuple[int, int], where: str) -> NDArray[np.float64]:
    """Return a box given by its corners, clipped to the image."""
    if number_fault(corners, 4):
        raise DataError(f"{where}: bbox is {str(corners)[:60]}; expected four numbers x1, y1, x2, y2.")
    x0, y0, x1, y1 = corners
    return clipped_box([x0, y0, x1 - x0, y1 - y0], size_wh, where)
