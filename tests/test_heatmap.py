"""The codec: what is encoded is decoded, conventions as published, neighbours by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopose.heatmap import Codec, Convention, Refine, decode
from autopose.skeleton import COCO17

CODEC = Codec()


@given(st.floats(4, 187), st.floats(4, 251), st.sampled_from(["aligned", "hrnet"]))
def test_roundtrip_within_a_quarter_cell_and_with_dark_almost_exactly(
    x: float, y: float, convention: Convention
) -> None:
    xy = np.array([[x, y]])
    errors: dict[Refine, float] = {"none": 2.01, "quarter": 1.01, "dark": 0.02}
    for refine, error in errors.items():
        codec = Codec(convention=convention, refine=refine)
        maps, weight = codec.encode(xy, np.ones(1))
        found, score = codec.decode(maps[None])
        assert weight == [1]
        inside = (codec.heatmap_from_crop(xy) > 0.5).all() and (codec.heatmap_from_crop(xy) < [46.5, 62.5]).all()
        if inside:
            assert np.abs(found[0, 0] - xy[0]).max() <= error
            assert score[0, 0] > 0.85


def test_golden_gaussian() -> None:
    maps, _ = Codec(convention="hrnet").encode(np.array([[80.0, 120.0]]), np.ones(1))
    assert maps.shape == (1, 64, 48)
    assert maps[0, 30, 20] == 1  # x = 80 / 4, y = 120 / 4
    assert maps[0, 30, 22] == pytest.approx(np.exp(-4 / 8))
    assert maps[0, 32, 22] == pytest.approx(np.exp(-8 / 8))


def test_joints_without_label_or_far_outside_have_no_target() -> None:
    xy = np.array([[50.0, 50.0], [-40.0, 50.0], [50.0, 50.0]])
    maps, weight = CODEC.encode(xy, np.array([1, 1, 0]))
    np.testing.assert_array_equal(weight, [1, 0, 0])
    assert maps[0].max() > 0.9
    assert not maps[1:].any()
    # Three sigma are six cells of four pixels; cell 0 lies at 1.5, the last column at 189.5.
    edges = np.array([[x, 50.0] for x in (-22.4, -22.6, 213.4, 213.6)])
    np.testing.assert_array_equal(CODEC.encode(edges, np.ones(4))[1], [1, 0, 1, 0])


def test_quarter_step_goes_towards_the_higher_neighbour_and_not_at_the_border() -> None:
    maps = np.zeros((1, 3, 5, 6), np.float32)
    maps[0, 0, 2, 3], maps[0, 0, 2, 4], maps[0, 0, 1, 3] = 1, 0.5, 0.2
    maps[0, 1, 2, 0], maps[0, 1, 2, 1], maps[0, 1, 3, 0] = 1, 0.5, 0.5  # first column: no step in x
    maps[0, 2, 2, 3] = 1  # equal neighbours: no step
    xy, scores = decode(maps)
    np.testing.assert_allclose(xy[0], [[3.25, 1.75], [0.0, 2.25], [3.0, 2.0]])
    np.testing.assert_array_equal(scores, [[1, 1, 1]])


def test_darks_step_reaches_the_top_of_a_slanted_hill() -> None:
    offset = np.stack(np.meshgrid(np.arange(11), np.arange(9)), -1) - (5.3, 3.8)
    hill = np.exp(-0.5 * np.einsum("yxa,ab,yxb->yx", offset, [[0.5, 0.3], [0.3, 0.4]], offset))
    np.testing.assert_allclose(decode(hill[None, None], refine="dark")[0][0, 0], [5.3, 3.8], atol=1e-3)


def test_darks_step_stays_within_the_cell() -> None:
    """A ridge along the diagonal: Newton's step from its highest cell would be two cells long."""
    maps = np.full((1, 1, 5, 5), np.exp(-9), np.float32)
    maps[0, 0, 1:4, 1:4] = np.exp(np.array([[-1, -2, -4], [-2, 0, -0.1], [-4, -0.1, -0.1]]))
    assert decode(maps, refine="dark")[0][0, 0].tolist() == [2.5, 2.5]


def test_golden_conventions() -> None:
    cells = np.array([[10.0, 20.0]])
    np.testing.assert_allclose(Codec(convention="aligned").crop_from_heatmap(cells), [[41.5, 81.5]])
    np.testing.assert_allclose(Codec(convention="hrnet").crop_from_heatmap(cells), [[40, 80]])
    np.testing.assert_allclose(Codec(convention="posenfs").crop_from_heatmap(cells), [[40.5, 80.5]])
    conventions: tuple[Convention, ...] = ("aligned", "hrnet", "posenfs")
    assert [Codec(convention=c).flip_shift for c in conventions] == [0, 1, 0]


@pytest.mark.parametrize(
    ("size", "stride", "convention", "least"), [((3, 32), 4, "aligned", 1), ((32, 32), 32, "udp", 2)]
)
def test_refuses_maps_without_cells(size: tuple[int, int], stride: int, convention: Convention, least: int) -> None:
    with pytest.raises(ValueError, match=f"fewer than {least} cells"):
        Codec(input_size_wh=size, stride=stride, convention=convention)
    assert Codec(input_size_wh=(32, 32), stride=32).heatmap_size_wh == (1, 1)


def test_a_perfect_mirrored_map_changes_nothing() -> None:
    """Averaging with the maps of the mirrored crop is the identity for a perfect network (aligned convention)."""
    rng = np.random.default_rng(0)
    xy = rng.uniform([20, 20], [170, 230], (17, 2))
    mirrored = np.stack([191 - xy[:, 0], xy[:, 1]], 1)[COCO17.flip_order]
    maps, _ = CODEC.encode(xy, np.ones(17))
    flipped, _ = CODEC.encode(mirrored, np.ones(17))
    before = flipped.copy()
    merged = CODEC.merge_flipped(maps[None], flipped[None], COCO17.flip_order)
    np.testing.assert_allclose(merged[0], maps, atol=1e-5)
    np.testing.assert_array_equal(flipped, before)  # HRNet's flip_back writes into its input; ours must not


def test_the_hrnet_shift_is_one_cell_to_the_right() -> None:
    flipped = np.zeros((1, 17, 4, 5), np.float32)
    flipped[0, 0, 1, 3] = 1  # mirrored back: column 1, shifted: column 2
    merged = Codec(convention="hrnet").merge_flipped(np.zeros_like(flipped), flipped, COCO17.flip_order)
    assert np.argwhere(merged).tolist() == [[0, 0, 1, 2]]
