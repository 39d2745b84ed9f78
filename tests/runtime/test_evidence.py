"""A box in which the pose network finds no joints is not a person, unless the user says so."""

from inspect import signature
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.commands.infer import infer
from autopose.poses import Poses
from autopose.runtime.estimator import Estimator
from autopose.runtime.evidence import evidence


def boxed(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find a doubtful person and a certain one in any image."""
    boxes = np.array([[10, 10, 60, 110], [80, 10, 140, 110]], np.float32)
    return boxes, np.array([0.3, 1.0], np.float32)


def test_evidence_is_the_box_score_and_a_quarter_of_the_better_half_of_the_joints() -> None:
    scores = np.zeros((2, 17), np.float32)
    scores[0] = 0.2
    scores[1, [0, 16]] = 0.3, 0.5  # the better 8 of 17: a mean of 0.1
    scores[1, 1] = -0.1
    boxes, joints = np.zeros((2, 4), np.float32), np.zeros((2, 17, 2), np.float32)
    poses = Poses(boxes, np.array([0.4, 0.8], np.float32), joints, scores)
    np.testing.assert_allclose(evidence(poses), [0.35, 0.625], atol=1e-7)


@pytest.mark.parametrize(("least", "scores"), [(0.52, [1.0]), (0.0, [0.3, 1.0]), (1.0, [])])
def test_images(least: float, scores: list[float]) -> None:
    grey = np.full((120, 160, 3), 127, np.uint8)  # nobody: mean joint scores near zero
    with Estimator(detector=boxed, flip=False, least_evidence=least) as estimator:
        found = estimator.predict([grey, grey])
        given = estimator.predict(grey, boxes=boxed(grey)[0])
    for poses in found:
        np.testing.assert_allclose(sorted(poses.box_scores), scores)
    assert len(given) == 2  # boxes of the user's own are not judged


def test_folders_of_images_as_single_ones(tmp_path: Path) -> None:
    grey = np.full((120, 160, 3), 127, np.uint8)
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), grey)
    with Estimator(detector=boxed, flip=False) as estimator:
        counts = [len(poses) for _, poses in estimator.track(tmp_path)]
    assert counts == [1, 1]


def test_the_command_has_the_librarys_limits() -> None:
    options, arguments = signature(infer).parameters, signature(Estimator).parameters
    assert options["evidence"].default == arguments["least_evidence"].default
    assert options["threshold"].default is None  # then the estimator's own
