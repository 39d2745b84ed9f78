"""Labels of YOLO-pose, labelme and DeepLabCut, written by hand beside the same persons in COCO's format."""

import json
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from autopose.cli import app
from autopose.data.annotations import is_coco, label_tool, load_persons
from autopose.data.coco_file import read_coco
from autopose.data.conversion import convert_coco, load_native, read_records
from autopose.data.picture_header import picture_header
from autopose.data.preflight import check_folder
from autopose.data.skeletons import skeleton_of
from autopose.errors import DataError, MediaError, MissingDependencyError
from autopose.skeleton import COCO17

W, H = 200, 100
FIVE = ["nose", "left_ear", "right_ear", "tail", "Left Paw"]
#: COCO's truth of two persons with five joints: corners of the box, and x, y, v of the joints.
BOX = [20.0, 10.0, 120.0, 90.0]
JOINTS = [[40.0, 20.0, 2.0], [50.5, 30.25, 1.0], [0.0, 0.0, 0.0], [100.0, 80.0, 2.0], [199.0, 99.0, 2.0]]
OTHER_BOX = [100.0, 0.0, 200.0, 100.0]
OTHER = [[0.0, 0.0, 0.0], [110.0, 5.0, 2.0], [120.0, 6.0, 2.0], [0.0, 0.0, 0.0], [150.0, 50.0, 1.0]]


