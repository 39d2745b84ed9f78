import contextlib
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.errors import DataError
from autopose.evaluation.coco import (
    BOX_FIGURES,
    KEYPOINT_FIGURES,
    _evaluated,
    evaluate_boxes,
    evaluate_keypoints,
    mean_oks,
)
from autopose.skeleton import COCO17, MPII16

pytest.importorskip("pycocotools", reason="evaluation needs pycocotools")


def ground_truth(path: Path, persons: int = 12, images: int = 6, joints: int = 17, **fields: Any) -> Path:
    """Write persons of several sizes in several images, one of them a crowd and one without joints."""
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(persons):
        side = float(rng.choice([40, 80, 150]))
        x, y = rng.uniform(0, 200, 2)
        xy = rng.uniform((x, y), (x + side, y + 2 * side), (joints, 2))
        v = rng.choice([0, 1, 2], joints, p=[0.2, 0.2, 0.6])
        record = {
            "id": i + 1, "image_id": i % images, "category_id": 1, "iscrowd": int(i == 5), "area": side * side,
            "bbox": [x, y, side, 2 * side], "keypoints": np.column_stack([xy, v]).ravel().tolist(),
            "num_keypoints": int((v > 0).sum()),
        }  # fmt: skip
        annotations.append(record)
    annotations.append({"id": 99, "image_id": 0, "category_id": 1, "iscrowd": 0, "area": 900.0, "bbox": [1, 2, 30, 30]})
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480, **fields} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    path.write_text(json.dumps(content))
    return path


def noisy_results(path: Path, noise_px: float, extra: int = 4) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    results = []
    records = [a for a in json.loads(path.read_text())["annotations"] if "keypoints" in a]
    for record in [*records, *records[:extra]]:
        values = np.array(record["keypoints"]).reshape(-1, 3)
        xy = values[:, :2] + rng.normal(0, noise_px, (len(values), 2))
        box = np.array(record["bbox"]) + rng.normal(0, noise_px, 4)
        results.append(
            {
                "image_id": record["image_id"], "category_id": 1, "score": float(rng.uniform(0.1, 1)),
                "keypoints": np.column_stack([xy, np.ones(len(xy))]).ravel().tolist(), "bbox": box.tolist(),
            }
        )  # fmt: skip
    return results


