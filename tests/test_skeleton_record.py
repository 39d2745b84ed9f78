"""Skeletons of one's own: what is read from JSON, what is stored of them, and where their joints go in a mirror."""

import json

import pytest

from autopose.errors import DataError, ModelError
from autopose.manifest import Manifest
from autopose.results import Results, results_header
from autopose.skeleton import COCO17, MPII16, SKELETONS, Skeleton
from autopose.skeleton_record import plain_name, skeleton_from, skeleton_record, stored_skeleton

HAND = {
    "name": "hand",
    "joints": ["Wrist", "ThumbTip", "LTip", "RTip", "east", "west"],
    "limbs": [["wrist", "thumb tip"], [1, 3]],
    "sigmas": [0.03, 0.03, 0.04, 0.04, 0.05, 1],
    "pairs": [["east", "west"]],
}


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Left Shoulder", "left_shoulder"), ("leftShoulder", "left_shoulder"), ("LShoulder", "l_shoulder"),
        ("left-eye", "left_eye"), ("LEFT_KNEE", "left_knee"), ("head (top)", "head_top"), ("ThumbTip1", "thumb_tip1"),
        ("cafe\u0301-tip", "caf\u00e9_tip"), ("\u5de6 \u624b", "\u5de6_\u624b"),
        ("\u0939\u093e\u0925", "\u0939\u093e\u0925"),
    ],
)  # fmt: skip
def test_names_are_written_alike(written: str, plain: str) -> None:
    assert plain_name(written) == plain


def test_a_record_says_all_of_a_skeleton() -> None:
    hand = skeleton_from(HAND, "here", "file")
    assert (hand.name, hand.joints) == ("hand", ("wrist", "thumb_tip", "l_tip", "r_tip", "east", "west"))
    assert hand.limbs == (("wrist", "thumb_tip"), ("wrist", "l_tip"))
    assert hand.sigmas == (0.03, 0.03, 0.04, 0.04, 0.05, 1.0)
    assert hand.flip_order.tolist() == [0, 1, 3, 2, 5, 4]
    assert stored_skeleton(json.loads(json.dumps(skeleton_record(hand))), "there") == hand


def test_as_coco_writes_its_categories() -> None:
    category = {"id": 1, "keypoints": ["nose", "tail", "left_ear", "right_ear"], "skeleton": [[1, 2], [3, 4]]}
    found = skeleton_from(category, "here", "cat")
    assert (found.name, skeleton_from(category, "here").name) == ("cat", "own")
    assert found.limbs == (("nose", "tail"), ("left_ear", "right_ear"))
    assert found.sigmas == (0.026, 0.079, 0.035, 0.035)  # COCO's own, and for a tail that of its shoulders
    assert skeleton_from(category | {"skeleton": [[0, 1], [2, 3]]}, "here").limbs == found.limbs  # others count from 0
    mirrored = skeleton_from({"joints": ["nose", "east", "west"], "limbs": [[0, 1]], "pairs": [[1, 2]]}, "here")
    assert mirrored.flip_order.tolist() == [0, 2, 1]
    assert skeleton_from({"joints": ["LEar", "r_ear", "tail"]}, "here").sigmas == (0.035, 0.035, 0.079)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_known_joints_are_the_known_skeleton_and_stored_by_name(skeleton: Skeleton) -> None:
    assert skeleton_from({"name": "mine", "joints": [name.upper() for name in skeleton.joints]}, "here") is skeleton
    assert skeleton_record(skeleton) == skeleton.name
    assert stored_skeleton(skeleton.name, "here") is skeleton
    same = {"name": skeleton.name, "joints": list(skeleton.joints)}
    other = skeleton_from(same | {"sigmas": [0.5] * len(skeleton)}, "here")
    assert other.sigmas == (0.5,) * len(skeleton)  # the same joints by another measure
    assert stored_skeleton(skeleton_record(other), "here") == other
    assert skeleton_from(same | {"sigmas": list(skeleton.sigmas)}, "here") is skeleton
    assert skeleton_from(same | {"pairs": [["left_hip", "right_hip"]]}, "here").pairs == (("left_hip", "right_hip"),)