def picture(path: Path, size_wh: tuple[int, int] = (W, H)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = cv2.imencode(path.suffix.lower(), np.zeros((size_wh[1], size_wh[0], 3), np.uint8))[1]
    path.write_bytes(content.tobytes())
    return path


def persons(file: Any) -> list[tuple[str, list[float], list[list[float]]]]:
    return [
        (
            file.image_path(record["image_id"]).name,
            np.round(record["bbox"], 2).tolist(),
            np.reshape(record["keypoints"], (-1, 3)).round(2).tolist(),
        )
        for record in file.annotations
    ]


def xywh(corners: list[float]) -> list[float]:
    x0, y0, x1, y1 = corners
    return [x0, y0, x1 - x0, y1 - y0]


def visible(joints: list[list[float]]) -> list[list[float]]:
    return [[x, y, 2.0 if v else 0.0] for x, y, v in joints]


def written(source: Path, out: Path, **options: Any) -> Any:
    """Convert as the command does, and read what was written as any COCO file is read."""
    file = read_records(source, **options)
    assert file is not None
    convert_coco(file, skeleton_of(file), out)
    return read_coco(out)


# ---------------------------------------------------------------- YOLO


def line(corners: list[float], joints: list[list[float]], dims: int = 3, kind: int = 0) -> str:
    x0, y0, x1, y1 = corners
    values = [(x0 + x1) / 2 / W, (y0 + y1) / 2 / H, (x1 - x0) / W, (y1 - y0) / H]
    for x, y, v in joints:
        values += [x / W, y / H, v][:dims]
    return " ".join([str(kind), *(f"{value:.6f}" for value in values)])


def yolo(root: Path, text: str = "", dims: int = 3, **splits: list[str]) -> Path:
    """Write a set with a picture for each list of lines: ``images/SPLIT/a b.JPG``, ..."""
    for split, files in (splits or {"train": [line(BOX, JOINTS, dims)]}).items():
        for number, content in enumerate(files):
            picture(root / "images" / split / f"{split} {number}.JPG")
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            if content != "absent":
                (root / "labels" / split / f"{split} {number}.txt").write_text(content)
    lines = [f"{split}: images/{split}" for split in splits or ("train",)]
    text = text or f"kpt_shape: [5, {dims}]\nnames: {{0: person}}\nkpt_names: {{0: {json.dumps(FIVE)}}}"
    (root / "data.yaml").write_text("\n".join(["path: nowhere/set", *lines, text]), encoding="utf-8-sig")
    return root / "data.yaml"


def test_yolo_reads_what_coco_says(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    both = "\ufeff" + line(BOX, JOINTS) + "\r\n\r\n" + line(OTHER_BOX, OTHER) + "\r\n"
    path = yolo(tmp_path / "a set", train=[both, "", "absent"], val=[line(OTHER_BOX, OTHER)])
    path.write_text(path.read_text("utf-8-sig") + "\nflip_idx: [0, 2, 1, 3, 4]\n", encoding="utf-8-sig")
    text = path.read_text("utf-8-sig").replace('"Left Paw"', '"Paw"')  # alone on its side it has no mirror image
    path.write_text(text.replace("images/val", "images\\val"), encoding="utf-8-sig")
    file = written(path, tmp_path / "out" / "mine.json")
    assert persons(file) == [
        ("train 0.JPG", xywh(BOX), JOINTS),
        ("train 0.JPG", xywh(OTHER_BOX), OTHER),
        ("val 0.JPG", xywh(OTHER_BOX), OTHER),
    ]
    assert file.category["keypoints"] == ["nose", "left_ear", "right_ear", "tail", "paw"]
    images = list(file.images.values())
    assert [(image["width"], image["height"], image["split"]) for image in images] == [(W, H, "train")] * 3 + [
        (W, H, "val")
    ]
    assert all("complete" not in image for image in images)  # pictures of nobody are negatives
    assert all(file.image_path(number).is_file() for number in file.images)
    one = read_records(tmp_path / "a set" / "labels" / "val")
    assert one is not None
    assert persons(one) == persons(file)[2:]
    (report,), _ = check_folder(tmp_path / "a set")
    assert (report.kind, report.images, report.persons, dict(report.faults)) == ("YOLO-pose", 4, 3, {})
    assert "left_ear/right_ear" in report.joints


def test_yolo_two_values_and_classes(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    names = 'names: ["dog", "Person"]\nkpt_shape: [5, 2]\nkpt_names: {1: [a, b, c, d, e]}\nflip_idx: [0, 2, 1, 3, 4]'
    lines = line(BOX, JOINTS, 2, kind=1) + "\n" + line(OTHER_BOX, OTHER, 2, kind=0)
    file = written(yolo(tmp_path, names, 2, train=[lines]), tmp_path / "out.json")
    assert persons(file) == [("train 0.JPG", xywh(BOX), visible(JOINTS))]
    assert file.category["pairs"] == [["b", "c"]]  # flip_idx says what the names do not


def test_yolo_labels_alone_are_cocos(tmp_path: Path) -> None:
    """Without a YAML file, which needs PyYAML, lines of 17 joints are COCO's."""
    joints = [[10.0 + k, 20.0 + k, 2.0] for k in range(17)]
    yolo(tmp_path, train=[line(BOX, joints), ""]).unlink()
    labels = tmp_path / "labels" / "train"
    (labels / "classes.txt").write_text("person\n")
    file = written(labels, tmp_path / "out.json")
    assert persons(file) == [("train 0.JPG", xywh(BOX), joints)]
    assert skeleton_of(file) is COCO17
    assert len(file.images) == 2
    (report,), _ = check_folder(labels)
    assert (report.kind, report.skeleton, report.persons) == ("YOLO-pose", "coco17", 1)
    shutil.move(str(tmp_path / "images"), tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"no pictures of these labels in .*\n.*--images"):
        load_native(labels)
    assert len(load_native(labels, images=tmp_path / "elsewhere" / "train")) == 1
    two = line(BOX, joints, 2)
    (labels / "train 0.txt").write_text(two)
    assert load_native(labels, images=tmp_path / "elsewhere" / "train")[0].weight.sum() == 17
    (labels / "train 0.txt").write_text(line(BOX, JOINTS))
    with pytest.raises(DataError, match="lines have 20 values, and no YAML file above"):
        load_native(labels, images=tmp_path / "elsewhere" / "train")


BOXES_ONLY = "0 0.5 0.5 0.2 0.2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOXES_ONLY, r"train 0\.txt: line 1: has 5 values; expected 20: .* box without joints, as of a set for detec"),
        (BOXES_ONLY + " 0.1 0.2", r"has 7 values; expected 20: .* outline"),
        (line(BOX, JOINTS, 2), r"has 15 values; expected 20: .* fit kpt_shape: \[5, 2\]"),
        (line(BOX, JOINTS) + "\n" + line(BOX, JOINTS)[:-9], r"line 2: has 19 values"),
        (line(BOX, JOINTS).replace("0.200000", "40.0"), r"line 1: has 40; expected shares"),
        (line(BOX, [[-9.0, 5.0, 2.0], *JOINTS[1:]]), r"has -0\.045; expected shares"),
        (line([20, 10, 20, 90], JOINTS), "its box has no size"),
        (line(BOX, [[5.0, 5.0, 1.5], *JOINTS[1:]]), r"a visibility is 1\.5; expected 0, 1 or 2"),
        (line(BOX, JOINTS, kind=3), r"has the class 3; expected a whole number, one of the 'names': 0"),
        (line(BOX, JOINTS).replace("0.200000", "x"), "has 'x'; expected finite numbers"),
        (line(BOX, JOINTS).replace("0.200000", "nan"), "has 'nan'; expected finite numbers"),
        ("", "holds no person with joints"),
        ("absent", "none of its 1 pictures has labels: there is no .*train 0.txt"),
    ],
)
def test_yolo_says_what_is_wrong_with_a_line(content: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    path = yolo(tmp_path, "kpt_shape: [5, 3]\nkpt_names: [a, b, c, d, e]", train=[content])
    with pytest.raises(DataError, match=message):
        read_records(path)


def test_yolo_takes_roundings_and_joints_without_a_label_anywhere(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    joints = [[W * 1.005, 5.0, 2.0], [999.0, -5.0, 0.0], [20.0, 20.0, 0.25], *JOINTS[3:]]
    path = yolo(tmp_path, "kpt_shape: [5, 3]\nkpt_names: [a, b, c, d, e]", train=[line([-2, 10, 198, 90], joints)])
    file = written(path, tmp_path / "out.json")
    ((_, box, found),) = persons(file)
    assert box == [0, 10, 198, 80]
    assert found[:3] == [[201.0, 5.0, 2.0], [0, 0, 0], [20.0, 20.0, 0.25]]


SHAPE = "names: [person]\nkpt_shape: [5, 3]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [person]", "has no 'kpt_shape'"),
        ("kpt_shape: [5]", r"'kpt_shape' is \[5\]; expected the number of joints and 2"),
        ("kpt_shape: [5, 4]", "'kpt_shape' is"),
        ("kpt_shape: [0, 3]", "'kpt_shape' is"),
        ("kpt_shape: five", "'kpt_shape' is five"),
        (SHAPE, r"has 5 joints and does not name them.*\n.*kpt_names: \{0: \[nose"),
        (SHAPE + "kpt_names: {0: [a, b]}", "'kpt_names' has 2 names for class 0; expected 5"),
        (SHAPE + "kpt_names: {1: [a, b, c, d, e]}", "'kpt_names' has None for class 0; expected 5"),
        (SHAPE + "kpt_names: [a, b, c, d, e]\nflip_idx: [0, 1]", r"'flip_idx' is \[0, 1\]; expected each number from"),
        (SHAPE + "kpt_names: [a, b, c, d, e]\nflip_idx: [1, 2, 0, 3, 4]", "'flip_idx' is"),
        (
            SHAPE + "kpt_names: [a, left_b, right_b, d, e]\nflip_idx: [0, 3, 2, 1, 4]",
            "'flip_idx' has 3 for joint 1, 'left_b', which by its name changes places with 'right_b', joint 2",
        ),
        (
            "names: [person]\nkpt_shape: [17, 3]\nflip_idx: [1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]",
            r"'flip_idx' is not that of COCO's 17 joints \(joint 0 changes places with 1\).*\n.*kpt_names",
        ),
        ("names: [dog, cat]\nkpt_shape: [17, 3]", "none of its 2 categories .* is called 'person'"),
        ("names: dog\nkpt_shape: [17, 3]", "'names' is dog; expected a list"),
        ("kpt_shape: [17, 3\n", "not valid YAML"),
        ('extra: "C:\\data"\nkpt_shape: [17, 3]', "not valid YAML"),
    ],
)
def test_yolo_says_what_is_wrong_with_its_yaml(text: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    with pytest.raises(DataError, match=message):
        read_records(yolo(tmp_path, text))


def test_yolo_cocos_own_flips_and_those_that_nobody_filled_in(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    joints = [[10.0 + k, 20.0 + k, 2.0] for k in range(17)]
    for flip in ([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15], list(range(17))):
        file = read_records(yolo(tmp_path, f"kpt_shape: [17, 3]\nflip_idx: {flip}", train=[line(BOX, joints)]))
        assert file is not None
        assert skeleton_of(file) is COCO17


def test_yolo_missing_pictures_and_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    text = "kpt_shape: [5, 3]\nkpt_names: [a, b, c, d, e]"
    path = yolo(tmp_path, text, train=[line(BOX, JOINTS)] * 2, val=[line(BOX, JOINTS)])
    (tmp_path / "images" / "train" / "train 1.JPG").unlink()
    with pytest.raises(DataError, match=r"labels.train: 1 files of labels have no picture in .*'train 1\.txt'"):
        read_records(path)
    with pytest.raises(DataError, match="1 files of labels have no picture"):
        read_records(tmp_path / "labels" / "train")
    (tmp_path / "labels" / "train" / "train 1.txt").unlink()
    shutil.rmtree(tmp_path / "images" / "val")
    file = read_records(path)
    assert file is not None
    assert len(file.images) == 1
    assert "its 'val' is not there" in caplog.text
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(DataError, match=r"its 'train' is not there: .*\n.*--images"):
        read_records(path)


def test_yolo_lists_of_pictures_and_roboflows_layout(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    picture(tmp_path / "set" / "train" / "images" / "a.png")
    label = tmp_path / "set" / "train" / "labels" / "a.txt"
    label.parent.mkdir()
    label.write_text(line(BOX, JOINTS))
    text = "kpt_shape: [5, 3]\nkpt_names: [a, b, c, d, e]\n"
    path = tmp_path / "set" / "data.yaml"
    path.write_text("train: ../train/images\nval: list.txt\n" + text)
    (tmp_path / "set" / "list.txt").write_text("./train/images/a.png\n\n")
    file = read_records(path)
    assert file is not None
    assert [image["split"] for image in file.images.values()] == ["train"]  # once, in the first split that has it
    path.write_text("train: list.txt\nval: train\n" + text)
    file = read_records(path)
    assert file is not None
    assert [image["split"] for image in file.images.values()] == ["train"]
    (tmp_path / "set" / "list.txt").write_text("train\\images\\gone.png\n")
    with pytest.raises(DataError, match=r"list\.txt: line 1: no picture 'train/images/gone\.png'"):
        read_records(path)


def test_yolo_lists_of_cvat(tmp_path: Path) -> None:
    path = yolo(tmp_path / "set", train=[line(BOX, JOINTS)])
    name = next((tmp_path / "set" / "images" / "train").iterdir()).name
    (tmp_path / "set" / "train.txt").write_text(f"data/images/train/{name}\n")
    path.write_text(f"path: ./\ntrain: train.txt\nkpt_shape: [5, 3]\nnames: {{0: x}}\nkpt_names: {{0: {FIVE}}}\n")
    assert len(read_records(path).images) == 1  # type: ignore[union-attr]
    (tmp_path / "set" / "train.txt").write_text("data/images/train/gone.png\n")
    with pytest.raises(DataError, match=r"no picture 'data/images/train/gone\.png'.*\n.*--images DIR"):
        read_records(path)


def test_yolo_takes_the_folder_of_its_yaml_file(tmp_path: Path) -> None:
    path = yolo(tmp_path / "set", train=[line(BOX, JOINTS)])
    one, other = read_records(tmp_path / "set"), read_records(path)
    assert one is not None
    assert other is not None
    assert (one.images, one.annotations) == (other.images, other.annotations)
    path.with_name("other.yaml").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"data\.yaml' and .*other\.yaml' describe labels; keep the one"):
        read_records(tmp_path / "set")


def test_yolo_takes_the_folder_that_has_images_and_labels(tmp_path: Path) -> None:
    """Label Studio exports images/ and labels/ beside classes.txt; so is each split of Roboflow's."""
    label = " ".join(["0 0.5 0.5 0.4 0.4", *["0.5 0.5 2"] * 17])
    picture(tmp_path / "set" / "images" / "a.png")
    (tmp_path / "set" / "labels").mkdir()
    (tmp_path / "set" / "labels" / "a.txt").write_text(label)
    (tmp_path / "set" / "classes.txt").write_text("person\n")
    assert len(read_records(tmp_path / "set").annotations) == 1  # type: ignore[union-attr]
    assert check_folder(tmp_path / "set")[0][0].persons == 1


def test_yolo_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = yolo(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"pip install .*autopose\[yolo\]"):
        read_records(path)
    (report,), _ = check_folder(tmp_path)
    assert (report.kind, dict(report.faults)) == ("YOLO-pose", {"unreadable": 1})


def test_training_says_to_convert(tmp_path: Path) -> None:
    path = yolo(tmp_path)
    assert not is_coco(path)
    with pytest.raises(DataError, match=r"is of YOLO-pose; .*\n.*autopose data convert .*data\.yaml --to coco17"):
        load_persons(path, skeleton=COCO17)
    with pytest.raises(DataError, match=r"not COCO annotations, which are JSON.*data convert"):
        read_coco(path)


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_sizes_of_pictures(suffix: str, tmp_path: Path) -> None:
    path = picture(tmp_path / f"a{suffix}", (37, 21))
    assert picture_header(path).size_wh == (37, 21)
    if suffix != ".bmp":
        path.write_bytes(path.read_bytes()[:-14])  # decoded it would be refused: the end is missing
        assert picture_header(path).size_wh == (37, 21)
    path.write_bytes(b"no picture")
    with pytest.raises(MediaError, match="cannot be decoded"):
        picture_header(path)
    with pytest.raises(MediaError, match="No image"):
        picture_header(tmp_path / "gone.jpg")


def turned(path: Path, order: str, orientation: int) -> Path:
    """Put an EXIF entry into a JPEG, as cameras do."""
    pack = {"II": "<", "MM": ">"}[order]
    entries = struct.pack(pack + "HHLL", 0x0100, 4, 1, 37) + struct.pack(pack + "HHLHH", 0x0112, 3, 1, orientation, 0)
    tiff = order.encode() + struct.pack(pack + "HLH", 42, 8, 2) + entries + bytes(4)
    segment = b"Exif\0\0" + tiff
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + content[2:])
    return path


@pytest.mark.parametrize("order", ["II", "MM"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_turned_pictures_are_refused(order: str, orientation: int, tmp_path: Path) -> None:
    joints = [[10.0 + k, 20.0 + k, 2.0] for k in range(17)]
    yolo(tmp_path, train=[line(BOX, joints)]).unlink()
    path = turned(tmp_path / "images" / "train" / "train 0.JPG", order, orientation)
    upright = cv2.imread(str(path))
    assert upright is not None
    assert (upright.shape[0] == W) == (orientation == 6)  # OpenCV sees the entry, too
    assert picture_header(path).size_wh == (W, H)
    if orientation == 1:
        assert len(load_native(tmp_path / "labels" / "train")) == 1
        return
    with pytest.raises(DataError, match=r"1 of its 1 pictures are stored turned.*YOLO mean them upright"):
        load_native(tmp_path / "labels" / "train")


# ---------------------------------------------------------------- labelme


def shape(label: str, form: str, points: list[Any], group: int | None = None) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": group, "shape_type": form, "flags": {}}


def person_shapes(corners: list[float] | None, joints: list[list[float]], group: int | None) -> list[dict[str, Any]]:
    found = [shape(name, "point", [[x, y]], group) for name, (x, y, v) in zip(FIVE, joints, strict=True) if v]
    if corners is None:
        return found
    x0, y0, x1, y1 = corners
    return [*found, shape("person", "rectangle", [[x1, y0], [x0, y1]], group)]


def labelme(folder: Path, name: str, shapes: list[dict[str, Any]], **more: Any) -> Path:
    if not (folder / f"{name}.jpg").exists():
        picture(folder / f"{name}.jpg")
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{name}.jpg",
        "imageData": None,
    }
    content |= {"imageHeight": H, "imageWidth": W, **more}
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8-sig")
    return folder / f"{name}.json"


def test_labelme_reads_what_coco_says(tmp_path: Path) -> None:
    folder = tmp_path / "some labels"
    outline = shape("shadow", "polygon", [[1, 1], [2, 2], [3, 1]])
    both = [*person_shapes(BOX, JOINTS, 1), *person_shapes(OTHER_BOX, OTHER, 2), outline]
    labelme(folder, "a", both, imagePath="..\\some labels\\a.jpg", imageData="aGFsbG8=" * 2000)
    labelme(folder, "b", person_shapes(BOX, JOINTS, None))
    labelme(folder, "c", [])
    labelme(folder, "d", person_shapes(None, JOINTS, None))
    file = written(folder, tmp_path / "out" / "mine.json")
    # The joints come in the order in which they are found; the right paw is added for mirror images.
    order = ["nose", "left_ear", "tail", "left_paw", "right_ear", "right_paw"]
    assert file.category["keypoints"] == order
    truth = [
        dict(zip(["nose", "left_ear", "right_ear", "tail", "left_paw"], visible(each), strict=True))
        for each in (JOINTS, OTHER)
    ]
    one, other = ([each.get(name, [0.0, 0.0, 0.0]) for name in order] for each in truth)
    low, high = np.array([40.0, 20.0]), np.array([199.0, 99.0])
    around: NDArray[np.float64] = np.concatenate([low - 0.1 * (high - low), high + 0.1 * (high - low)])
    clipped = np.clip(around, 0, [W, H, W, H]).round(2).tolist()
    assert persons(file) == [
        ("a.jpg", xywh(BOX), one),
        ("a.jpg", xywh(OTHER_BOX), other),
        ("b.jpg", xywh(BOX), one),
        ("d.jpg", np.round(xywh(clipped), 2).tolist(), one),
    ]
    assert [image["complete"] for image in file.images.values()] == [False] * 4
    (report,), _ = check_folder(tmp_path / "some labels")
    assert (report.annotations, report.kind, report.images, report.persons) == (folder, "labelme", 4, 4)
    assert not report.faults


def test_labelme_known_joints_keep_their_order(tmp_path: Path) -> None:
    xy = [[10.0 + k, 20.0 + k] for k in range(17)]
    shapes = [shape(name, "point", [place]) for name, place in zip(COCO17.joints, xy, strict=True)]
    file = read_records(labelme(tmp_path, "a", shapes[::-1]))
    assert file is not None
    assert skeleton_of(file) is COCO17
    assert persons(file)[0][2] == [[*place, 2.0] for place in xy]


POINT = shape("nose", "point", [[5, 5]])


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        ([POINT, POINT], {}, r"shapes\[1\]: the joint 'nose' is there twice, or has no name"),
        ([POINT, shape("tail", "point", [[5, 5]], 1)], {}, "has shapes with and without a group_id"),
        (
            person_shapes(BOX, JOINTS, None) + person_shapes(OTHER_BOX, [[0, 0, 0]] * 5, None),
            {},
            "has 2 rectangles and no",
        ),
        ([shape("nose", "point", [[5, 5], [6, 6]])], {}, r"'points' of a point is .*; expected one pair"),
        ([shape("nose", "point", [[5, None]])], {}, r"'points' of a point is .*; expected one pair"),
        ([POINT, shape("person", "rectangle", [[5, 5]])], {}, "'points' of a rectangle is .*; expected two corners"),
        (
            [POINT, shape("cat", "rectangle", [[0, 0], [9, 9]]), shape("dog", "rectangle", [[0, 0], [9, 9]])],
            {},
            "its rectangles are called 'cat', 'dog'. Call those of persons 'person'",
        ),
        ([POINT], {"imagePath": "gone.jpg"}, r"a\.json: no picture '.*gone\.jpg'.*\n.*--images DIR"),
        ([POINT], {"imagePath": "gone.jpg", "imageData": "aGFsbG8="}, "'imageData' holds its pixels"),
        ([POINT], {"imageWidth": 2 * W}, r"is 200x100; it was labelled at 400x100"),
        ([], {}, "holds no person with joints"),
        ([{"points": []}], {}, r"shapes\[0\]: the key 'label' is missing"),
        ([shape("person", "rectangle", [[0, 0], [9, 9]])], {}, "holds no person with joints"),
        (
            [POINT, shape("person", "rectangle", [[900, 0], [990, 9]])],
            {},
            "its box lies outside of the picture of 200x",
        ),
    ],
)
def test_labelme_says_what_is_wrong(shapes: list[Any], more: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = labelme(tmp_path, "a", shapes, **more)
    with pytest.raises(DataError, match=message):
        read_records(path)


def test_labelme_folder_with_other_files_and_pictures_elsewhere(tmp_path: Path) -> None:
    path = labelme(tmp_path / "labels", "a", [POINT])
    shutil.move(str(path.with_suffix(".jpg")), tmp_path / "a.jpg")
    with pytest.raises(DataError, match="no picture"):
        read_records(path.parent)
    assert len(load_native(path.parent, images=tmp_path)) == 1
    (path.parent / "notes.json").write_text("{}")
    with pytest.raises(DataError, match=r"holds labelme's files and others, such as 'notes\.json'"):
        load_native(path.parent, images=tmp_path)


# ---------------------------------------------------------------- DeepLabCut


def deeplabcut(project: Path, three: bool = False, animals: bool = False, change: tuple[str, str] = ("", "")) -> Path:
    """Write a table as DeepLabCut does: of one animal, or two and a corner that is there once."""
    folder = project / "labeled-data" / "a clip"
    picture(folder / "img001.png")
    picture(folder / "img 2.png")
    parts = [(who, name) for who in (("m1", "m2") if animals else ("",)) for name in FIVE]
    parts += [("single", "corner")] if animals else []
    blank = ["", ""] if three else []
    heads = [["scorer", *blank, *["Ada"] * 2 * len(parts)]]
    heads += [["individuals", *blank, *[who for who, _ in parts for _ in "xy"]]] if animals else []
    heads += [["bodyparts", *blank, *[name for _, name in parts for _ in "xy"]]]
    heads += [["coords", *blank, *["x", "y"] * len(parts)]]
    first = [*JOINTS, *OTHER, [9.0, 9.0, 2.0]] if animals else JOINTS
    second = [*OTHER, *[[0.0, 0.0, 0.0]] * 6] if animals else OTHER
    rows = []
    for name, joints in (("img001.png", first), ("img 2.png", second)):
        at = ["labeled-data", "a clip", name] if three else [f"labeled-data\\a clip\\{name}"]
        rows.append([*at, *[cell for x, y, v in joints for cell in ((str(x), str(y)) if v else ("", "NaN"))]])
    text = "\n".join(",".join(row) for row in [*heads, *rows]) + "\n"
    assert change[0] in text
    text = text.replace(*change) if change[0] else text
    path = folder / "CollectedData_Ada.csv"
    path.write_text(text.replace("NaN", "" if three else "NaN"), encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("animals", [False, True])
def test_deeplabcut_reads_what_coco_says(three: bool, animals: bool, tmp_path: Path) -> None:
    path = deeplabcut(tmp_path / "project", three, animals)
    file = written(path, tmp_path / "out.json")
    assert file.category["keypoints"] == ["nose", "left_ear", "right_ear", "tail", "left_paw", "right_paw"]
    one, other = ([*visible(each), [0.0, 0.0, 0.0]] for each in (JOINTS, OTHER))
    found = persons(file)
    expected = [("img001.png", one), *([("img001.png", other)] if animals else []), ("img 2.png", other)]
    assert [(name, joints) for name, _, joints in found] == expected
    # Of OTHER: x 110 to 150, y 5 to 50, and a tenth of both on each side.
    assert found[-1][1] == [106.0, 0.5, 48.0, 54.0]
    assert all(image["complete"] is False for image in file.images.values())
    for place in (tmp_path / "project", tmp_path / "project" / "labeled-data", path.parent):
        again = read_records(place)
        assert again is not None
        assert len(again.annotations) == len(found)
    (report,), _ = check_folder(tmp_path / "project")
    assert (report.kind, report.images, report.persons, dict(report.faults)) == ("DeepLabCut", 2, len(found), {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("40.0,20.0", "40.0,", r"line 4: nose: is '40\.0', ''; expected two numbers, or nothing"),
        ("40.0,20.0", "forty,20.0", r"line 4: nose: is 'forty', '20\.0'"),
        ("40.0,20.0", "40.0", r"line 4: has 10 columns; expected 11"),
        ("bodyparts,", "parts,", "its first rows are .*; expected the headings scorer, bodyparts and coords"),
        ("coords,x,y", "coords,x,likelihood", "has a column 'likelihood'; .*predictions, not labels"),
        ("coords,x,y", "coords,x,x", "has the column 'nose' x twice"),
        ("img001", "gone", r"line 4: no picture .*gone\.png.*\n.*--images DIR"),
        ("img 2.png", "img001.png", r"line 5: .*img001\.png' has labels already, in .*line 4"),
    ],
)
def test_deeplabcut_says_what_is_wrong(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = deeplabcut(tmp_path, change=(old, new))
    with pytest.raises(DataError, match=message):
        read_records(path)


def test_deeplabcut_pictures_elsewhere(tmp_path: Path) -> None:
    path = deeplabcut(tmp_path / "project")
    shutil.move(str(path), tmp_path / path.name)
    pictures = path.parent.rename(tmp_path / "pictures")
    with pytest.raises(DataError, match="no picture"):
        load_native(tmp_path / path.name)
    assert len(load_native(tmp_path / path.name, images=pictures)) == 2
    with pytest.raises(DataError, match="does not exist"):
        load_native(tmp_path / path.name, images=tmp_path / "nowhere")


# ---------------------------------------------------------------- the command


def test_command_converts_and_checks(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="YOLO's description needs PyYAML")
    path = yolo(
        tmp_path,
        "kpt_shape: [5, 3]\nkpt_names: [a, b, c, d, e]",
        train=[line(BOX, JOINTS), ""],
        val=[line(OTHER_BOX, OTHER)],
    )
    out = tmp_path / "mine.json"
    result = CliRunner().invoke(app, ["data", "convert", str(path), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "mine.json: 3 pictures, 2 persons with data" in result.output
    assert "2 of train, 1 of val, together" in result.output
    result = CliRunner().invoke(app, ["data", "check", str(out)])
    assert result.exit_code == 0, result.output
    assert "mine.json: COCO, 3 images, 2 persons of data" in result.output


def test_other_files_are_of_no_label_tool(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": [], "imagePath": 1}')
    (tmp_path / "joints.csv").write_text("a.jpg,1,2\n")
    (tmp_path / "readme.txt").write_text("1 2 3 4 5\n")
    (tmp_path / "notes.txt").write_text("Five words in this line.\n")
    assert [path.name for path in (tmp_path, *tmp_path.iterdir()) if label_tool(path) is not None] == []
