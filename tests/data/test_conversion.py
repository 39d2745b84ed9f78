import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from autopose.data.coco import load_coco
from autopose.data.coco_file import read_coco
from autopose.data.conversion import SYNONYMS, convert_coco, convert_joints, convert_persons, load_native, write_coco
from autopose.data.conversion import write_coco as write_coco_as_file
from autopose.data.scenes import scenes_from_coco
from autopose.errors import DataError, MediaError
from autopose.evaluation.coco import evaluate_boxes
from autopose.poses import Person
from autopose.skeleton import COCO17, CROWDPOSE14, LSP14, MPII16, POSETRACK17, SKELETONS, Skeleton

RNG = np.random.default_rng(0)


def random_joints(skeleton: Skeleton) -> tuple[Any, Any]:
    return RNG.uniform(0, 100, (len(skeleton), 2)), RNG.uniform(0.1, 1, len(skeleton)).astype(np.float32)


@pytest.mark.parametrize("target", SKELETONS.values(), ids=lambda s: s.name)
@pytest.mark.parametrize("source", SKELETONS.values(), ids=lambda s: s.name)
def test_every_pair_of_skeletons_keeps_the_joints_they_share(source: Skeleton, target: Skeleton) -> None:
    xy, weight = random_joints(source)
    got, got_weight = convert_joints(xy, weight, source, target)
    for name in set(source.joints) & set(target.joints):
        np.testing.assert_array_equal(got[target.index(name)], xy[source.index(name)])
        assert got_weight[target.index(name)] == weight[source.index(name)]
    if source is target:
        np.testing.assert_array_equal(got, xy)
    synonyms = {name for group in SYNONYMS if group & set(source.joints) for name in group}
    for k, name in enumerate(target.joints):
        assert (got_weight[k] > 0) == (name in source.joints or name in synonyms)


def test_synonyms_and_middles_by_hand() -> None:
    xy, weight = random_joints(LSP14)
    got, got_weight = convert_joints(xy, weight, LSP14, CROWDPOSE14)
    np.testing.assert_array_equal(got[CROWDPOSE14.index("head")], xy[LSP14.index("head_top")])
    assert (got_weight > 0).all()
    xy, weight = random_joints(COCO17)
    _, plain = convert_joints(xy, weight, COCO17, MPII16)
    assert plain[MPII16.index("pelvis")] == 0
    got, guessed = convert_joints(xy, weight, COCO17, MPII16, middles=True)
    left, right = COCO17.index("left_hip"), COCO17.index("right_hip")
    np.testing.assert_allclose(got[MPII16.index("pelvis")], (xy[left] + xy[right]) / 2)
    assert guessed[MPII16.index("pelvis")] == min(weight[left], weight[right])
    assert guessed[MPII16.index("head_top")] == 0
    assert POSETRACK17.joints[1] == "head_bottom"


def test_guessed_middles_are_written_and_pseudo_where_both_sides_are(write_coco_of: Any, tmp_path: Path) -> None:
    joints = record(COCO17)["keypoints"]
    hips, shoulders = ([COCO17.index(f"{side}_{name}") for side in ("left", "right")] for name in ("hip", "shoulder"))
    lame = [*joints]
    lame[3 * hips[0] + 2] = 0
    path = write_coco_of(COCO17, {"keypoints": lame}, {"keypoints": joints, "pseudo": hips})
    convert_coco(read_coco(path), MPII16, tmp_path / "out.json", middles=True)
    *_, one_hip, pseudo = json.loads((tmp_path / "out.json").read_text())["annotations"]
    pelvis, thorax = MPII16.index("pelvis"), MPII16.index("thorax")
    assert one_hip["keypoints"][3 * pelvis : 3 * pelvis + 3] == [0, 0, 0]
    guessed = np.reshape(joints, (-1, 3))[shoulders].mean(0)
    np.testing.assert_allclose(one_hip["keypoints"][3 * thorax : 3 * thorax + 3], guessed, atol=0.0051)
    assert {MPII16.joints[k] for k in pseudo["pseudo"]} == {"pelvis", "left_hip", "right_hip"}


def test_converting_tells_how_far_it_is(write_coco: Any, tmp_path: Path) -> None:
    told: list[None] = []
    path = write_coco({"keypoints": [1, 2, 2] * 17}, {"keypoints": [1, 2, 2] * 17})
    convert_coco(read_coco(path), CROWDPOSE14, tmp_path / "out.json", on_record=lambda: told.append(None))
    assert len(told) == 2


def test_who_keeps_no_joint_is_left_out(write_coco: Any) -> None:
    nose = [1.0, 1.0, 2.0, *[0.0] * 48]
    persons = load_coco(write_coco({"keypoints": nose}, {"keypoints": nose[:3] * 17}))
    assert [person.annotation_id for person in convert_persons(persons, CROWDPOSE14)] == [8]


