from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.data.annotations import load_persons
from autopose.data.lsp import load_lsp
from autopose.errors import DataError
from autopose.skeleton import COCO17, LSP14

scipy_io = pytest.importorskip("scipy.io", reason="MATLAB files need SciPy")

XY = np.random.default_rng(0).uniform(10, 90, (3, 14, 2)).round(2)


def write(folder: Path, joints: NDArray[Any], digits: int) -> Path:
    (folder / "images").mkdir(parents=True)
    for number in range(1, joints.shape[2] + 1):
        cv2.imwrite(str(folder / "images" / f"im{number:0{digits}d}.jpg"), np.zeros((100, 100, 3), np.uint8))
    scipy_io.savemat(folder / "joints.mat", {"joints": joints})
    return folder / "joints.mat"


def test_lsp_marks_hidden_joints_but_labels_all(tmp_path: Path) -> None:
    hidden = np.zeros((3, 14, 1))
    hidden[0, 2] = 1
    persons = load_lsp(write(tmp_path, np.concatenate([XY, hidden], axis=2).transpose(2, 1, 0), 4))
    assert [person.image_path.name for person in persons] == ["im0001.jpg", "im0002.jpg", "im0003.jpg"]
    assert all(person.image_path.is_file() for person in persons)
    np.testing.assert_array_equal(persons[1].keypoints, XY[1])
    assert persons[0].weight.sum() == 14
    low, high = XY[0].min(0), XY[0].max(0)
    np.testing.assert_allclose(persons[0].box_xyxy, [*(low - 0.1 * (high - low)), *(high + 0.1 * (high - low))])


def test_lspet_marks_labelled_joints(tmp_path: Path) -> None:
    labelled = np.ones((3, 14, 1))
    labelled[0, :4] = 0
    labelled[1, 1:] = 0
    labelled[2] = 0
    path = write(tmp_path, np.concatenate([XY, labelled], axis=2).transpose(1, 2, 0), 5)
    persons = load_persons(path, skeleton=LSP14, sample_weight=2)
    assert [person.weight_sample for person in persons] == [2, 2]
    np.testing.assert_allclose(persons[1].box_xyxy, [*(XY[1, 0] - 2), *(XY[1, 0] + 2)])  # a single joint has a box
    assert [person.image_path.name for person in persons] == ["im00001.jpg", "im00002.jpg"]  # the third has no joint
    np.testing.assert_array_equal(persons[0].weight, [0] * 4 + [1] * 10)
    assert (persons[0].keypoints[:4] == 0).all()
    assert LSP14.joints[0] == "right_ankle"
    assert LSP14.joints[13] == "head_top"


def test_refuses_other_layouts_and_missing_pictures(tmp_path: Path) -> None:
    scipy_io.savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 16, 5))})
    with pytest.raises(DataError, match=r"joints\.mat: its variable 'joints' is \(3, 16, 5\); expected"):
        load_lsp(tmp_path / "joints.mat")
    scipy_io.savemat(tmp_path / "joints.mat", {"other": np.zeros(3)})
    with pytest.raises(DataError, match="is missing"):
        load_lsp(tmp_path / "joints.mat")
    scipy_io.savemat(tmp_path / "joints.mat", {"joints": np.ones((14, 3, 1))})
    with pytest.raises(DataError, match=r"im00001\.jpg.*"):
        load_lsp(tmp_path / "joints.mat")
    with pytest.raises(DataError, match="skeleton is lsp14; coco17 was asked for"):
        load_persons(tmp_path / "joints.mat", skeleton=COCO17)
