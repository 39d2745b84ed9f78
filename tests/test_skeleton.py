"""Skeletons against pycocotools and against facts of anatomy."""

import numpy as np
import pytest

from autopose.errors import DataError
from autopose.skeleton import COCO17, MPII16, SKELETONS, Skeleton, skeleton_by_name


def test_against_pycocotools_sigmas() -> None:
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    np.testing.assert_allclose(COCO17.sigmas, cocoeval.Params(iouType="keypoints").kpt_oks_sigmas)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_every_skeleton_is_consistent(skeleton: Skeleton) -> None:
    assert len(skeleton.sigmas) == len(skeleton) == len(set(skeleton.joints))
    order = skeleton.flip_order
    assert (order[order] == np.arange(len(skeleton))).all()  # mirroring twice changes nothing
    for i, j in enumerate(order):
        assert (skeleton.joints[i] == skeleton.joints[j]) == (
            "left" not in skeleton.joints[i] and "right" not in skeleton.joints[i]
        )
    assert skeleton.limb_indices.max() < len(skeleton)
    for groups in skeleton.parts.values():
        assert {joint for group in groups.values() for joint in group} == set(skeleton.joints)


def test_golden_part_groups() -> None:
    assert set(COCO17.parts) == set(MPII16.parts) == {1, 3, 5, 8}
    assert COCO17.parts[5]["legs"] == ("left_knee", "right_knee", "left_ankle", "right_ankle")
    counts = {p: sum(map(len, COCO17.parts[p].values())) for p in (1, 3, 5, 8)}
    assert counts == {1: 17, 3: 17, 5: 17, 8: 23}  # P = 8 repeats shoulders, elbows and knees
    assert "pelvis" in MPII16.parts[5]["hips"]


def test_refuses_unknown_skeletons() -> None:
    with pytest.raises(DataError, match=r"Unknown skeleton 'coco18'. Known: coco17, mpii16"):
        skeleton_by_name("coco18")


def test_names_are_told_by_their_words() -> None:
    own = Skeleton("own", ("left_forearm", "right_ear", "lhip", "head_top", "headtop"), (), (0.1,) * 5)
    assert own.named("nose", "ear", "head").tolist() == [False, True, False, True, True]
    assert own.named("hip").tolist() == [False, False, True, False, False]


def test_a_joint_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"coco17 has no joint 'wrist_left'; it has nose, .*, right_ankle\."):
        COCO17.index("wrist_left")
