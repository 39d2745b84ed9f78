from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from autopose.affine import invert
from autopose.data.augment import (
    Augment,
    change_colour,
    degrade,
    draw_coarse,
    draw_patches,
    half_body_region,
    random_matrix,
)
from autopose.data.looks import hide, sample_at
from autopose.data.pose_dataset import PoseDataset, PoseSample
from autopose.heatmap import Codec
from autopose.poses import Person
from autopose.skeleton import COCO17

NOTHING: dict[str, Any] = {
    "flip": 0, "scale": 0, "rotation": 0, "half_body": 0, "shift": 0, "colour": 0, "grey": 0, "blur": 0, "jpeg": 0,
    "low_resolution": 0, "erase": 0,
}  # fmt: skip
CODEC = Codec(input_size_wh=(96, 128))


class OneImage:
    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.image = image

    def read(self, path: Path) -> NDArray[np.uint8]:
        return self.image


def person(keypoints: Any, weight: Any = 1.0, box: Any = (60, 40, 140, 200)) -> Person:
    weights = np.broadcast_to(np.asarray(weight, np.float32), 17).copy()
    return Person(Path("x"), np.array(box, float), np.array(keypoints, float), weights, area=1.0)


def dataset(somebody: Person, augment: Augment | None, image: Any = None) -> PoseDataset:
    picture = np.zeros((240, 200, 3), np.uint8) if image is None else image
    return PoseDataset([somebody], CODEC, augment, OneImage(picture))


def joints(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform((65, 50), (135, 190), (17, 2)).round()


def centroid(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    mass = crop[..., 0].astype(float)
    ys, xs = np.mgrid[: crop.shape[0], : crop.shape[1]]
    return np.asarray(np.array([(xs * mass).sum(), (ys * mass).sum()]) / mass.sum(), np.float64)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("low_resolution", [0, 1])
def test_joints_land_where_the_warped_pixels_land(seed: int, low_resolution: int) -> None:
    """A blob painted at one joint must be found at that joint of the sample, whatever the geometry."""
    k = seed % 17
    xy = joints(seed)
    xy[k] = np.random.default_rng(seed).integers((80, 100), (120, 140))
    image = np.zeros((240, 200, 3), np.uint8)
    cv2.circle(image, (int(xy[k, 0]), int(xy[k, 1])), 5, (255, 255, 255), -1)
    varied = {"flip": 0.5, "scale": 0.35, "rotation": 0.8, "shift": 0.05}
    augment = Augment(**{**NOTHING, **varied, "low_resolution": low_resolution})
    sample = dataset(person(xy), augment, image).sample(0, np.random.default_rng(seed))
    row = [k, int(COCO17.flip_order[k])][int(np.linalg.det(sample.matrix[:, :2]) < 0)]
    tolerance = 2.0 if low_resolution else 0.3  # half of the coarsest sampling step
    np.testing.assert_allclose(centroid(sample.crop), sample.xy[row], atol=tolerance)


def test_mirroring_by_hand() -> None:
    """A box of the crop's size, padded 1.25: 100x125 pixels at scale 0.96, mirrored about the crop's centre."""
    xy = joints()
    box = (60, 40, 140, 140)
    weight = np.arange(17) / 17 + 0.1
    plain = dataset(person(xy, weight, box), Augment(**NOTHING)).sample(0, np.random.default_rng(0))
    turned = dataset(person(xy, weight, box), Augment(**NOTHING | {"flip": 1})).sample(0, np.random.default_rng(0))
    scale = 96 / 100
    np.testing.assert_allclose(plain.xy, (xy - (100, 90)) * scale + (47.5, 63.5), atol=1e-4)
    left, right = COCO17.index("left_wrist"), COCO17.index("right_wrist")
    np.testing.assert_allclose(turned.xy[left], (95 - plain.xy[right, 0], plain.xy[right, 1]), atol=1e-4)
    np.testing.assert_allclose(turned.xy[0], (95 - plain.xy[0, 0], plain.xy[0, 1]), atol=1e-4)
    assert turned.weight[left] == np.float32(weight[right])


def test_mirroring_mirrors_the_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 200, 3), np.uint8)
    one = dataset(person(joints()), Augment(**NOTHING), image).sample(0, np.random.default_rng(0))
    other = dataset(person(joints()), Augment(**NOTHING | {"flip": 1}), image).sample(0, np.random.default_rng(0))
    difference = one.crop[:, ::-1].astype(int) - other.crop
    assert np.abs(difference).max() <= 8  # OpenCV interpolates in steps of 1/32 pixel


