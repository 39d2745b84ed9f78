from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autopose.data.mpii import load_mpii
from autopose.errors import DataError
from autopose.evaluation.pckh import COLUMNS, evaluate_pckh, head_lengths, pckh_table
from autopose.poses import Person
from autopose.skeleton import COCO17, MPII16


def person(head: tuple[float, float, float, float] | None = (0, 0, 60, 80)) -> Person:
    """A person whose head box has the diagonal 100, so that PCKh@0.5 allows 0.5 * 0.6 * 100 = 30 pixels."""
    joints = np.stack([np.arange(16) * 10.0, np.arange(16) * 7.0], axis=1)
    box = None if head is None else np.array(head, np.float64)
    return Person(Path("p.jpg"), np.array([0.0, 0, 200, 200]), joints, np.ones(16, np.float32), 1.0,
                  skeleton=MPII16, head_box_xyxy=box)  # fmt: skip


def results(persons: list[Person], moved: dict[tuple[int, str], float]) -> list[dict[str, Any]]:
    """Return the truth as predictions, with joints (person, name) moved to the right by pixels."""
    found = []
    for number, truth in enumerate(persons):
        xy = truth.keypoints.copy()
        for (who, joint), pixels in moved.items():
            if who == number:
                xy[MPII16.index(joint), 0] += pixels
        found.append({"keypoints": np.concatenate([xy, np.ones((16, 1))], 1).ravel().tolist()})
    return found


def test_golden_by_hand() -> None:
    persons = [person(), person()]
    moved = {
        (0, "right_wrist"): 30.0,  # just within 0.5, beyond 0.1 (6 pixels)
        (0, "left_wrist"): 30.5,
        (1, "left_wrist"): 5.9,  # within both
        (1, "head_top"): 1000.0,
        (0, "pelvis"): 1000.0,  # counts nowhere
    }
    figures = evaluate_pckh(results(persons, moved), persons)
    # 2 persons x 14 joints (16 without pelvis and thorax) = 28.
    assert figures["PCKh@0.5"] == pytest.approx(100 * 26 / 28)
    assert figures["PCKh@0.1"] == pytest.approx(100 * 25 / 28)
    assert figures["PCKh@0.5 Wrist"] == pytest.approx(75)  # right 2 of 2, left 1 of 2
    assert figures["PCKh@0.1 Wrist"] == pytest.approx(50)
    assert figures["PCKh@0.5 Head"] == pytest.approx(50)
    assert figures["PCKh@0.5 upper_neck"] == 100
    assert figures["PCKh@0.5 pelvis"] == 50
    assert figures["PCKh@0.5 Knee"] == 100


def test_total_weighs_joints_by_their_labels_and_columns_do_not() -> None:
    first, second = person(), person()
    weight = np.ones(16, np.float32)
    weight[MPII16.index("left_knee")] = 0
    persons = [first, replace(second, weight=weight)]
    figures = evaluate_pckh(results(persons, {(0, "left_knee"): 1000}), persons)
    assert figures["PCKh@0.5"] == pytest.approx(100 * 26 / 27)
    assert figures["PCKh@0.5 Knee"] == pytest.approx((0 + 100) / 2)


def test_a_column_is_that_of_its_other_joint_where_one_is_nowhere_labelled() -> None:
    weight = np.ones(16, np.float32)
    weight[MPII16.index("left_hip")] = 0
    persons = [replace(person(), weight=weight)] * 2
    figures = evaluate_pckh(results(persons, {(0, "right_hip"): 1000}), persons)
    assert figures["PCKh@0.5 Hip"] == figures["PCKh@0.5 right_hip"] == 50
    assert "PCKh@0.5 left_hip" not in figures


def test_truth_against_itself_is_100() -> None:
    persons = [person(), person((10, 10, 20, 25))]
    figures = evaluate_pckh(results(persons, {}), persons)
    assert set(figures.values()) == {100.0}


def test_table_has_the_published_columns() -> None:
    persons = [person()]
    table = pckh_table(evaluate_pckh(results(persons, {(0, "left_hip"): 500}), persons)).splitlines()
    assert table[0].split() == [*COLUMNS, "Total"]
    assert table[1].split() == ["PCKh@0.5", *["100.0"] * 4, "50.0", *["100.0"] * 2, "92.9"]
    assert table[2].split()[0] == "PCKh@0.1"
    assert pckh_table({"PCKh@0.5": 50.0}).splitlines()[1].split() == ["PCKh@0.5", *["-"] * 7, "50.0"]  # none labelled


def test_without_head_boxes_the_figure_has_another_name() -> None:
    persons = [person(None)]
    lengths, name = head_lengths(persons)
    neck, top = persons[0].keypoints[[MPII16.index("upper_neck"), MPII16.index("head_top")]]
    assert lengths[0] == pytest.approx(np.hypot(*(top - neck)))
    assert name == "PCKh-segment"
    assert evaluate_pckh(results(persons, {}), persons)["PCKh-segment@0.5"] == 100


def test_persons_without_a_measured_head_are_left_out() -> None:
    weight = np.ones(16, np.float32)
    weight[MPII16.index("head_top")] = 0
    persons = [person(None), replace(person(None), weight=weight)]
    figures = evaluate_pckh(results(persons, {(1, "left_hip"): 500}), persons)
    assert figures["PCKh-segment@0.5"] == 100


def test_refuses_what_cannot_be_compared() -> None:
    persons = [person(), person(None)]
    with pytest.raises(DataError, match="has no head box"):
        evaluate_pckh(results(persons, {}), persons)
    with pytest.raises(DataError, match="0 results for 2 persons"):
        evaluate_pckh([], persons)
    with pytest.raises(DataError, match="no annotated person"):
        evaluate_pckh([], [])
    for wrong, fault in ({"keypoints": [1.0] * 51}, "has 51 numbers; expected 48"), ({}, "is None; expected 48"):
        with pytest.raises(DataError, match=rf"results\[0\]: 'keypoints' {fault}"):
            evaluate_pckh([wrong], [person()])
    with pytest.raises(DataError, match="found coco17"):
        evaluate_pckh(results([person()], {}), [replace(person(), skeleton=COCO17)])


def test_published_labels_against_themselves(data_root: Path) -> None:
    table = data_root / "labels/mpii/test_joints.csv.gz"
    if not table.is_file():
        pytest.skip("needs MPII's labels")
    persons = load_mpii(table, images=table.parent)
    figures = evaluate_pckh(results(persons, {}), persons)
    assert len(persons) == 1991
    assert figures["PCKh-segment@0.5"] == figures["PCKh-segment@0.1"] == 100.0
