"""Boxes by hand: overlap, and which of them are kept."""

import numpy as np

from autopose.boxes import box_iou, keep_best_boxes


def test_overlap_and_suppression() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [100, 100, 110, 110]], float)
    np.testing.assert_allclose(box_iou(boxes, boxes)[0], [1, 50 / 150, 0])
    assert keep_best_boxes(boxes, np.array([0.5, 0.9, 0.1]), iou=0.3).tolist() == [1, 2]
    assert keep_best_boxes(boxes, np.array([0.5, 0.9, 0.1]), iou=0.5, limit=2).tolist() == [1, 0]


def test_a_box_is_held_against_the_kept_ones_alone() -> None:
    """10x7 overlaps 10x10 by 0.7 and 10x6 by 6/7; the latter overlap by 0.6."""
    boxes, scores = np.array([[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 7]], float), np.array([0.5, 0.9, 0.7])
    assert keep_best_boxes(boxes, scores, iou=0.65).tolist() == [1, 0]
    assert keep_best_boxes(boxes, scores, iou=0.55).tolist() == [1]
    assert keep_best_boxes(boxes, scores, iou=0.9).tolist() == [1, 2, 0]
    assert keep_best_boxes(np.zeros((0, 4)), np.zeros(0), iou=0.5).tolist() == []