def test_without_variation_it_is_the_crop_of_the_evaluation() -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 200, 3), np.uint8)
    training = dataset(person(joints()), Augment(**NOTHING), image).sample(0, np.random.default_rng(3))
    plain = dataset(person(joints()), None, image).sample(0, np.random.default_rng(4))
    np.testing.assert_array_equal(training.crop, plain.crop)
    np.testing.assert_array_equal(training.xy, plain.xy)


def test_same_generator_same_sample() -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 200, 3), np.uint8)
    before = image.copy()
    everything = Augment(**{name: 1 for name in NOTHING if name not in ("scale", "shift")}, scale=0.3, shift=0.1)
    data = dataset(person(joints()), everything, image)

    def draw(seed: int) -> PoseSample:
        return data.sample(0, np.random.default_rng(seed))

    one, two, other = draw(5), draw(5), draw(6)
    np.testing.assert_array_equal(one.crop, two.crop)
    np.testing.assert_array_equal(one.xy, two.xy)
    assert (one.crop != other.crop).any()
    np.testing.assert_array_equal(image, before)  # a reader's picture is shared


@pytest.mark.parametrize(("law", "largest", "mean"), [(None, 80, 31), ("uniform", 40, 20)])
def test_scale_and_rotation_stay_in_their_ranges(law: str | None, largest: float, mean: float) -> None:
    augment = Augment(**NOTHING | {"scale": 0.35, "rotation": 0.6, "rotation_law": law})
    box, xy = np.array([0.0, 0.0, 96.0, 128.0]), np.zeros((17, 2))
    zooms, angles = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        matrix, mirrored = random_matrix(box, xy, np.zeros(17), COCO17, (96, 128), augment, rng)
        assert not mirrored
        zooms.append(1 / 1.25 / np.sqrt(np.linalg.det(matrix[:, :2])))
        angles.append(np.rad2deg(np.arctan2(matrix[0, 1], matrix[0, 0])))
    assert min(zooms) == pytest.approx(0.65)
    assert max(zooms) == pytest.approx(1.35)
    assert abs(np.mean(zooms) - 1) < 0.05
    turned = np.abs(angles) > 1e-9
    assert 0.5 < turned.mean() < 0.7
    assert np.abs(angles).max() == pytest.approx(largest, rel=0.01)  # clipped at two sigma, or uniform to one
    assert np.abs(angles)[turned].mean() == pytest.approx(mean, rel=0.1)


def test_the_centre_moves_by_a_share_of_each_side() -> None:
    augment, box = Augment(**NOTHING | {"shift": 0.1}), np.array([0.0, 0.0, 30.0, 80.0])
    region = np.array([75.0, 100.0])  # 80 high, 3:4, times 1.25
    moved = np.array(
        [
            invert(random_matrix(box, np.zeros((17, 2)), np.zeros(17), COCO17, (96, 128), augment, rng)[0])
            @ [47.5, 63.5, 1] - [15, 40]
            for rng in map(np.random.default_rng, range(200))
        ]
    )  # fmt: skip
    np.testing.assert_allclose(moved.min(0) / region, -0.1, atol=0.005)
    np.testing.assert_allclose(moved.max(0) / region, 0.1, atol=0.005)


def test_half_body_needs_more_than_eight_joints() -> None:
    always = Augment(**NOTHING | {"half_body": 1})
    box, xy = np.array([60.0, 40.0, 140.0, 200.0]), joints()

    def matrix(labelled: int) -> NDArray[np.float64]:
        weight = (np.arange(17) < labelled).astype(float)
        return random_matrix(box, xy, weight, COCO17, (96, 128), always, np.random.default_rng(0))[0]

    whole, _ = random_matrix(box, xy, np.ones(17), COCO17, (96, 128), Augment(**NOTHING), np.random.default_rng(0))
    np.testing.assert_array_equal(matrix(8), whole)
    assert np.abs(matrix(9) - whole).max() > 0.05


def test_half_body_takes_one_half_by_hand() -> None:
    xy = np.zeros((17, 2))
    upper = [i for i, name in enumerate(COCO17.joints) if not any(p in name for p in ("hip", "knee", "ankle"))]
    lower = [i for i in range(17) if i not in upper]
    xy[upper] = np.linspace((10, 10), (40, 50), len(upper))
    xy[lower] = np.linspace((20, 60), (30, 120), len(lower))
    found = set()
    for seed in range(20):
        region = half_body_region(xy, np.ones(17, bool), COCO17, 0.75, np.random.default_rng(seed))
        assert region is not None
        found.add((*region[0].round(6), *region[1].round(6)))
    # Upper: extent 30x40 is 3:4 already; lower: 10x60 widens to 45x60. Both times 1.5.
    assert found == {(25.0, 30.0, 45.0, 60.0), (25.0, 90.0, 67.5, 90.0)}
    only_upper = np.isin(np.arange(17), upper[:5])
    for seed in range(8):
        region = half_body_region(xy, only_upper, COCO17, 0.75, np.random.default_rng(seed))
        assert region is not None
        assert region[0][1] < 60
    at_one_place = half_body_region(np.full((17, 2), 7.0), only_upper, COCO17, 0.75, np.random.default_rng(0))
    assert at_one_place is not None
    np.testing.assert_allclose(at_one_place, [[7, 7], [6, 8]])  # 4 pixels, 3:4, times 1.5
    assert half_body_region(xy, np.zeros(17, bool), COCO17, 0.75, np.random.default_rng(0)) is None


