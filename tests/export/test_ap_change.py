"""What an artefact costs in average precision: the file and the FP32 network on the same annotated persons."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from autopose.errors import MissingDependencyError
from autopose.export.ap_change import ap_change
from autopose.export.crops import synthetic_crops
from autopose.export.parity import GraphReference
from autopose.export.pipeline import export_model
from autopose.export.recipe import Recipe
from autopose.manifest import METADATA_KEY
from autopose.poses import person_scores
from autopose.runtime.session import open_session
from autopose.skeleton import COCO17
from autopose.skeleton_record import skeleton_object


def _annotated_as_seen_by(model: Path, folder: Path) -> tuple[Path, float]:
    """Write pictures whose crops they are themselves, annotated with what a model sees in them; return a box's area."""
    with open_session(model, device="cpu", threads=1) as session:
        width, height = session.manifest.codec.input_size_wh
        crops = synthetic_crops(20, (width, height))  # more than a batch
        (keypoints,) = session.run(crops)
    (folder / "pictures").mkdir()
    box = [0.1 * width - 0.5, 0.1 * height - 0.5, 0.8 * width, 0.8 * height]  # a crop is a quarter larger
    images, annotations = [], []
    for number, (crop, joints) in enumerate(zip(crops, keypoints, strict=True), start=1):
        cv2.imwrite(str(folder / "pictures" / f"{number}.png"), crop)
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        labelled = np.where([False, False, True], 2, joints).ravel().tolist()
        record = {"image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3], "keypoints": labelled}
        annotations.append({"id": number, "num_keypoints": 17, **record})
    path = folder / "persons.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path, box[2] * box[3]


def _moved(model: Path, pixels: float, out: Path) -> Path:
    """Write the model with a fault: all joints too far to the right."""
    graph = onnx.load(model)
    for node in graph.graph.node:
        node.output[:] = ["right" if name == "keypoints" else name for name in node.output]
    graph.graph.initializer.append(numpy_helper.from_array(np.array([pixels, 0, 0], np.float32), "fault"))
    graph.graph.node.append(helper.make_node("Add", ["right", "fault"], ["keypoints"]))
    onnx.save(graph, out)
    return out


def _with_constants(model: Path, sigmas: list[float], out: Path) -> Path:
    """Write the model with joints of the same names and other OKS constants."""
    graph = onnx.load(model)
    (entry,) = (entry for entry in graph.metadata_props if entry.key == METADATA_KEY)
    own = skeleton_object(replace(COCO17, name="own")) | {"sigmas": sigmas}
    entry.value = json.dumps(json.loads(entry.value) | {"skeleton": own})
    onnx.save(graph, out)
    return out


def test_the_constants_are_the_networks(pose_onnx: Path, tmp_path: Path) -> None:
    annotations, area = _annotated_as_seen_by(pose_onnx, tmp_path)
    sigmas = [0.4 * sigma for sigma in COCO17.sigmas]
    own = _with_constants(pose_onnx, sigmas, tmp_path / "own.onnx")
    oks = np.exp(-(4**2) / (2 * area * (2 * np.array(sigmas)) ** 2)).mean()
    found = ap_change(
        GraphReference(own), _moved(own, 4, tmp_path / "moved.onnx"), annotations, images=tmp_path / "pictures"
    )
    assert found.artefact == pytest.approx((oks >= np.linspace(0.5, 0.95, 10)).mean())


def test_precision_counts_and_not_recall_alone(pose_onnx: Path, tmp_path: Path) -> None:
    """One of 20 persons is labelled elsewhere: the recall is 0.95, the precision less, as it is found first."""
    annotations, _ = _annotated_as_seen_by(pose_onnx, tmp_path)
    content = json.loads(annotations.read_text())
    with open_session(pose_onnx, device="cpu") as session:
        (keypoints,) = session.run(synthetic_crops(20, session.manifest.codec.input_size_wh))
    best = content["annotations"][int(person_scores(np.ones(20, np.float32), keypoints[..., 2]).argmax())]
    best["keypoints"] = [value - 80 * (number % 3 == 0) for number, value in enumerate(best["keypoints"])]
    annotations.write_text(json.dumps(content))
    found = ap_change(GraphReference(pose_onnx), pose_onnx, annotations, images=tmp_path / "pictures")
    # Found first, it leaves a precision of at most 0.95, at those 95 (by rounding 96) of 101 recalls that are reached.
    assert found.reference == found.artefact == pytest.approx(0.95 * 95.5 / 101, abs=0.5 / 101)


def test_the_change_is_that_of_the_file_against_the_network(pose_onnx: Path, tmp_path: Path) -> None:
    annotations, area = _annotated_as_seen_by(pose_onnx, tmp_path)
    reference, moved = GraphReference(pose_onnx), _moved(pose_onnx, 4, tmp_path / "moved.onnx")
    oks = np.exp(-(4**2) / (2 * area * (2 * np.array(COCO17.sigmas)) ** 2)).mean()
    thresholds = np.linspace(0.5, 0.95, 10)
    assert 0.55 < oks < 0.9
    found = ap_change(reference, moved, annotations, images=tmp_path / "pictures")
    assert found.reference == pytest.approx(1)
    assert found.artefact == pytest.approx((oks >= thresholds).mean())
    assert found.change == pytest.approx(found.artefact - 1)


def test_an_export_that_is_checked_on_annotations_tells_it(pose_onnx: Path, tmp_path: Path) -> None:
    annotations, _ = _annotated_as_seen_by(pose_onnx, tmp_path)
    recipe = Recipe(precision="fp16", check=annotations, images=tmp_path / "pictures")
    details = export_model(str(pose_onnx), tmp_path / "half.onnx", recipe).details
    assert details["AP_fp32"] == pytest.approx(1)
    assert details["AP"] > 0.9
    assert details["AP_change"] == details["AP"] - details["AP_fp32"]


def test_what_annotations_are_checked_with_is_missed_before_the_work(
    pose_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)  # as after pip install 'autopose[trt]'
    (tmp_path / "persons.json").write_text("{}")
    with pytest.raises(MissingDependencyError, match=r"--check with annotations needs the package 'pycocotools'"):
        export_model(str(pose_onnx), tmp_path / "half.onnx", Recipe(check=tmp_path / "persons.json"))