def test_arrays_of_persons_convert_at_once() -> None:
    xy, weight = RNG.uniform(0, 9, (2, 5, 17, 2)), np.ones((2, 5, 17), np.float32)
    got, got_weight = convert_joints(xy, weight, COCO17, CROWDPOSE14)
    assert got.shape == (2, 5, 14, 2)
    np.testing.assert_array_equal(got[1, 3, 0], xy[1, 3, 5])
    assert got_weight.shape == (2, 5, 14)


def record(skeleton: Skeleton) -> dict[str, Any]:
    xy = RNG.uniform(10, 70, (len(skeleton), 2)).round(2)
    return {"keypoints": np.column_stack([xy, np.full(len(skeleton), 2)]).ravel().tolist()}


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_roundtrip_every_skeleton_through_cocos_format(write_coco_of: Any, skeleton: Skeleton, tmp_path: Path) -> None:
    path = write_coco_of(skeleton)
    persons = load_native(path)
    assert {person.skeleton.name for person in persons} == {skeleton.name}
    out = write_coco(persons, tmp_path / "deep" / "er" / "out.json")
    again = load_native(out)
    for one, other in zip(persons, again, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_allclose(one.box_xyxy, other.box_xyxy, atol=0.01)
        assert one.image_path.resolve() == other.image_path.resolve()


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_are_measured_undecoded_but_a_cut_one_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (21, 37, 3), np.uint8))
    joints = np.array([[5.0 + k, 6.0] for k in range(len(LSP14))])
    box = np.array([1.0, 2.0, 30.0, 20.0])
    person = Person(path, box, joints, np.ones(len(LSP14), np.float32), 500.0, skeleton=LSP14)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(100))  # a telephone's JPEG may be followed by a video
    write_coco([person], tmp_path / "out.json")
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="cut off: its end is missing"):
        write_coco([person], tmp_path / "out.json")
    path.write_bytes(whole)
    monkeypatch.setattr("autopose.data.images.read_image", lambda *_, **__: pytest.fail("has been decoded"))
    image = json.loads(write_coco([person], tmp_path / "out.json").read_text())["images"][0]
    assert (image["width"], image["height"]) == (37, 21)


@pytest.fixture
def write_coco_of(write_coco: Any) -> Any:
    def write(skeleton: Skeleton, *extra: dict[str, Any]) -> Path:
        path: Path = write_coco(record(skeleton), {**record(skeleton), "image_id": 2, "pseudo": [1]}, *extra)
        content = json.loads(path.read_text())
        content["categories"][0]["keypoints"] = list(skeleton.joints)
        path.write_text(json.dumps(content))
        return path

    return write


def test_refuses_a_named_skeleton_that_was_not_asked_for(write_coco_of: Any) -> None:
    """PoseTrack18 has 17 joints, as COCO has, but others: a count alone would not notice."""
    path = write_coco_of(POSETRACK17)
    with pytest.raises(DataError, match=r"has the joints of posetrack17; coco17 was asked for.\n.*data convert"):
        load_coco(path)
    assert len(load_coco(path, skeleton=POSETRACK17)) == 2


def test_refuses_unknown_joints_and_mixtures(write_coco_of: Any, tmp_path: Path) -> None:
    content = json.loads(write_coco_of(COCO17).read_text())
    content["categories"][0]["keypoints"] = ["head", "tail"]
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"names 2 joints; .* have 51 numbers, expected 6"):
        load_native(tmp_path / "other.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no JSON"):
        load_native(tmp_path / "empty")
    persons = load_native(write_coco_of(COCO17))
    with pytest.raises(DataError, match="one skeleton"):
        write_coco([*persons, *convert_persons(persons, LSP14)], tmp_path / "mixed.json")
    assert convert_persons([], LSP14) == []


@pytest.mark.parametrize(
    ("file", "skeleton", "persons"),
    [
        ("crowdpose/test_crowdpose.json", "crowdpose14", 4),
        ("ochuman/test_ochuman.json", "coco17", 5),
        ("posetrack18/annotations/val", "posetrack17", 14),
        ("posetrack18/annotations/test_posetrack18_val.json", "posetrack17", 14),
        ("coco/test_coco.json", "coco17", 12),
        ("mpii/test_mpii.json", "mpii16", 5),
        ("jhmdb/test_jhmdb_sub1.json", "test_jhmdb_sub1", 3),
    ],
)
def test_against_real_samples(data_root: Path, file: str, skeleton: str, persons: int) -> None:
    found = load_native(data_root / "samples" / file)
    assert {person.skeleton.name for person in found} == {skeleton}
    assert len(found) == persons
    assert all(person.image_path.is_file() for person in found)
    for person in convert_persons(found, COCO17):
        x0, y0, x1, y1 = person.box_xyxy
        margin = 0.25 * max(x1 - x0, y1 - y0)
        inside = person.keypoints[person.weight > 0]
        assert (inside >= (x0 - margin, y0 - margin)).all()
        assert (inside <= (x1 + margin, y1 + margin)).all()


