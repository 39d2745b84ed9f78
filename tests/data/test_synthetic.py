import json
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopose.data.coco import load_coco
from autopose.data.composition import Actor, compose
from autopose.data.figure import Build, pose_figure
from autopose.data.posture import Posture, random_posture, walking
from autopose.data.rendering import Outfit, render_figure
from autopose.data.synthetic import random_picture, synthetic_clip, write_synthetic
from autopose.errors import DataError
from autopose.skeleton import COCO17

BLANK = np.full((240, 200, 3), 255, np.uint8)
FACE = ("nose", "left_eye", "right_eye")


def actor(posture: Posture, x: float = 100, tall: float = 200) -> Actor:
    outfit = Outfit.random(np.random.default_rng(0))
    return Actor(pose_figure(posture, Build(), hair="short"), outfit, (x, 120), tall)


@given(st.integers(0, 10_000))
def test_bones_keep_their_length_in_every_posture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    build = Build.random(rng)
    joints = pose_figure(random_posture(rng), build, camera_pitch=float(rng.uniform(-10, 20))).joints
    for side in ("left", "right"):
        for one, other, length in (
            ("shoulder", "elbow", build.upper_arm),
            ("elbow", "wrist", build.forearm),
            ("hip", "knee", build.thigh),
            ("knee", "ankle", build.shin),
        ):
            distance = np.linalg.norm(joints[f"{side}_{one}"] - joints[f"{side}_{other}"])
            assert distance == pytest.approx(length)
    assert set(joints) == set(COCO17.joints)


@pytest.mark.parametrize(("yaw", "sign"), [(0, 1), (180, -1)])
def test_left_is_the_pictures_right_from_the_front_and_its_left_from_behind(yaw: float, sign: int) -> None:
    joints = pose_figure(Posture(yaw=yaw), Build()).joints
    for name in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert sign * (joints[f"left_{name}"][0] - joints[f"right_{name}"][0]) > 0
    assert (joints["nose"][2] < joints["left_ear"][2]) == (yaw == 0)  # the nose points to the viewer, or away


def test_joints_bend_the_human_way() -> None:
    joints = pose_figure(Posture(yaw=90, knee=(90, 90), elbow=(90, 90)), Build()).joints  # faces the picture's right
    assert joints["left_ankle"][0] < joints["left_knee"][0] - 0.2  # heels go back
    assert joints["left_wrist"][0] > joints["left_elbow"][0] + 0.1  # hands come forward
    raised = pose_figure(Posture(yaw=90, hip_flex=(80, 0)), Build()).joints
    assert raised["left_knee"][0] > raised["right_knee"][0] + 0.15
    spread = pose_figure(Posture(shoulder_spread=(90, 90)), Build()).joints
    assert spread["left_wrist"][0] > spread["left_shoulder"][0] + 0.25
    assert spread["right_wrist"][0] < spread["right_shoulder"][0] - 0.25


def test_walking_is_a_cycle_and_swings_arms_against_legs() -> None:
    for first, again in zip(astuple(walking(0.0)), astuple(walking(1.0)), strict=True):
        np.testing.assert_allclose(first, again, atol=1e-9)
    step = walking(0.25)
    assert step.hip_flex[0] > step.hip_flex[1]
    assert step.shoulder_flex[0] < step.shoulder_flex[1]
    assert min(*walking(0.6).knee, *walking(0.1).knee) >= 0  # knees do not bend forward


def test_the_figure_is_painted_where_its_joints_are() -> None:
    for seed in range(6):
        posture = random_posture(np.random.default_rng(seed))
        one = actor(posture)
        picture, truth = compose(BLANK, [one])
        layer = render_figure(one.figure, one.outfit, one.pelvis_xy, one.height_px)
        for k, name in enumerate(COCO17.joints):
            x, y = np.rint(truth.xy[0, k]).astype(int)
            assert layer.alpha[y - layer.corner[1], x - layer.corner[0]] > 0.4, name
        x0, y0, x1, y1 = truth.boxes[0].astype(int)
        outside = picture.astype(int).copy()
        outside[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1] = 255
        assert outside.min() > 100  # nothing but the shadow lies outside of the box
        (left, top), (height, width) = layer.corner, layer.alpha.shape
        if left >= 0 and top >= 0 and left + width <= 200 and top + height <= 240:
            assert truth.area[0] == (layer.alpha >= 0.5).sum()