@pytest.mark.parametrize(
    ("joints", "order"),
    [
        (["left_ear", "right_ear", "nose"], [1, 0, 2]),
        (["ear_right", "nose", "ear_left"], [2, 1, 0]),
        (["leftear", "rightear"], [1, 0]),
        (["l_ear", "bright_spot", "r_ear"], [2, 1, 0]),
        (["lear", "rear", "lip"], [1, 0, 2]),
        (["ear_r", "ear_l", "l"], [1, 0, 2]),
    ],
)
def test_counterparts_are_found_by_their_names(joints: list[str], order: list[int]) -> None:
    assert skeleton_from({"joints": joints}, "here").flip_order.tolist() == order


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "expected an object with 'joints'"),
        ({"limbs": []}, "has no 'joints'"),
        ({"joints": ["a", 2]}, "expected a list of names"),
        ({"joints": ["a"] * 1001}, "has 1001 joints; at most 1000"),
        ({"joints": ["a", "A"]}, "'a' is there twice"),
        ({"joints": ["a", "?"]}, "'' is there twice, or no name"),
        ({"joints": ["a", "b"], "limbs": [["a", "c"]]}, r"'limbs' has \['a', 'c'\]; expected two different joints"),
        ({"joints": ["a", "b"], "limbs": "a-b"}, "'limbs' has a-b"),
        ({"joints": ["a", "b"], "skeleton": [[1, 3]]}, r"'skeleton' has \[1, 3\]; .* \(1 to 2\)"),
        ({"joints": ["a", "b"], "skeleton": [[0, 2]]}, r"'skeleton' has \[0, 2\]; .* \(0 to 1\)"),
        ({"joints": ["a", "b"], "skeleton": [[1, 1]]}, "two different joints"),
        ({"joints": ["a", "b"], "sigmas": [1]}, r"'sigmas' is \[1\]; expected 2 numbers above 0"),
        ({"joints": ["a", "b"], "sigmas": [1, 0]}, "numbers above 0"),
        ({"joints": ["a", "b"], "sigmas": [1, 10**400]}, "numbers above 0"),
        ({"joints": ["a", "b"], "sigmas": [1, float("inf")]}, "numbers above 0"),
        ({"joints": ["a", "b", "c"], "pairs": [["a", "b"], ["b", "c"]]}, "in several"),
        ({"joints": ["left_ear", "nose"]}, "'left_ear' has no counterpart of the other side"),
        ({"joints": ["left_ear", "right_ear", "nose"], "pairs": [["left_ear", "nose"]]}, "has no counterpart"),
    ],
)
def test_says_what_is_wrong_with_a_record(record: object, message: str) -> None:
    with pytest.raises(DataError, match=f"^here: .*{message}"):
        skeleton_from(record, "here")


def test_models_and_results_carry_their_joints_with_them() -> None:
    hand = skeleton_from(HAND, "here")
    manifest = Manifest.from_json(Manifest(skeleton=skeleton_record(hand)).to_json(), "model.onnx")
    assert manifest.keypoint_skeleton == hand
    assert Manifest(skeleton="mpii16").keypoint_skeleton is MPII16
    with pytest.raises(ModelError, match=r"model.onnx: .*'skeleton'.*'sigmas' is \[1\]"):
        Manifest.from_json(json.dumps({"skeleton": {"joints": ["a", "b"], "sigmas": [1]}}), "model.onnx")
    results = Results(json.loads(json.dumps(results_header(hand))))
    assert results.skeleton == hand
    assert results.skeleton is results.skeleton  # each frame asks for it
    assert Results(results_header(COCO17)).skeleton is COCO17
    assert Results({"skeleton": {"name": "mpii16"}}).skeleton is MPII16
