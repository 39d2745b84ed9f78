"""``autopose eval`` on synthetic figures: results, checkpoints and exported models through one decode."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from autopose.cli import app
from autopose.commands.scored_models import is_checkpoint, open_pose_model, run_detector
from autopose.data.coco import load_coco
from autopose.data.synthetic import write_synthetic
from autopose.errors import BackendError, DataError, ModelError, UsageError
from autopose.evaluation.predict import predict_boxes
from autopose.runtime.detector import DEFAULT_THRESHOLD
from autopose.runtime.predictor import SessionPredictor
from autopose.runtime.session import Session, open_session
from autopose.skeleton import COCO17, MPII16, Skeleton

pytest.importorskip("pycocotools", reason="evaluation needs pycocotools")

TEN = ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def figures(result: Result, path: Path) -> dict[str, float]:
    assert result.exit_code == 0, (result.output, result.exception)
    content: dict[str, float] = json.loads(path.read_text())
    for name, value in content.items():
        assert f"{value:.3f}" in result.output, name
    return content


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("set"), images=6, seed=1, size_wh=(160, 160), persons=(1, 2))


@pytest.fixture(scope="module")
def perfect(annotations: Path) -> list[dict[str, Any]]:
    return [
        {
            "image_id": person.image_id,
            "category_id": 1,
            "score": 0.5 + 0.01 * i,
            "keypoints": np.column_stack([person.keypoints, np.ones(17)]).ravel().tolist(),
            "bbox": [*person.box_xyxy[:2], *(person.box_xyxy[2:] - person.box_xyxy[:2])],
        }
        for i, person in enumerate(load_coco(annotations))
    ]


def test_results_files(
    annotations: Path, perfect: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autopose.evaluation.coco.DRAWS", 5)
    (tmp_path / "results.json").write_text(json.dumps(perfect))
    out = tmp_path / "out" / "figures.json"
    content = figures(run(tmp_path / "results.json", annotations, "--json", out), out)
    assert list(content) == TEN
    assert content["AP"] == pytest.approx(1)
    boxes = figures(run(tmp_path / "results.json", annotations, "--task", "bbox", "--json", out, "--interval"), out)
    assert boxes["AP"] == boxes["AP_low"] == pytest.approx(1)
    # Whoever is found in the last image is all there is, if only that is complete.
    truth = json.loads(annotations.read_text())
    for image in truth["images"]:
        image["complete"] = image["id"] == perfect[-1]["image_id"]
    (tmp_path / "some.json").write_text(json.dumps(truth))
    last = [record for record in perfect if record["image_id"] == perfect[-1]["image_id"]]
    (tmp_path / "results.json").write_text(json.dumps(last))
    only = ["--task", "bbox", "--complete-only", "--json", out, "--interval"]
    boxes = figures(run(tmp_path / "results.json", tmp_path / "some.json", *only), out)
    assert boxes["AP"] == boxes["AP_low"] == pytest.approx(1)


def test_results_are_scored_by_the_constants_of_the_files_joints(
    annotations: Path, perfect: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PoseTrack has 17 joints too, with other tolerances: a count alone would not notice."""
    from autopose.evaluation.coco import evaluate_keypoints
    from autopose.skeleton import POSETRACK17

    rng = np.random.default_rng(0)
    moved = [{**p, "keypoints": (np.array(p["keypoints"]) + rng.normal(0, 2.5, 51)).tolist()} for p in perfect]
    content = json.loads(annotations.read_text())
    content["categories"][0]["keypoints"] = list(POSETRACK17.joints)
    named = tmp_path / "posetrack.json"
    named.write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(moved))
    out = tmp_path / "figures.json"
    monkeypatch.setattr("autopose.evaluation.coco.DRAWS", 5)
    content = figures(run(tmp_path / "results.json", named, "--json", out, "--interval"), out)
    found = content["AP"]
    assert content == evaluate_keypoints(moved, named, skeleton=POSETRACK17, draws=5)
    assert abs(found - evaluate_keypoints(moved, annotations)["AP"]) > 0.02


