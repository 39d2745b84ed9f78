"""Pasted neighbours: where they land, whom they hide, and that the labels stay those of the person in the middle."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.affine import transform
from autopose.data.augment import Augment
from autopose.data.neighbours import (
    Neighbour,
    can_be_cut_out,
    candidates,
    neighbour_matrix,
    paint_neighbour,
    place_neighbour,
    silhouette,
)
from autopose.data.pose_dataset import PoseDataset
from autopose.heatmap import Codec
from autopose.poses import Person
from autopose.skeleton import COCO17

#: A person standing upright, 40 wide and 160 high, from (0, 0).
STANDING = np.array(
    [
        (20, 12), (23, 9), (17, 9), (26, 11), (14, 11), (32, 35), (8, 35), (36, 60), (4, 60), (38, 82), (2, 82),
        (28, 85), (12, 85), (29, 120), (11, 120), (30, 152), (10, 152),
    ],
    np.float64,
)  # fmt: skip
EVERYTHING = np.ones(17, bool)
#: Where the person stands in the pictures below.
PLACE = np.array([100.0, 40.0])


def person(at_xy: tuple[float, float], weight: NDArray[np.float32] | None = None, path: str = "x") -> Person:
    box = np.array([*at_xy, at_xy[0] + 40, at_xy[1] + 160], np.float64)
    return Person(Path(path), box, STANDING + at_xy, np.ones(17, np.float32) if weight is None else weight, area=3000.0)


def test_silhouette_covers_the_body_and_little_else() -> None:
    mask = silhouette(STANDING + PLACE, EVERYTHING, COCO17, (240, 240))
    assert mask is not None
    assert mask.shape == (240, 240)
    columns, rows = (STANDING + PLACE).astype(int).T
    assert (mask[rows, columns] > 0.5).all()
    assert mask[100, 120] == pytest.approx(1)  # the middle of the trunk
    ys, xs = np.nonzero(mask > 0.5)
    assert xs.min() > 80
    assert xs.max() < 160
    assert ys.min() > 20
    assert ys.max() < 220
    assert 3000 < (mask > 0.5).sum() < 8000
    bent = STANDING + PLACE
    bent[5:13, 1] = bent[11, 1]  # from above: shoulders and hips at one height, and limbs no thinner for it
    folded = silhouette(bent, EVERYTHING, COCO17, (240, 240))
    assert folded is not None
    assert (folded > 0.5).sum() > 2000


@pytest.mark.parametrize("missing", ["shoulder", "hip"])
def test_nobody_is_cut_out_without_a_trunk(missing: str) -> None:
    weight = np.array([0.0 if missing in name else 1.0 for name in COCO17.joints], np.float32)
    assert not can_be_cut_out(person((0, 0), weight))
    assert silhouette(STANDING, weight > 0, COCO17, (64, 64)) is None


def test_few_joints_are_not_enough() -> None:
    weight = np.zeros(17, np.float32)
    weight[[5, 6, 11, 12, 7, 8, 13, 14]] = 1
    few = person((0, 0), weight)
    enough = person((0, 0), np.where(np.arange(17) == 0, 1, weight).astype(np.float32))
    assert candidates([few, enough, few]).tolist() == [1]


def test_neighbour_stands_beside_and_about_as_high() -> None:
    box, other = np.array([100.0, 40, 140, 200]), np.array([10.0, 10, 50, 90])
    crop = np.array([[2.0, 0, -50], [0, 2.0, -30]])
    mirrored = 0
    for seed in range(50):
        matrix = neighbour_matrix(box, other, crop, np.random.default_rng(seed))
        mirrored += np.linalg.det(matrix[:, :2]) < 0
        corners = transform(np.array([[10.0, 10], [50, 10], [10, 90]]), matrix)
        height = np.linalg.norm(corners[2] - corners[0])
        assert 320 * np.exp(-1.2) < height < 320 * np.exp(1.2)
        assert height / np.linalg.norm(corners[1] - corners[0]) == pytest.approx(2)  # not squeezed
        centre = transform(np.array([[30.0, 50.0]]), matrix)[0]
        own = transform(np.array([[120.0, 120.0]]), crop)[0]
        assert abs(centre[0] - own[0]) >= 0.3 * (80 + height / 2) / 2 - 1e-6
        assert abs(centre[1] - own[1]) <= 0.2 * 320 + 1e-6
    assert 10 < mirrored < 40


def painted(
    crop: NDArray[np.uint8],
    xy: NDArray[np.float64],
    weight: NDArray[np.float32],
    image: NDArray[np.uint8],
    other: Person,
    matrix: NDArray[np.float64],
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    size_wh, rng = (crop.shape[1], crop.shape[0]), np.random.default_rng(seed)
    alpha, weight = place_neighbour(xy, weight, COCO17, size_wh, other, matrix, rng)
    return crop if alpha is None else paint_neighbour(crop, image, Neighbour(0, matrix, alpha)), weight


def paste(dx: float, seed: int, unlabelled: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Paste a white person ``dx`` beside a person in a black crop, whose first joints may have no label."""
    black, white = np.zeros((240, 240, 3), np.uint8), np.full((240, 240, 3), 255, np.uint8)
    matrix = np.array([[1.0, 0, dx], [0, 1, 0]])
    xy, weight = STANDING + PLACE, np.ones(17, np.float32)
    xy[:unlabelled], weight[:unlabelled] = np.nan, 0
    return painted(black, xy, weight, white, person((100, 40)), matrix, seed)


