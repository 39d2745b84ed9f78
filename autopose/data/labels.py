"""What the readers of label tools have in common: pictures and persons as the records of COCO's format."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.data.coco import BOX_SHARE
from autopose.data.coco_file import CocoFile
from autopose.data.images import picture_exists
from autopose.errors import DataError
from autopose.skeleton import SKELETONS


@dataclass
class Labels:
    """Pictures and persons, as they are read.

    Attributes:
        path: the file or folder that they are read from.
        images: records of pictures; ``file_name`` is absolute.
        annotations: records of persons.
    """

    path: Path
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add_picture(self, path: Path, size_wh: tuple[int, int], **more: Any) -> None:
        """Note a picture, to which the persons belong that are added next."""
        size = {"width": size_wh[0], "height": size_wh[1]}
        self.images.append({"id": len(self.images) + 1, "file_name": str(path.absolute()), **size, **more})

    def add_person(
        self, box_xyxy: NDArray[np.float64] | None, joints: NDArray[np.float64], where: str, **more: Any
    ) -> None:
        """Note a person of the last picture.

        Args:
            box_xyxy: None: the joints' extent and a tenth of it on each side, as of LSP.
            joints: ``(K, 3)`` x, y in pixels and COCO's third value, 0 for those without a label.
            where: names the person in errors.
            more: keys of the record.

        Raises:
            DataError: the box has no size in the picture.
        """
        image = self.images[-1]
        labelled = joints[:, 2] > 0
        if box_xyxy is None:
            low, high = joints[labelled, :2].min(0), joints[labelled, :2].max(0)
            margin = np.maximum(0.1 * (high - low), 2)
            box_xyxy = np.concatenate([low - margin, high + margin])
        size = (image["width"], image["height"])
        x0, y0, x1, y1 = np.clip(box_xyxy, 0, [*size, *size]).round(2).tolist()
        if x1 <= x0 or y1 <= y0:
            raise DataError(f"{where}: its box lies outside of the picture of {size[0]}x{size[1]} pixels.")
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image["id"],
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                "segmentation": [],  # nobody drew outlines; CVAT's reader passes over records without the key
                "area": round((x1 - x0) * (y1 - y0) * BOX_SHARE, 2),
                "keypoints": np.where(labelled[:, None], joints, 0).round(4).ravel().tolist(),
                "num_keypoints": int(labelled.sum()),
                **more,
            }
        )

    def as_coco(self, category: Mapping[str, Any]) -> CocoFile:
        """Return them as a COCO file, with what it would say of the category of persons.

        Raises:
            DataError: no person has a joint.
        """
        if not any(record["num_keypoints"] for record in self.annotations):
            raise DataError(f"{self.path}: holds no person with joints.")
        images = {image["id"]: image for image in self.images}
        return CocoFile(self.path, images, self.annotations, Path(), {"id": 1, **category})


def ordered_joints(names: Iterable[str]) -> list[str]:
    """Return joints in the order of the known skeleton that has just these, if one has; else as they come.

    A left one without a right one, or the other way round, gets its counterpart, which then nobody has labelled: of a
    mirror image it is asked for.
    """
    joints = list(dict.fromkeys(names))
    known = next((list(each.joints) for each in SKELETONS.values() if set(each.joints) == set(joints)), None)
    if known is not None:
        return known
    for joint in tuple(joints):
        words = joint.split("_")
        other = "_".join({"left": "right", "right": "left"}.get(word, word) for word in words)
        if other not in joints:
            joints.append(other)
    return joints


def find_picture(places: Sequence[Path], where: str) -> Path:
    """Return the first place where a picture is.

    Raises:
        DataError: it is in none.
    """
    found = next((place for place in places if picture_exists(place)), None)
    if found is None:
        listed = " or ".join(repr(str(place)) for place in dict.fromkeys(places))
        raise DataError(f"{where}: no picture {listed}.\nName the folder of the pictures with --images DIR.")
    return found