def pose_checkpoint(path: Path, skeleton: Skeleton = COCO17) -> Path:
    """Write a small untrained network whose maps differ from place to place."""
    torch = pytest.importorskip("torch", reason="checkpoints need torch")
    from autopose.checkpoint import Checkpoint, save_checkpoint
    from autopose.genotype import AutoPoseGenotype
    from autopose.heatmap import Codec
    from autopose.models.network import build_network

    genotype = AutoPoseGenotype.model_validate(
        {
            "individual": [["conv1"] * 10] * 4, "aggregation": [["conv3"] * 9] * 4,
            "scales": [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], "channels": [8, 8, 16, 16], "modules_per_stage": 1,
            "stem_channels": 8, "stem_expansion": 2, "head_channels": 8,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    network = build_network(genotype, len(skeleton))
    with torch.no_grad():
        for _ in range(2):
            network.train()(torch.randn(2, 3, 96, 64))
        for name, parameter in network.named_parameters():
            if name.endswith("predict.weight"):
                parameter.normal_(0, 0.1)
    codec = Codec(input_size_wh=(64, 96))
    save_checkpoint(path, Checkpoint(genotype, network.state_dict(), codec, skeleton=skeleton, name="small"))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pose_checkpoint(tmp_path_factory.mktemp("run") / "best.safetensors")


def test_against_the_exported_model_a_checkpoint_scores_the_same(
    annotations: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from autopose.checkpoint import load_checkpoint
    from autopose.export.to_onnx import export_onnx

    model = export_onnx(load_checkpoint(checkpoint), tmp_path / "model.onnx")
    with open_pose_model(str(model), flip=True, device="cpu", threads=1, batch=32) as opened:
        assert isinstance(opened.predict, SessionPredictor)
        assert opened.predict.batch_size == 32  # of its own, besides that of whoever calls it
    threads: list[int] = []
    before = torch.get_num_threads()

    def remembered(*arguments: Any, **options: Any) -> Session:
        session = open_session(*arguments, **options)
        threads.append(session.threads)
        return session

    monkeypatch.setattr("autopose.runtime.session.open_session", remembered)
    results = {}
    for name, given in (("torch", checkpoint.parent), ("onnx", model)):
        out, kept = tmp_path / f"{name}.json", tmp_path / f"{name}-results.json"
        figures(run(given, annotations, "--json", out, "--results", kept, "--device", "cpu", "--threads", 2), out)
        results[name] = json.loads(kept.read_text())
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert [found, *threads] == [2, 2]
    for one, other in zip(results["torch"], results["onnx"], strict=True):
        assert one["image_id"] == other["image_id"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-3)
        close = np.abs(np.subtract(one["keypoints"], other["keypoints"])) < 0.3
        assert close.mean() > 0.95  # joints whose two best cells tie may land in either


def test_detection_boxes_and_pck(
    annotations: Path, checkpoint: Path, perfect: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autopose.training.predictor import TorchPredictor

    batches: list[int] = []
    heatmaps = TorchPredictor.heatmaps

    def counted(predictor: TorchPredictor, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches.append(len(crops))
        return heatmaps(predictor, crops)

    monkeypatch.setattr(TorchPredictor, "heatmaps", counted)
    detections = [{key: value for key, value in record.items() if key != "keypoints"} for record in perfect]
    (tmp_path / "det.json").write_text(json.dumps([*detections, *detections]))  # everybody twice
    kept = tmp_path / "kept.json"
    common: list[Any] = [checkpoint, annotations, "--boxes", tmp_path / "det.json", "--no-flip", "--results", kept]
    plain = ["--no-nms", "--visible-score", "0", "--box-power", "1"]
    for options, count in (([], len(perfect)), (plain, 2 * len(perfect))):
        result = run(*common, *options)
        assert result.exit_code == 0, result.exception
        assert len(json.loads(kept.read_text())) == count
    box_scores = []
    for record in json.loads(kept.read_text()):
        joints = np.array(record["keypoints"][2::3])
        box_scores.append(record["score"] / joints[joints > 0].mean())
    assert sorted(box_scores) == pytest.approx(sorted([record["score"] for record in perfect] * 2), rel=1e-4)
    out = tmp_path / "pck.json"
    batches.clear()
    content = figures(run(checkpoint, annotations, "--task", "pck", "--no-flip", "--json", out, "--batch", 4), out)
    assert (max(batches), sum(batches)) == (4, len(perfect))
    assert 0 <= content["PCK@0.05"] <= content["PCK@0.1"] <= content["PCK@0.2"] <= 1
    truth = json.loads(annotations.read_text())
    truth["annotations"] += [{**record, "id": 1000 + record["id"]} for record in truth["annotations"]]
    (tmp_path / "twice.json").write_text(json.dumps(truth))
    result = run(checkpoint, tmp_path / "twice.json", "--images", annotations.parent, "--no-flip", "--results", kept)
    assert result.exit_code == 0, result.exception
    assert len(json.loads(kept.read_text())) == 2 * len(perfect)  # boxes that are given repeat nobody


def test_repeated_poses_of_other_joints_are_dropped(
    annotations: Path, perfect: list[dict[str, Any]], tmp_path: Path
) -> None:
    truth = json.loads(annotations.read_text())
    for record in truth["annotations"]:
        record["keypoints"] = record["keypoints"][: 3 * len(MPII16)]
    truth["categories"][0]["keypoints"] = list(MPII16.joints)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    detections = [{key: value for key, value in record.items() if key != "keypoints"} for record in perfect]
    (tmp_path / "det.json").write_text(json.dumps([*detections, *detections]))
    model, kept = pose_checkpoint(tmp_path / "mpii.safetensors", MPII16), tmp_path / "kept.json"
    options = ["--boxes", tmp_path / "det.json", "--images", annotations.parent, "--no-flip", "--results", kept]
    result = run(model, tmp_path / "truth.json", *options)
    assert result.exit_code == 0, result.exception
    assert len(json.loads(kept.read_text())) == len(perfect)


def test_a_bundled_name_means_the_bundled_model_also_beside_a_run_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("fast", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.safetensors").touch()
    assert (is_checkpoint("fast"), is_checkpoint("mine")) == (False, True)


def test_detected_persons_are_the_best_of_each_image(
    annotations: Path, perfect: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autopose.commands import scored_models

    asked: dict[str, Any] = {}

    def found(model: str, path: Path, **options: Any) -> list[dict[str, Any]]:
        asked.update(options, model=model, path=path)
        return perfect

    monkeypatch.setattr(scored_models, "run_detector", found)
    monkeypatch.setattr(scored_models, "PERSONS_PER_IMAGE", 1)
    options: dict[str, Any] = {"images": annotations.parent, "device": "cpu", "threads": 1}
    persons = scored_models.detected_persons(annotations, COCO17, **options)
    assert asked == {"model": "default", "path": annotations, "min_score": 0.1, **options}
    best = {record["image_id"]: record["score"] for record in perfect}  # their scores rise
    assert {person.image_id: person.score for person in persons} == best
    assert len(persons) == len(best)


def test_a_detector_gets_the_options_of_the_command(
    annotations: Path, checkpoint: Path, perfect: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def detect(model: str, file: Path, **options: Any) -> list[dict[str, Any]]:
        asked.append((model, file, *(options[name] for name in ("images", "device", "threads"))))
        return perfect

    monkeypatch.setattr("autopose.commands.scored_models.run_detector", detect)
    out, common = tmp_path / "figures.json", ["--images", annotations.parent, "--device", "cpu", "--threads", 1]
    assert figures(run("fast", annotations, "--task", "bbox", "--json", out, *common), out)["AP"] == pytest.approx(1)
    figures(run(checkpoint, annotations, "--boxes", "detector", "--no-flip", "--json", out, *common), out)
    assert asked == [(name, annotations, annotations.parent, "cpu", 1) for name in ("fast", "default")]


def test_a_detector_is_run_down_to_the_score_that_was_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    import torch

    from autopose.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from autopose.heatmap import Codec
    from autopose.models.network import build_network
    from autopose.training.predictor import TorchDetector

    annotations = write_synthetic(tmp_path, images=1, seed=1, size_wh=(160, 160))
    exported = run_detector("fast", annotations, device="cpu", threads=1, min_score=0.1)
    assert 0.1 <= min(result["score"] for result in exported) < DEFAULT_THRESHOLD
    genotype = load_checkpoint(checkpoint).genotype.model_copy(update={"head": "center", "head_stride": 8})
    torch.manual_seed(0)
    network = build_network(genotype).eval()
    network.get_parameter("head.predict.bias").data[0] = 0  # as likely as not
    codec = Codec(input_size_wh=(96, 96))
    save_checkpoint(tmp_path / "d.safetensors", Checkpoint(genotype, network.state_dict(), codec, "detector"))
    found = run_detector(str(tmp_path / "d.safetensors"), annotations, device="cpu", threads=1, min_score=0.5)
    assert 0 < len(found) < len(predict_boxes(TorchDetector(network, 8), annotations, (96, 96)))
    assert found == predict_boxes(TorchDetector(network, 8), annotations, (96, 96), min_score=0.5)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["model.onnx", "ANN", "--task", "bbox", "--boxes", "det.json"], UsageError, "--boxes det.json goes with"),
        (["model.onnx", "ANN", "--complete-only"], UsageError, "--complete-only"),
        (["results.json", "ANN", "--task", "pck"], UsageError, "--task pck needs a MODEL"),
        (["model.onnx", "ANN", "--task", "pck", "--nms"], UsageError, "--nms and --no-nms go with"),
        (["results.json", "ANN", "--boxes", "det.json"], UsageError, "results have their boxes already"),
        (["results.json", "ANN", "--images", "val"], UsageError, "scored without the pictures"),
        (["results.json", "ANN", "--threads", "2"], UsageError, "results have been made already"),
        (["results.json", "ANN", "--device", "cpu"], UsageError, "results have been made already"),
        (["results.json", "ANN", "--no-flip"], UsageError, "--flip and --no-flip go with a pose MODEL"),
        (["results.json", "ANN", "--visible-score", "0.2"], UsageError, "--visible-score is of the scores"),
        (["model.onnx", "ANN", "--task", "bbox", "--box-power", "1"], UsageError, "--box-power is of the scores"),
        (["results.json", "ANN"], DataError, "not a file of COCO results"),
        (["nowhere.json", "ANN"], DataError, "No results file 'nowhere.json'"),
        (["default", "nowhere.json"], DataError, "nowhere.json"),
        (["no-such-model", "ANN"], ModelError, "no-such-model"),
        (["no.safetensors", "ANN"], ModelError, "no.safetensors"),
        (["CHECKPOINT", "ANN", "--task", "bbox"], UsageError, "is a pose model"),
        (["CHECKPOINT", "ANN", "--device", "cuda"], BackendError, "--device cuda: torch finds no GPU"),
    ],
)
def test_refuses_with_a_sentence(
    annotations: Path,
    checkpoint: Path,
    arguments: list[str],
    kind: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "results.json").write_text('{"AP": 1}')
    places = {"ANN": str(annotations), "CHECKPOINT": str(checkpoint)}
    result = run(*(places.get(argument, argument) for argument in arguments))
    assert isinstance(result.exception, kind), result.exception
    assert message in str(result.exception)


def test_missing_results_do_not_wait_for_mpiis_file(tmp_path: Path) -> None:
    mpii = tmp_path / "valid.json"
    mpii.write_text(json.dumps([{"image": "a.jpg", "joints": [[5.0, 6.0]] * 16, "center": [50, 60], "scale": 0.5}]))
    result = run("nowhere.json", mpii, "--task", "pck", "--head-boxes", tmp_path / "gone.mat")
    assert "No results file 'nowhere.json'" in str(result.exception)


def test_a_model_of_other_joints_is_refused_before_it_predicts_mpii(
    annotations: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = {"image": "000000.jpg", "joints": [[50.0, 60.0 + k] for k in range(16)], "center": [50, 60], "scale": 0.5}
    mpii = tmp_path / "valid.json"
    mpii.write_text(json.dumps([person]))
    monkeypatch.setattr("autopose.evaluation.predict.predict_persons", lambda *_, **__: pytest.fail("has predicted"))
    result = run(checkpoint, mpii, "--task", "pck", "--images", annotations.parent / "images", "--device", "cpu")
    assert isinstance(result.exception, DataError), result.exception
    assert "whose skeleton is mpii16" in str(result.exception)
    assert f"autopose data convert {mpii} --to coco17 -o OUT.json" in str(result.exception)