def by_pycocotools(truth: Path, results: list[dict[str, Any]], kind: str, tmp_path: Path) -> NDArray[np.float64]:
    """Evaluate through files, as pycocotools' own demonstration does."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = json.loads(truth.read_text())
    for record in content["annotations"]:  # pycocotools wants the keys everywhere
        record.setdefault("keypoints", [0] * 51)
        record.setdefault("num_keypoints", 0)
    (tmp_path / "truth.json").write_text(json.dumps({**content, "info": {}}))
    drop = "bbox" if kind == "keypoints" else "keypoints"
    plain = [{key: value for key, value in result.items() if key != drop} for result in results]
    (tmp_path / "results.json").write_text(json.dumps(plain))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


def test_long_comparisons_are_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = ground_truth(tmp_path / "gt.json")
    results = noisy_results(path, 4)
    with caplog.at_level("INFO", logger="autopose.waits"):
        evaluate_keypoints(results, path, draws=2)
        assert not caplog.messages
        monkeypatch.setattr("autopose.evaluation.coco._MANY", len(results))
        evaluate_keypoints(results, path, draws=2)
    assert caplog.messages == [
        f"Comparing {len(results)} results with {path} ...",
        "Drawing the pictures anew 2 times ...",
    ]


@pytest.mark.parametrize("noise_px", [0.5, 3.0, 8.0])
def test_against_pycocotools(tmp_path: Path, noise_px: float, capsys: pytest.CaptureFixture[str]) -> None:
    truth = ground_truth(tmp_path / "gt.json")
    results = noisy_results(truth, noise_px)
    figures = evaluate_keypoints(results, truth)
    assert tuple(figures) == KEYPOINT_FIGURES
    np.testing.assert_allclose(
        list(figures.values()), by_pycocotools(truth, results, "keypoints", tmp_path), atol=1e-12
    )
    boxes = evaluate_boxes(results, truth)
    assert tuple(boxes) == BOX_FIGURES
    np.testing.assert_allclose(list(boxes.values()), by_pycocotools(truth, results, "bbox", tmp_path), atol=1e-12)
    assert capsys.readouterr().out == ""  # pycocotools talks; we do not


def test_keypoint_ap_by_hand(tmp_path: Path) -> None:
    """All joints off so that OKS = 0.72: a hit at the thresholds 0.5 ... 0.7, five of ten."""
    xy = np.tile((100.0, 100.0), (17, 1))
    area = 5000.0
    offset = np.sqrt(-np.log(0.72) * 2 * area * (2 * np.array(COCO17.sigmas)) ** 2)
    moved = xy + np.column_stack([offset, np.zeros(17)])
    truth = tmp_path / "one.json"
    record = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": area, "bbox": [50, 50, 100, 100],
        "num_keypoints": 17, "keypoints": np.column_stack([xy, np.full(17, 2)]).ravel().tolist(),
    }  # fmt: skip
    truth.write_text(json.dumps({"images": [{"id": 1}], "annotations": [record]}))
    flat = np.column_stack([moved, np.ones(17)]).ravel().tolist()
    figures = evaluate_keypoints([{"image_id": 1, "score": 0.5, "keypoints": flat}], truth)
    assert figures["AP"] == pytest.approx(0.5)
    assert figures["AR"] == pytest.approx(0.5)
    assert figures["AP50"] == pytest.approx(1)
    assert figures["AP75"] == 0


def test_mean_oks_by_hand(tmp_path: Path) -> None:
    """Three labelled persons: one found (0.72) beside a result far away, one found exactly, one without results."""
    xy, area = np.tile((100.0, 100.0), (17, 1)), 5000.0
    offset = np.sqrt(-np.log(0.72) * 2 * area * (2 * np.array(COCO17.sigmas)) ** 2)
    records = [
        {
            "id": x + 1, "image_id": image, "area": area, "bbox": [50 + x, 50, 100, 100], "num_keypoints": 17,
            "keypoints": np.column_stack([xy + np.array((x, 0)), np.full(17, 2)]).ravel().tolist(),
        }
        for image, x in ((1, 0), (1, 400), (2, 1))
    ]  # fmt: skip
    # Nobody counts in the third: a crowd, and somebody without joints.
    images, left_out = [{"id": 1}, {"id": 2}, {"id": 3}], {**records[0], "image_id": 3}
    records += [{**left_out, "id": 90, "iscrowd": 1}, {**left_out, "id": 91, "num_keypoints": 0, "keypoints": [0] * 51}]
    truth = tmp_path / "three.json"
    truth.write_text(json.dumps({"images": images, "annotations": records}))
    found = [xy + np.column_stack([offset, np.zeros(17)]), xy + np.array((0, 5000)), xy + np.array((400, 0))]
    results = [
        {"image_id": 1, "score": 0.5, "keypoints": np.column_stack([joints, np.ones(17)]).ravel().tolist()}
        for joints in found
    ]
    assert mean_oks(results, truth) == pytest.approx((0.72 + 1 + 0) / 3)
    assert mean_oks([], truth) == 0
    truth.write_text(json.dumps({"images": images, "annotations": []}))
    with pytest.raises(DataError, match="nobody has a labelled joint"):
        mean_oks([], truth)


def interval(figures: dict[str, float]) -> tuple[float, float]:
    return figures["AP_low"], figures["AP_high"]


def test_box_ap_by_hand(tmp_path: Path) -> None:
    """A box of 100x100 found as 100x72: IoU 0.72, five of ten thresholds; incomplete images do not count."""
    box = {"category_id": 1, "iscrowd": 0, "area": 10000.0, "bbox": [50, 50, 100, 100]}
    content = {
        "images": [{"id": 1, "complete": True}, {"id": 2, "complete": False}],
        "annotations": [{"id": 1, "image_id": 1, **box}, {"id": 2, "image_id": 2, **box}],
    }
    truth = tmp_path / "one.json"
    truth.write_text(json.dumps(content))
    found = [{"image_id": 1, "score": 0.5, "bbox": [50, 50, 100, 72]}]
    assert evaluate_boxes(found, truth, complete_only=True)["AP"] == pytest.approx(0.5)
    drawn = evaluate_boxes(found, truth, complete_only=True, draws=9)
    assert (drawn["AP"], *interval(drawn)) == pytest.approx((0.5, 0.5, 0.5))  # of one image, however often it is drawn
    car = {"image_id": 1, "score": 0.9, "bbox": [0, 0, 20, 20], "category_id": 3}
    assert evaluate_boxes([car, *found], truth, complete_only=True)["AP"] == pytest.approx(0.5)
    half = evaluate_boxes(found, truth)["AP"]  # recall stops at 1/2: 51 of pycocotools' 101 recall points
    assert half == pytest.approx(0.5 * 51 / 101)
    content["images"] = [{"id": 1}, {"id": 2}]
    truth.write_text(json.dumps(content))
    with pytest.raises(DataError, match="complete: true"):
        evaluate_boxes(found, truth, complete_only=True)


def test_nothing_found_scores_zero(tmp_path: Path) -> None:
    truth = ground_truth(tmp_path / "gt.json")
    assert evaluate_keypoints([], truth)["AP"] == 0
    assert evaluate_boxes([], truth)["AR100"] == 0


def test_perfect_results_and_their_interval(tmp_path: Path) -> None:
    truth = ground_truth(tmp_path / "gt.json")
    results = noisy_results(truth, 0, extra=0)
    assert evaluate_keypoints(results, truth)["AP"] == pytest.approx(1)
    assert interval(evaluate_keypoints(results, truth, draws=20)) == pytest.approx((1, 1))


def test_an_interval_is_of_the_draws_that_have_a_person(tmp_path: Path) -> None:
    """One of three images shows somebody: about a third of the draws are without it, and have no AP."""
    path, box = tmp_path / "ann.json", [0, 0, 50, 50]
    content: dict[str, Any] = {"images": [{"id": 1}, {"id": 2}, {"id": 3}], "annotations": []}
    content["annotations"].append({"image_id": 1, "bbox": box})
    path.write_text(json.dumps(content))
    results = [{"image_id": 1, "score": 0.9, "bbox": box}]
    assert interval(evaluate_boxes(results, path, draws=20)) == pytest.approx((1, 1))
    path.write_text(json.dumps(content | {"annotations": []}))
    with pytest.raises(DataError, match="no annotation counts, so AP has no interval"):
        evaluate_boxes(results, path, draws=2)


def test_interval_surrounds_the_figure(tmp_path: Path) -> None:
    truth = ground_truth(tmp_path / "gt.json", persons=60, images=25)
    results = noisy_results(truth, 4.0)
    figures = evaluate_keypoints(results, truth)
    drawn = evaluate_keypoints(results, truth, draws=60)
    low, high = drawn.pop("AP_low"), drawn.pop("AP_high")
    assert drawn == figures  # drawing comes after them
    assert low < figures["AP"] < high < low + 0.5
    first, again, more = (interval(evaluate_keypoints(results, truth, draws=draws)) for draws in (3, 3, 4))
    assert first == again != more
    boxes = evaluate_boxes(results, truth, draws=20)
    assert boxes["AP_low"] < boxes["AP"] < boxes["AP_high"]


def test_other_skeletons_have_their_own_constants(tmp_path: Path) -> None:
    truth = ground_truth(tmp_path / "gt.json", joints=16)
    results = noisy_results(truth, 0, extra=0)
    assert evaluate_keypoints(results, truth, skeleton=MPII16)["AP"] == pytest.approx(1)
    assert interval(evaluate_keypoints(results, truth, skeleton=MPII16, draws=2)) == pytest.approx((1, 1))
    assert evaluate_boxes(results, truth)["AP50"] > 0.9  # all but one, whatever their joints
    with pytest.raises(DataError, match="has 48 numbers; expected 51"):
        evaluate_keypoints([], truth)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"score": 1, "keypoints": [0] * 51}, r"results\[0\]: the key 'image_id' is missing"),
        ({"image_id": 0, "score": 1, "bbox": [0, 0, 1, 1]}, r"results\[0\]: the key 'keypoints' is missing"),
        ({"image_id": 77, "score": 1, "keypoints": [0] * 51}, r"image_id 77 is not in"),
        ({"image_id": 0, "score": True, "keypoints": [0] * 51}, r"results\[0\]: .*score.* expected finite numbers"),
        ({"image_id": [7], "score": 1, "keypoints": [0] * 51}, r"image_id \[7\] is not in"),
        ({"image_id": 0, "score": 1, "keypoints": [0] * 6}, r"'keypoints' has 6 numbers; expected 51"),
    ],
)
def test_refuses_foreign_results(tmp_path: Path, result: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_keypoints([result], ground_truth(tmp_path / "gt.json"))


def test_refuses_unusable_annotations(tmp_path: Path) -> None:
    for text in ("[]", "{}", '{"images": [], "annotations": []}', '{"images": [{"id": 1}], "annotations": null}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match=r"bad\.json: not COCO annotations"):
            evaluate_keypoints([], tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text('{"images": [{"id": 1}], "annotations": [1]}')
    with pytest.raises(DataError, match=r"annotations\[0\] is '1'; expected an object"):
        evaluate_keypoints([], tmp_path / "bad.json")
    with pytest.raises(DataError, match="nowhere"):
        evaluate_boxes([], tmp_path / "nowhere.json")


def test_against_the_published_figures_of_a_detection_file(data_root: Path) -> None:
    """The data's description gives 0.584, 0.852 and 0.654 for these boxes."""
    folder = data_root / "eval"
    results = json.loads((folder / "COCO_val2017_detections_AP_H_56_person_538imgs.json").read_text())
    figures = evaluate_boxes(results, folder / "person_keypoints_val2017_538imgs.json")
    assert [round(figures[name], 3) for name in ("AP", "AP50", "AP75")] == [0.584, 0.852, 0.654]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"image_id": [1]}, r"annotations\[0\]: 'image_id' is \[1\]; expected a number"),
        ({"bbox": None}, r"annotations\[0\]: bbox is None"),
        ({"bbox": [1, 2]}, r"annotations\[0\]: bbox is \[1, 2\]"),
        ({"keypoints": [None] * 51}, r"annotations\[0\]: 'keypoints' has the value None"),
        ({"area": "x"}, r"annotations\[0\]: 'area' has the value 'x'"),
    ],
)
def test_refuses_broken_annotations(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    annotation = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2] * 17} | changes
    path = tmp_path / "ann.json"
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": [annotation]}))
    with pytest.raises(DataError, match=fault):
        evaluate_keypoints([], path)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"score": "0.9"}, "'score' has the value '0.9'"),
        ({"score": float("nan")}, "'score' has the value nan"),
        ({"keypoints": None}, "'keypoints' is None"),
    ],
)
def test_refuses_broken_results(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    annotation = {"image_id": 1, "bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2] * 17}
    path = tmp_path / "ann.json"
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": [annotation]}))
    with pytest.raises(DataError, match=fault):
        evaluate_keypoints([{"image_id": 1, "score": 0.9, "keypoints": [1, 1, 2] * 17} | changes], path)


def test_a_person_without_area_has_a_share_of_the_box(tmp_path: Path) -> None:
    """CrowdPose's files have no areas; the OKS of its evaluation takes 0.53 of the box."""
    truth = [10.0, 10.0, 2.0] * 17
    found = [14.0, 10.0, 1.0] * 17  # 4 px off
    figures = []
    for area in ({}, {"area": 0.528 * 40 * 40}, {"area": None}, {"area": 40.0 * 40.0}):
        annotation = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 40], "keypoints": truth, **area}
        path = tmp_path / "ann.json"
        path.write_text(json.dumps({"images": [{"id": 1}], "annotations": [annotation]}))
        figures.append(mean_oks([{"image_id": 1, "score": 0.9, "keypoints": found}], path))
    assert figures[0] == figures[1] == figures[2] < figures[3]
    annotation = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 100, 100]}
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": [annotation]}))
    boxes = evaluate_boxes([{"image_id": 1, "score": 0.9, "bbox": [0, 0, 100, 100]}], path)
    assert boxes["APL"] == pytest.approx(1)  # of boxes, it is the box's: large from 96 px on


