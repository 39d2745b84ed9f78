"""Which pictures an artefact is checked on: never those that its ranges were taken on."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopose.errors import DataError
from autopose.export.crops import calibration_images, check_images, spread
from autopose.manifest import Manifest


@given(st.integers(0, 80), st.integers(0, 40), st.integers(1, 40))
def test_the_rest_shares_nothing_with_what_was_taken(total: int, taken: int, limit: int) -> None:
    items = list(range(total))
    first, rest = spread(items, taken), spread(items, limit, rest_of=taken)
    assert not set(first) & set(rest)
    assert len(set(first)) == len(first) == min(taken, total)
    assert len(set(rest)) == len(rest) == min(limit, total - len(first))
    assert rest == sorted(rest)


def _folder(folder: Path, count: int) -> Path:
    for number in range(count):  # each of its own grey
        cv2.imwrite(str(folder / f"{number:03}.png"), np.full((40, 30, 3), 3 * number, np.uint8))
    return folder


def _greys(inputs: np.ndarray) -> set[int]:
    return {int(image[image.shape[0] // 2, image.shape[1] // 2, 0]) for image in inputs}


def test_other_pictures_of_the_calibration_folder(tmp_path: Path) -> None:
    folder, manifest = _folder(tmp_path, 60), Manifest()
    calibrated = _greys(calibration_images(folder, manifest))
    checked, words = check_images(None, manifest, calibration=folder)
    assert len(calibrated) == 32
    assert _greys(checked) == {3 * number for number in range(60)} - calibrated
    assert words == f"28 pictures of {folder} that were not calibrated on"


@pytest.mark.parametrize("count", [20, 40])
def test_too_few_pictures_for_both(tmp_path: Path, count: int) -> None:
    manifest = Manifest()
    words = check_images(None, manifest, calibration=_folder(tmp_path, count))[1]
    assert words == check_images(None, manifest)[1] == "16 synthetic pictures"


def test_given_pictures_come_first(tmp_path: Path) -> None:
    (tmp_path / "check").mkdir()
    (tmp_path / "calibration").mkdir()
    check, calibration = _folder(tmp_path / "check", 3), _folder(tmp_path / "calibration", 60)
    found, words = check_images(check, Manifest(), calibration=calibration)
    assert _greys(found) == {0, 3, 6}
    assert words == f"3 pictures of {check}"


def test_annotated_persons_of_the_models_own_skeleton(tmp_path: Path) -> None:
    """Persons with MPII's joints, for a model of these; their pictures in a folder of their own."""
    (tmp_path / "pictures").mkdir()
    images, annotations = [], []
    for number in range(40):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), np.full((60, 40, 3), 5 * number, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": 40, "height": 60})
        record = {"image_id": number, "category_id": 1, "bbox": [5, 5, 30, 50], "keypoints": [20, 30, 2] * 16}
        annotations.append({"id": number, **record})
    path = tmp_path / "ann" / "persons.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    manifest = Manifest(skeleton="mpii16")
    found, words = check_images(path, manifest, images=tmp_path / "pictures")
    assert words == f"40 pictures of {path}"
    assert _greys(found) == {5 * number for number in range(40)}
    assert len(calibration_images(path, manifest, images=tmp_path / "pictures")) == 32


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder or annotation file"):
        check_images(None, Manifest(), calibration=tmp_path / "typo")
