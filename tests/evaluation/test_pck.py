from pathlib import Path

import numpy as np
import pytest

from autopose.errors import DataError
from autopose.evaluation.pck import evaluate_pck, head_size, pck
from autopose.poses import Person
from autopose.skeleton import COCO17


def test_pck_by_hand() -> None:
    truth = np.zeros((2, 3, 2))
    predicted = np.array([[(3, 4), (0, 5.1), (0, 0)], [(6, 8), (0, 10), (100, 0)]], float)
    labelled = np.array([[True, True, False], [True, True, False]])
    per_joint, overall = pck(predicted, truth, labelled, np.array([50.0, 100.0]), 0.1)
    # Limits are 5 and 10 pixels: 5 <= 5 hits, 5.1 misses; 10 <= 10 hits twice. Joint 2 has no label.
    assert per_joint[:2].tolist() == [1.0, 0.5]
    assert np.isnan(per_joint[2])
    assert overall == pytest.approx(0.75)


def test_head_size_is_six_tenths_of_the_diagonal() -> None:
    np.testing.assert_allclose(head_size(np.array([[0, 0, 3, 4], [10, 10, 40, 50]])), [3.0, 30.0])


def person(weight: float = 1) -> Person:
    return Person(
        Path("x"), np.array([0.0, 0, 50, 100]), np.zeros((17, 2)), np.full(17, weight, np.float32), area=1.0
    )  # fmt: skip


def test_figures_of_persons() -> None:
    def result(distance: float) -> dict[str, list[float]]:
        return {"keypoints": [0.0, distance, 1.0] * 17}

    persons = [person(), person(), person(), person(weight=0)]
    figures = evaluate_pck([result(4), result(9), result(15), result(999)], persons, COCO17)  # of a longer side of 100
    assert (figures["PCK@0.05"], figures["PCK@0.1"], figures["PCK@0.2"]) == pytest.approx((1 / 3, 2 / 3, 1))
    assert figures["PCK@0.1 left_knee"] == pytest.approx(2 / 3)
    assert len(figures) == 3 + 17
    assert list(evaluate_pck([result(4)], persons[3:], COCO17)) == ["PCK@0.05", "PCK@0.1", "PCK@0.2"]


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="0 results for 1 persons"):
        evaluate_pck([], [person()], COCO17)
    with pytest.raises(DataError, match="no annotated person"):
        evaluate_pck([], [], COCO17)