def test_joints_and_boxes_that_a_teacher_doubts_do_not_count(tmp_path: Path) -> None:
    """Training does not learn them: a detector or network that knows the others is perfect."""
    sure = [[10.0 + k, 20.0, 0.3] for k in range(8)]
    common: dict[str, Any] = {"image_id": 1, "category_id": 1, "num_keypoints": 17}
    person = {"id": 1, **common, "bbox": [0, 0, 90, 90], "score": 0.3}
    person["keypoints"] = [n for joint in [*sure, *[[900.0, 900.0, 0.29]] * 9] for n in joint]
    ghost = {"id": 2, **common, "bbox": [200, 0, 40, 90], "score": 0.29}
    ghost["keypoints"] = [300.0, 9.0, 0.1] * 17
    path = tmp_path / "ann.json"
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": [person, ghost]}))
    found = [n for joint in [*sure, *[[50.0, 50.0, 0.1]] * 9] for n in joint]
    assert evaluate_keypoints([{"image_id": 1, "score": 0.9, "keypoints": found}], path)["AP"] == pytest.approx(1)
    boxes = [
        {"image_id": 1, "score": score, "bbox": box} for score, box in ((0.9, [200, 0, 40, 90]), (0.5, [0, 0, 90, 90]))
    ]
    for results in (boxes, boxes[1:]):
        assert evaluate_boxes(results, path)["AP"] == pytest.approx(1)