def test_against_opencv_grey_is_luma() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    grey = change_colour(image, Augment(**NOTHING | {"grey": 1}), np.random.default_rng(0))
    expected = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    assert np.abs(grey.astype(int) - expected[..., None]).max() <= 1


def test_colour_keeps_grey_grey_unless_gains_change() -> None:
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    augment = Augment(**NOTHING | {"colour": 1, "gains": 0, "brightness": 0.1, "hue_deg": 30})
    for seed in range(10):
        changed = change_colour(image, augment, np.random.default_rng(seed)).astype(int)
        assert np.ptp(changed, axis=2).max() <= 1  # hue and saturation leave the grey axis alone
        assert (np.diff(changed[..., 0].ravel()) >= 0).all()  # brightness, contrast and gamma keep the order
    assert change_colour(image, Augment(**NOTHING), np.random.default_rng(0)) is image


def test_degrading_and_erasing_stay_pictures() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 48, 3), np.uint8)
    rough = degrade(image, Augment(**NOTHING | {"blur": 1, "jpeg": 1}), np.random.default_rng(0))
    assert rough.shape == image.shape
    assert rough.dtype == np.uint8
    assert rough.std() < image.std()  # noise is what blur and JPEG remove
    for one in ({"blur": 1}, {"jpeg": 1}):
        assert (degrade(image, Augment(**NOTHING | one), np.random.default_rng(0)) != image).any()
    patches = draw_patches((48, 64), Augment(**NOTHING | {"erase": 1}), np.random.default_rng(0))
    changed = (hide(image.copy(), patches) != image).any(2)
    assert 0.003 < changed.mean() < 0.4


def test_a_crop_of_nobody_keeps_its_weights_without_joints() -> None:
    """However much is varied, and with neighbours to paste: the maps of this crop are to be empty."""
    nobody, somebody = person(np.full((17, 2), np.nan)), person(joints())
    everything = Augment(half_body=1, neighbour=1, rotation=1, shift=0.3)
    crops = PoseDataset([nobody, somebody], CODEC, everything, OneImage(np.full((240, 200, 3), 90, np.uint8)))
    assert crops.neighbours.tolist() == [1]
    for seed in range(8):
        sample = crops.sample(0, np.random.default_rng(seed))
        assert np.isnan(sample.xy).all()
        assert np.isfinite(sample.matrix).all()
        np.testing.assert_array_equal(sample.weight, np.ones(17))
        maps, used = CODEC.encode(sample.xy, sample.weight)
        assert used.all()
        assert not maps.any()


def test_joints_far_outside_lose_their_weight() -> None:
    xy = joints()
    xy[0], xy[1] = (1000, 100), (160, 100)  # off by hundreds of pixels; just outside, its Gaussian reaches in
    sample = dataset(person(xy, box=(60, 40, 140, 140)), None).sample(0, np.random.default_rng(0))
    assert sample.weight[0] == 0
    assert sample.xy[1, 0] > 95
    assert sample.weight[1] == 1


def test_refuses_impossible_settings() -> None:
    for wrong in ({"flip": 1.5}, {"scale": 1.0}, {"no_such": 1}):
        with pytest.raises(ValidationError):
            Augment.model_validate(wrong)


def test_low_resolution_does_not_move_the_picture() -> None:
    """On a ramp a shift is a difference of values: over many ratios its mean is 0, however the crop is enlarged."""
    ramp = np.repeat(np.arange(96, dtype=np.uint8)[None, :, None] * 2, 128, 0).repeat(3, 2)
    augment = Augment(**NOTHING | {"low_resolution": 1})
    shifts: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(200):
        coarse = draw_coarse((96, 128), augment, np.random.default_rng(seed))
        crop = sample_at(ramp, np.eye(3)[:2], (96, 128), coarse)
        inside = (crop[20:-20, 20:-20, 0].astype(float) - ramp[20:-20, 20:-20, 0]).mean() / 2
        steps = np.diff(crop[64, 20:-20, 0].astype(int))
        shifts[bool((steps == 0).mean() > 0.3)].append(inside)  # blocks of one value: the nearest pixel
    assert len(shifts[True]) > 20
    assert all(abs(np.mean(values)) < 0.1 for values in shifts.values())
