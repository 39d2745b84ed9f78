"""Decoding as published code does it: boundary rules, frames, DARK and UDP, against hand-made maps and plain loops."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.errors import DataError
from autopose.heatmap import PUBLISHED, Codec, blur_matrix, decode, oks_widths
from autopose.skeleton import COCO17


def one_peak(x: int, y: int, size_wh: tuple[int, int] = (12, 16)) -> NDArray[np.float32]:
    """A map with its peak at x, y and higher neighbours to the right and below, where they exist."""
    width, height = size_wh
    maps = np.zeros((1, 1, height, width), np.float32)
    maps[0, 0, y, x] = 1
    if x + 1 < width:
        maps[0, 0, y, x + 1] = 0.5
    if y + 1 < height:
        maps[0, 0, y + 1, x] = 0.5
    return maps


@pytest.mark.parametrize(
    ("x", "y", "step"),
    [
        (5, 5, 0.25),
        (2, 2, 0.25),  # the first cell that 1 < p allows
        (1, 5, 0.0),  # and one that it does not, although both neighbours exist: neither axis steps
        (5, 1, 0.0),
        (10, 14, 0.25),  # p < w - 1: the last but one cell steps
        (11, 5, 0.0),
        (5, 15, 0.0),
        (0, 0, 0.0),
    ],
)
def test_golden_hrnet_boundary_rule(x: int, y: int, step: float) -> None:
    xy, _ = decode(one_peak(x, y), refine="hrnet")
    assert xy[0, 0].tolist() == [x + step, y + step]


def test_golden_quarter_has_another_boundary_rule() -> None:
    xy, _ = decode(one_peak(1, 5), refine="quarter")
    assert xy[0, 0].tolist() == [1.25, 5.25]
    xy, _ = decode(one_peak(0, 5), refine="quarter")
    assert xy[0, 0].tolist() == [0, 5.25]  # axis by axis


def plain_loops(maps: NDArray[np.float32]) -> Any:
    """The rule as its description says, joint by joint."""
    found = []
    for person in maps:
        for values in person:
            y, x = divmod(int(values.argmax()), values.shape[1])
            height, width = values.shape
            position = [float(x), float(y)] if values.max() > 0 else [0.0, 0.0]
            if values.max() > 0 and 1 < x < width - 1 and 1 < y < height - 1:
                position[0] += 0.25 * np.sign(values[y, x + 1] - values[y, x - 1])
                position[1] += 0.25 * np.sign(values[y + 1, x] - values[y - 1, x])
            found.append(position)
    return np.array(found).reshape(*maps.shape[:2], 2)


def test_against_plain_loops() -> None:
    maps = np.random.default_rng(0).normal(0, 1, (40, 5, 8, 6)).astype(np.float32)
    maps[0] -= 9  # no positive peak: cell 0, 0
    xy, _ = decode(maps, refine="hrnet")
    np.testing.assert_allclose(xy, plain_loops(maps))


@pytest.mark.parametrize(
    ("name", "xy_crop", "shift"),
    [
        ("hrnet", [4 * 5.25, 4 * 6.25], 1),
        ("posenfs", [4 * 5.25 + 0.5, 4 * 6.25 + 0.5], 0),
        ("aligned", [4 * 5.25 + 1.5, 4 * 6.25 + 1.5], 0),
    ],
)
def test_golden_published_frames(name: str, xy_crop: list[float], shift: int) -> None:
    codec = Codec.published(name, input_size_wh=(48, 64))
    xy, scores = codec.decode(one_peak(5, 6))
    np.testing.assert_allclose(xy[0, 0], xy_crop)
    assert scores[0, 0] == 1
    assert codec.flip_shift == shift


def test_udp_cells_span_the_outer_pixels_centres() -> None:
    codec = Codec.published("udp")
    corners = np.array([[0, 0], [47, 63]])
    np.testing.assert_allclose(codec.crop_from_heatmap(corners), [[0, 0], [191, 255]])
    xy = np.array([[17.3, 101.2]])
    np.testing.assert_allclose(codec.crop_from_heatmap(codec.heatmap_from_crop(xy)), xy)


@pytest.mark.parametrize("name", ["aligned", "udp"])
def test_mirroring_is_exact_without_a_shift(name: str) -> None:
    codec = Codec.published(name)
    xy = np.random.default_rng(0).uniform([20, 20], [170, 230], (17, 2))
    mirrored = np.stack([191 - xy[:, 0], xy[:, 1]], 1)[COCO17.flip_order]
    ones = np.ones(17)
    maps, flipped = codec.encode(xy, ones)[0], codec.encode(mirrored, ones)[0]
    np.testing.assert_allclose(codec.merge_flipped(maps[None], flipped[None], COCO17.flip_order)[0], maps, atol=1e-5)


def test_blur_is_a_gaussian_that_forgets_nothing_inside() -> None:
    matrix = blur_matrix(40, 2.0)
    assert matrix[20].sum() == pytest.approx(1)
    assert (matrix[20] > 0).sum() == 11
    assert matrix[20, 22] / matrix[20, 20] == pytest.approx(math.exp(-0.5))
    assert (blur_matrix(60, 3.0)[30] > 0).sum() == 17
    assert matrix[0].sum() < 0.7  # outside is 0


@pytest.mark.parametrize("name", ["dark", "udp"])
def test_dark_with_smoothing_finds_clean_maps_and_suffers_less_from_noise(name: str) -> None:
    rng = np.random.default_rng(0)
    codec = Codec.published(name)
    xy = rng.uniform([40, 40], [150, 210], (200, 2))
    maps, _ = codec.encode(xy, np.ones(200))
    assert np.abs(codec.decode(maps[None])[0][0] - xy).max() < 0.1
    noisy = (maps + rng.normal(0, 0.05, maps.shape)).astype(np.float32)[None]
    errors = {
        refine: np.abs(codec.model_copy(update={"refine": refine}).decode(noisy)[0][0] - xy).mean()
        for refine in ("none", "quarter", "dark", "dark-blur")
    }
    assert errors["dark-blur"] < 0.5 * min(errors["none"], errors["quarter"], errors["dark"])


def test_expected_oks_is_maximal_at_the_decoded_position() -> None:
    """Two places where a joint may be: two that lie close together hold more expected OKS than one higher peak."""
    codec = Codec(refine="oks", oks_sigmas=(0.107, 0.025))
    width, height = codec.heatmap_size_wh
    probability = {(10, 12): 0.4, (30, 40): 0.32, (37, 40): 0.28}  # cells and how likely they are
    cells = codec.crop_from_heatmap(np.array(list(probability)))
    share = np.array(list(probability.values()), np.float32)
    maps = (codec.encode(cells, np.ones(3))[0] * share[:, None, None]).sum(0)
    xy, scores = codec.decode(np.stack([maps, maps])[None])
    assert scores[0] == pytest.approx(np.full(2, maps.max()))  # the map's own peak, not the blurred one's

    scale = 0.39 * codec.input_size_wh[1]
    every = codec.crop_from_heatmap(np.stack(np.meshgrid(np.arange(0, width, 0.1), np.arange(0, height, 0.1)), -1))
    for joint, constant in enumerate(codec.oks_sigmas or ()):
        distance = ((every[..., None, :] - cells) ** 2).sum(-1)
        expected = (np.exp(-distance / (2 * (2 * constant * scale) ** 2)) * share).sum(-1)
        best = every[np.unravel_index(expected.argmax(), expected.shape)]
        if joint == 0:  # a hip: between the two
            assert 30 * 4 + 2 < best[0] < 37 * 4 + 1
            assert xy[0, joint] == pytest.approx(best, abs=1.5)
        else:  # an eye: the likeliest single place
            assert np.linalg.norm(best - cells[0]) < 0.5
            assert xy[0, joint] == pytest.approx(cells[0], abs=0.5)


def test_what_is_missing_of_the_similaritys_width_is_blurred_on_and_at_least_a_cell() -> None:
    hip = 2 * 0.107 * 0.39 * 64  # cells; the training's own 2 are there already
    assert oks_widths((0.107, 0.025), 64, 2.0) == pytest.approx([math.sqrt(hip**2 - 4), 1])


def test_expected_oks_needs_a_constant_per_joint() -> None:
    with pytest.raises(DataError, match="17 joints, but the maps show 4"):
        Codec(refine="oks").decode(np.zeros((1, 4, 64, 48)))


def test_every_published_name_and_no_other() -> None:
    for name in PUBLISHED:
        codec = Codec.published(name)
        assert Codec.model_validate(codec.model_dump()) == codec
    with pytest.raises(DataError, match="hrnet"):
        Codec.published("hrnett")
