"""Leeds Sports Pose and its extension as :class:`autopose.poses.Person`.

Sources: Johnson & Everingham, BMVC 2010 (LSP: 2,000 pictures) and CVPR 2011 (LSPET: 10,000 pictures).
"""

from pathlib import Path
from typing import Any

import numpy as np

from autopose.data.coco import BOX_SHARE
from autopose.data.coco_file import picture_folder
from autopose.data.mpii_mat import read_mat
from autopose.errors import DataError
from autopose.poses import Person
from autopose.skeleton import LSP14

JOINTS = 14


def is_lsp(path: Path) -> bool:
    """Tell whether a file is LSP's or LSPET's ``joints.mat``."""
    return path.name.lower() == "joints.mat"


def load_lsp(annotations: Path, *, images: Path | None = None, sample_weight: float = 1.0) -> list[Person]:
    """Read ``joints.mat``: one person per picture; the box is the joints' extent and a tenth of it on each side.

    LSP stores ``(3, 14, N)`` with x, y and a mark of hidden joints, all of which are labelled; LSPET ``(14, 3, N)``
    with x, y and a mark of labelled joints: without it the position means nothing. Coordinates are used as they are.

    Args:
        annotations: ``joints.mat``.
        images: folder of ``im0001.jpg`` (LSP) or ``im00001.jpg`` (LSPET); None: ``images`` beside the file, or its own.
        sample_weight: becomes ``Person.weight_sample``.

    Raises:
        DataError: the file is missing or laid out otherwise, or the pictures are not there.
        MissingDependencyError: SciPy is not installed.
    """
    path = Path(annotations)
    joints: Any = read_mat(path).get("joints")
    if getattr(joints, "ndim", 0) == 2:
        joints = joints[..., None]  # of a single picture
    shape = getattr(joints, "shape", None)
    if joints is None or shape is None or len(shape) != 3 or shape[:2] not in ((3, JOINTS), (JOINTS, 3)):
        raise DataError(
            f"{path}: its variable 'joints' is {'missing' if shape is None else shape}; "
            f"expected (3, {JOINTS}, N) of LSP or ({JOINTS}, 3, N) of LSPET."
        )
    extended = shape[:2] == (JOINTS, 3)
    values = np.asarray(joints, np.float64).transpose((2, 0, 1) if extended else (2, 1, 0))  # (N, 14, 3)
    digits = 5 if extended else 4
    folder = picture_folder(path, f"im{1:0{digits}d}.jpg", images)
    persons = []
    for number, record in enumerate(values, start=1):
        labelled = (record[:, 2] > 0) if extended else np.ones(JOINTS, bool)
        labelled &= np.isfinite(record[:, :2]).all(1)
        if not labelled.any():
            continue
        low, high = record[labelled, :2].min(0), record[labelled, :2].max(0)
        margin = np.maximum(0.1 * (high - low), 2)
        persons.append(
            Person(
                image_path=folder / f"im{number:0{digits}d}.jpg",
                box_xyxy=np.concatenate([low - margin, high + margin]),
                keypoints=np.where(labelled[:, None], record[:, :2], 0),
                weight=labelled.astype(np.float32),
                area=float(np.prod(high - low + 2 * margin) * BOX_SHARE),
                image_id=number,
                annotation_id=number,
                weight_sample=sample_weight,
                skeleton=LSP14,
            )
        )
    return persons