def test_whoever_is_not_listed_is_no_background(write_coco_of: Any, tmp_path: Path) -> None:
    """Of LSP, MPII and OCHuman only persons with labelled joints are known: a detector learns nothing beside them."""
    person = load_native(write_coco_of(LSP14))[0]
    out = write_coco([replace(person, box_xyxy=np.array([10.0, 20.0, 40.0, 60.0]))], tmp_path / "out.json")
    (scene,) = scenes_from_coco(read_coco(out))
    learnt = np.ones((80, 100), bool)
    for x0, y0, x1, y1 in scene.ignore.astype(int):
        learnt[y0:y1, x0:x1] = False
    assert learnt.sum() == learnt[20:60, 10:40].sum() == 30 * 40
    pytest.importorskip("pycocotools")
    with pytest.raises(DataError, match="--complete-only"):
        evaluate_boxes([], out, complete_only=True)


@pytest.mark.parametrize("skeleton", [LSP14, CROWDPOSE14], ids=lambda s: s.name)
def test_refuses_to_guess_between_skeletons_of_as_many_joints(write_coco: Any, skeleton: Skeleton) -> None:
    path = write_coco(record(skeleton))
    with pytest.raises(DataError, match=r"lsp14 and crowdpose14 have as many.*\nList their names.*'categories'"):
        load_native(path)
    assert len(load_coco(path, skeleton=skeleton)) == 1  # who asks for one says which
    assert {person.skeleton.name for person in load_native(write_coco(record(COCO17)))} == {COCO17.name}
    assert {person.skeleton.name for person in load_native(write_coco(record(MPII16)))} == {MPII16.name}


def test_files_that_name_more_joints_than_they_hold(write_coco_of: Any, tmp_path: Path) -> None:
    """Human-Art names 21 joints; its 'keypoints' are COCO's 17, the first of them."""
    path = write_coco_of(COCO17)
    content = json.loads(path.read_text())
    content["categories"][0]["keypoints"] += ["left_finger", "right_finger", "left_toe", "right_toe"]
    path.write_text(json.dumps(content))
    assert {person.skeleton.name for person in load_native(path)} == {COCO17.name}
    assert convert_coco(read_coco(path), CROWDPOSE14, tmp_path / "out.json") == 2
    content["annotations"][0]["keypoints"] = [1, 2, 2]  # is a fault of this record, not another skeleton
    content["categories"][0]["keypoints"] = list(COCO17.joints)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"annotations\[0\]: 'keypoints' has 3 numbers"):
        load_native(path)


def test_a_teachers_confidence_and_pseudo_labels_survive(write_coco: Any, tmp_path: Path) -> None:
    third = [2, 0.8, 0.31, 0.2, 0, *[1] * 12]
    joints = np.column_stack([RNG.uniform(10, 70, (17, 2)).round(2), third]).ravel().tolist()
    path = write_coco({"keypoints": joints, "pseudo": [16]})
    again = write_coco_as_file(load_native(path), tmp_path / "again.json")
    for pseudo_weight in (0.3, 0.5):
        (before,), (after,) = (load_coco(each, pseudo_weight=pseudo_weight) for each in (path, again))
        np.testing.assert_allclose(after.weight, before.weight)
    np.testing.assert_allclose(before.weight, [1, 0.8, 0.31, 0, 0, *[1] * 11, 0.5])


def test_what_macos_leaves_beside_files_is_passed_over(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco({"keypoints": [1, 2, 2] * 17})
    folder = tmp_path / "split"
    folder.mkdir()
    (folder / "a.json").write_bytes(path.read_bytes())
    (folder / "._a.json").write_bytes(b"\0\5\x16\7")
    assert len(load_native(folder, images=path.parent)) == len(load_native(path)) == 1


def test_licences_and_what_the_file_says_of_itself_are_kept(write_coco: Any, tmp_path: Path) -> None:
    path = write_coco({"keypoints": [20, 30, 2] * 17})
    content = json.loads(path.read_text())
    said = {"info": {"year": 2017}, "licenses": [{"id": 3, "name": "CC BY", "url": "http://example.org"}]}
    content["images"][0]["license"] = 3
    content["categories"] = [{"id": 1, "name": "person", "supercategory": "person", "keypoints": list(COCO17.joints)}]
    path.write_text(json.dumps({**content, **said}))
    convert_coco(read_coco(path), COCO17, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert {key: written[key] for key in said} == said
    assert written["images"][0]["license"] == 3
    assert written["categories"][0]["supercategory"] == "person"