def test_hidden_joints_count_half_and_others_fully() -> None:
    left = np.array([name.startswith("left") for name in COCO17.joints])
    fronts = 0
    for seed in range(12):
        crop, weight = paste(30, seed)
        hidden = weight < 1
        assert set(weight.tolist()) <= {0.5, 1.0}
        assert not (hidden & ~left).any()  # the neighbour stands at the left side
        assert crop[120, 150].min() > 200  # the middle of the neighbour's trunk
        fronts += bool(hidden.any())
    assert 0 < fronts < 12  # else the neighbour stands behind


def test_joints_without_a_label_can_be_anything() -> None:
    for seed in range(4):
        crop, _ = paste(30, seed, unlabelled=5)
        assert crop.any()


def test_a_photographs_edge_goes_on_where_it_ends() -> None:
    white, beside = np.full((240, 240, 3), 255, np.uint8), np.array([[1.0, 0, 60], [0, 1, 0]])
    crop, _ = painted(white, STANDING + PLACE, np.ones(17, np.float32), white, person((-20, 40)), beside, 0)
    assert crop is not white
    assert crop.min() > 250


def test_nobody_is_hidden_by_half() -> None:
    unchanged = 0
    for seed in range(12):
        crop, weight = paste(2, seed)
        if not crop.any():
            unchanged += 1
            assert (weight == 1).all()
        else:  # behind: only a rim is seen
            assert (weight == 1).all()
            assert (crop > 128).mean() < 0.03
    assert unchanged


class TwoImages:
    """Grey for the person, white for the neighbour."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        return np.full((240, 240, 3), 60 if path.name == "x" else 255, np.uint8)


def test_the_labels_of_a_crop_are_the_persons_own() -> None:
    codec = Codec(input_size_wh=(96, 128))
    never = ("flip", "scale", "rotation", "half_body", "shift", "colour", "grey", "blur", "jpeg", "low_resolution")
    nothing = Augment().model_dump() | dict.fromkeys((*never, "erase"), 0.0)
    persons = [person((100, 40)), person((100, 40), path="other")]
    alone = PoseDataset(persons, codec, Augment(**nothing), TwoImages())
    beside = PoseDataset(persons, codec, Augment(**nothing | {"neighbour": 1.0}), TwoImages())
    changed = 0
    for seed in range(20):
        a, b = (dataset.sample(0, np.random.default_rng(seed)) for dataset in (alone, beside))
        assert np.array_equal(a.xy, b.xy)
        assert np.array_equal(a.matrix, b.matrix)
        assert ((b.weight == a.weight) | (b.weight == a.weight / 2)).all()
        changed += bool((a.crop != b.crop).any())
    assert changed > 3


def test_who_can_be_cut_out_is_who_has_a_silhouette_and_most_joints() -> None:
    rng = np.random.default_rng(0)
    for share in rng.uniform(0.3, 1, 100):
        labelled = rng.random(17) < share
        has_trunk = silhouette(STANDING, labelled, COCO17, (50, 160)) is not None
        assert can_be_cut_out(person((0, 0), labelled.astype(np.float32))) == (has_trunk and labelled.sum() >= 9)


def test_which_joints_are_meant_is_worked_out_once() -> None:
    """It is asked of every person of a data set, four times for each who is painted."""
    hips = COCO17.named("hip")
    assert COCO17.named("hip") is hips
    assert not hips.flags.writeable
