"""The two MATLAB files of MPII Human Pose: the official annotations (v1_u12_1) and the common validation truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.console import waiting
from autopose.errors import DataError, require

#: Joints of the skeleton ``mpii16``, which are the ids 0 to 15 of the official annotations.
JOINTS = 16
#: Bytes of a file whose structs SciPy reads for most of a minute (MPII's has 13 million, compressed).
_LARGE = 5_000_000


@dataclass(frozen=True, eq=False)
class MpiiRecord:
    """One person as MPII annotates it, in MATLAB's pixels (the centre of the first pixel is 1, 1).

    Attributes:
        image: file name.
        train: whether the image belongs to the training part (only that has public joints).
        separated: whether the person is apart from others, as the official single-person evaluation asks.
        center: ``(2,)`` rough position of the person, or None.
        scale: the person's height / 200 px, or None.
        joints: ``(16, 2)``; anything where ``labelled`` is False.
        labelled: ``(16,)``.
        head_box: ``(4,)`` x1, y1, x2, y2 of the head, or None.
    """

    image: str
    train: bool
    separated: bool
    center: NDArray[np.float64] | None
    scale: float | None
    joints: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    head_box: NDArray[np.float64] | None


def read_mat(path: Path) -> dict[str, Any]:
    """Return the variables of a MATLAB file (up to version 7).

    Raises:
        DataError: it is missing or not such a file.
        MissingDependencyError: SciPy is not installed.
    """
    io = require("scipy.io", extra="mpii", why="Reading MATLAB annotations")
    if not path.is_file():
        raise DataError(f"No annotation file {str(path)!r}.")
    if (size := path.stat().st_size) >= _LARGE:
        waiting(f"Reading {path} ({size / 1e6:.0f} MB) ...")
    try:
        content: dict[str, Any] = io.loadmat(str(path), struct_as_record=False, squeeze_me=True)
    except Exception as error:  # noqa: BLE001  (of zlib and of SciPy's own kinds as well)
        raise DataError(f"{path}: cannot be read as a MATLAB file ({error}). Expected version 7 or older.") from None
    return content


def read_official(path: Path) -> Iterator[MpiiRecord]:
    """Yield every person of ``mpii_human_pose_v1_u12_1.mat`` (variable ``RELEASE``), in the file's order.

    Raises:
        DataError: it is not that file.
    """
    release = read_mat(path).get("RELEASE")
    if release is None or not all(hasattr(release, name) for name in ("annolist", "img_train")):
        raise DataError(f"{path}: has no RELEASE.annolist; expected mpii_human_pose_v1_u12_1.mat of MPII Human Pose.")
    images = _many(release.annolist)
    train = np.atleast_1d(release.img_train)
    separated = np.atleast_1d(getattr(release, "single_person", np.empty(len(images), object)))
    for number, image in enumerate(images):
        alone = {int(index) for index in np.atleast_1d(separated[number]).ravel() if index is not None}
        name = getattr(image.image, "name", None)
        if not isinstance(name, str):
            raise DataError(f"{path}: RELEASE.annolist({number + 1}).image.name is {name!r}; expected a file name.")
        for index, rectangle in enumerate(_many(getattr(image, "annorect", None)), start=1):
            yield _record(rectangle, name, bool(train[number]), index in alone)


def read_head_boxes(path: Path) -> NDArray[np.float64]:
    """Return the head boxes ``(N, 4)`` of the common validation truth ``gt_valid.mat``, in MATLAB's pixels.

    Raises:
        DataError: it has no ``headboxes_src``.
    """
    boxes = read_mat(path).get("headboxes_src")
    if boxes is None or np.shape(boxes)[:2] != (2, 2):
        raise DataError(
            f"{path}: has no headboxes_src (2, 2, N); expected the gt_valid.mat beside the common valid.json."
        )
    return np.asarray(boxes, np.float64).reshape(4, -1).T.copy()  # rows: x1, y1, x2, y2


def _many(value: Any) -> list[Any]:
    """Return MATLAB's struct array as a list: SciPy gives nothing, one struct, or an array."""
    return [item for item in np.atleast_1d(np.asarray(value, object)).ravel() if hasattr(item, "_fieldnames")]


def _number(struct: Any, name: str) -> float | None:
    value = np.asarray(getattr(struct, name, []), object).ravel()
    if value.size != 1 or value[0] is None or isinstance(value[0], str):
        return None
    return float(value[0])


def _record(rectangle: Any, image: str, train: bool, separated: bool) -> MpiiRecord:
    joints, labelled = np.zeros((JOINTS, 2)), np.zeros(JOINTS, bool)
    for annotated in _many(getattr(rectangle, "annopoints", None)):
        for point in _many(getattr(annotated, "point", None)):
            x, y, joint = _number(point, "x"), _number(point, "y"), _number(point, "id")
            if x is None or y is None or joint is None or not 0 <= joint < JOINTS:
                continue
            joints[int(joint)], labelled[int(joint)] = (x, y), True
    corners = [_number(rectangle, name) for name in ("x1", "y1", "x2", "y2")]
    places = _many(getattr(rectangle, "objpos", None))
    center = [_number(places[0], "x"), _number(places[0], "y")] if places else [None]
    return MpiiRecord(
        image=image,
        train=train,
        separated=separated,
        center=None if None in center else np.array(center, np.float64),
        scale=_number(rectangle, "scale"),
        joints=joints,
        labelled=labelled,
        head_box=None if None in corners else np.array(corners, np.float64),
    )