def test_image_ids_are_of_one_kind(tmp_path: Path) -> None:
    path = tmp_path / "ann.json"
    for ids, good in (((2, 1), True), (("b", "a"), True), ((2, "a"), False), ((1.5, 2), False)):
        annotations = [{"id": n, "image_id": image, "bbox": [0, 0, 9, 9]} for n, image in enumerate(ids)]
        path.write_text(json.dumps({"images": [{"id": image} for image in ids], "annotations": annotations}))
        results = [{"image_id": image, "score": 0.9, "bbox": [0, 0, 9, 9]} for image in ids]
        if good:
            assert evaluate_boxes(results, path)["AP"] == pytest.approx(1)
        else:
            with pytest.raises(DataError, match="all whole numbers, or all texts"):
                evaluate_boxes(results, path)


@pytest.mark.parametrize("kind", ["keypoints", "bbox"])
def test_an_interval_is_that_of_whole_evaluations(
    tmp_path: Path, kind: Literal["keypoints", "bbox"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only AP's size and number of results are accumulated for each draw: a third of the work, of boxes a twelfth."""
    truth = ground_truth(tmp_path / "gt.json", persons=60, images=25)
    results = noisy_results(truth, 4.0)
    for result in results:
        xy = np.array(result["keypoints"]).reshape(-1, 3)[:, :2]
        result["bbox"] = [*xy.min(0).tolist(), *np.ptp(xy, axis=0).tolist()]
    from pycocotools.cocoeval import COCOeval

    accumulate = COCOeval.accumulate
    matched: list[list[Any]] = []
    draws: list[list[int]] = []
    accumulated: list[int] = []

    def watched(self: Any, p: Any = None) -> None:
        if not matched:
            matched.append(list(self.evalImgs))
        accumulate(self, p)
        draws.append(list(self.params.imgIds))
        accumulated.append(self.eval["precision"].size)

    monkeypatch.setattr(COCOeval, "accumulate", watched)
    evaluate = evaluate_keypoints if kind == "keypoints" else evaluate_boxes
    found = interval(evaluate(results, truth, draws=5))
    monkeypatch.undo()
    evaluation = _evaluated(results, truth, kind, COCO17)
    ids = list(evaluation.params.imgIds)
    values = []
    for drawn in draws[1:]:
        chosen = [ids.index(number) for number in drawn]
        evaluation._paramsEval.imgIds = evaluation.params.imgIds = drawn
        areas = range(len(evaluation.params.areaRng))
        evaluation.evalImgs = [matched[0][area * len(ids) + i] for area in areas for i in chosen]
        evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, 0, 0, -1]
        values.append(precision[precision > -1].mean())
    assert found == tuple(np.quantile(values, [0.025, 0.975]))
    assert accumulated[1] * (3 if kind == "keypoints" else 12) == accumulated[0]