def test_visibility_by_hand() -> None:
    face = [COCO17.index(name) for name in FACE]
    _, front = compose(BLANK, [actor(Posture())])
    _, back = compose(BLANK, [actor(Posture(yaw=180))])
    assert (front.visibility == 2).all()
    assert (back.visibility[0, face] == 1).all()  # behind the head
    _, both = compose(BLANK, [actor(Posture(), tall=180), actor(Posture(), tall=200)])
    assert (both.visibility[0, 5:13] == 1).all()  # somebody stands in front
    assert (both.visibility[1] == 2).all()
    _, cut = compose(BLANK, [actor(Posture(), x=-15)])
    right = COCO17.index("right_wrist")
    assert cut.visibility[0, right] == 0  # outside of the picture
    assert cut.boxes[0, 0] == 0


def test_same_seed_same_pixels() -> None:
    one, truth = random_picture((96, 96), (1, 3), np.random.default_rng([1, 2]))
    two, again = random_picture((96, 96), (1, 3), np.random.default_rng([1, 2]))
    other, _ = random_picture((96, 96), (1, 3), np.random.default_rng([1, 3]))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(truth.xy, again.xy)
    assert (one != other).any()


def test_pictures_have_as_many_figures_as_asked_for_the_nearest_last() -> None:
    drawn = [random_picture((64, 64), (2, 3), np.random.default_rng(seed))[1] for seed in range(20)]
    assert {len(truth.xy) for truth in drawn} == {2, 3}
    shin = [COCO17.index("left_knee"), COCO17.index("left_ankle")]
    lengths = [np.linalg.norm(np.diff(truth.xy[[0, -1]][:, shin], axis=1), axis=-1).ravel() for truth in drawn]
    far, near = np.mean(lengths, axis=0)
    assert near > 1.2 * far


def test_who_is_hardly_seen_is_not_annotated(tmp_path: Path) -> None:
    content = json.loads(write_synthetic(tmp_path, images=8, size_wh=(48, 48), persons=(6, 6)).read_text())
    assert 8 < len(content["annotations"]) < 48
    assert min(record["area"] for record in content["annotations"]) >= 40


def test_roundtrip_through_files(tmp_path: Path) -> None:
    path = write_synthetic(tmp_path / "set", images=4, seed=5, size_wh=(120, 100), persons=(1, 2))
    again = write_synthetic(tmp_path / "again", images=4, seed=5, size_wh=(120, 100), persons=(1, 2))
    assert path.read_bytes() == again.read_bytes()
    names = sorted(p.name for p in (path.parent / "images").iterdir())
    assert names == [f"{i:06d}.jpg" for i in range(1, 5)]
    for name in names:
        assert (path.parent / "images" / name).read_bytes() == (again.parent / "images" / name).read_bytes()
    persons = load_coco(path)
    assert 4 <= len(persons) <= 8
    _, truth = random_picture((120, 100), (1, 2), np.random.default_rng([5, persons[0].image_id]))
    labelled = persons[0].weight > 0
    np.testing.assert_allclose(persons[0].keypoints[labelled], truth.xy[0][labelled], atol=0.006)
    image = cv2.imread(str(persons[0].image_path))
    assert image is not None
    assert image.shape == (100, 120, 3)
    content = json.loads(path.read_text())
    assert all(image["complete"] is True for image in content["images"])
    for record in content["annotations"]:
        assert record["num_keypoints"] == sum(1 for v in record["keypoints"][2::3] if v > 0)
        x, y, w, h = record["bbox"]
        assert 0 <= x < x + w <= 120
        assert 0 <= y < y + h <= 100
        assert record["area"] <= w * h


def test_clip_keeps_identities_and_moves_smoothly() -> None:
    frames = list(synthetic_clip(12, size_wh=(160, 120), persons=2, seed=3))
    assert len(frames) == 12
    for image, poses in frames:
        assert image.shape == (120, 160, 3)
        assert poses.ids is not None
        assert set(poses.ids) <= {1, 2}
        assert poses.image_size_wh == (160, 120)
    for (_, one), (_, two) in pairwise(frames):
        assert one.ids is not None
        assert two.ids is not None
        for person in set(one.ids) & set(two.ids):
            before, after = one.keypoints[one.ids == person][0], two.keypoints[two.ids == person][0]
            assert np.linalg.norm(after - before, axis=1).max() < 12
    again = list(synthetic_clip(2, size_wh=(160, 120), persons=2, seed=3))
    np.testing.assert_array_equal(frames[1][0], again[1][0])
    assert (frames[0][0] != frames[6][0]).any()


@pytest.mark.parametrize("wrong", [{"images": 0}, {"size_wh": (20, 20)}, {"persons": (3, 1)}])
def test_refuses_impossible_sets(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match="Cannot draw"):
        write_synthetic(tmp_path, **{"images": 1, **wrong})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
