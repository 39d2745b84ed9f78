"""Frames: hand-computed corners, exact inverses, and OpenCV's own idea of where a pixel lands."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopose.affine import (
    center_scale_from_box,
    crop_matrix,
    invert,
    letterbox_matrix,
    transform,
    transform_boxes,
    warp,
    warp_shrunk,
)

SIZE = (192, 256)


def test_a_box_of_the_inputs_aspect_is_padded_by_a_quarter() -> None:
    center, region = center_scale_from_box(np.array([10.0, 20.0, 40.0, 60.0]), 0.75)
    np.testing.assert_allclose(center, [25, 40])
    np.testing.assert_allclose(region, [30 * 1.25, 40 * 1.25])


def test_the_shorter_side_grows_to_the_aspect() -> None:
    _, wide = center_scale_from_box(np.array([0.0, 0.0, 75.0, 10.0]), 0.75, padding=1)
    _, tall = center_scale_from_box(np.array([0.0, 0.0, 10.0, 100.0]), 0.75, padding=1)
    np.testing.assert_allclose(wide, [75, 100])
    np.testing.assert_allclose(tall, [75, 100])


def test_the_centre_lands_on_the_centre_and_a_quarter_turn_is_counter_clockwise() -> None:
    matrix = crop_matrix(np.array([100.0, 50.0]), np.array([96.0, 128.0]), SIZE, 90)
    np.testing.assert_allclose(transform(np.array([[100.0, 50.0]]), matrix), [[95.5, 127.5]], atol=1e-9)
    # 10 px to the right of the centre, two crop pixels each, ends up above it (y down) after a counter-clockwise turn.
    np.testing.assert_allclose(transform(np.array([[110.0, 50.0]]), matrix), [[95.5, 107.5]], atol=1e-9)


def test_against_opencv_rotation() -> None:
    ours = crop_matrix(np.array([95.5, 127.5]), np.array([96.0, 128.0]), SIZE, 33)
    theirs = cv2.getRotationMatrix2D((95.5, 127.5), 33, 2.0)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@given(
    st.floats(-500, 500), st.floats(-500, 500), st.floats(1, 900), st.floats(-180, 180), st.integers(0, 2**31)
)  # fmt: skip
def test_roundtrip_of_points(x: float, y: float, width: float, angle: float, seed: int) -> None:
    matrix = crop_matrix(np.array([x, y]), np.array([width, width * 4 / 3]), SIZE, angle)
    points = np.random.default_rng(seed).uniform(-1000, 1000, (5, 2))
    np.testing.assert_allclose(transform(transform(points, matrix), invert(matrix)), points, atol=1e-6)


def test_warp_puts_a_pixel_where_the_matrix_says() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[30, 70] = 255
    matrix = crop_matrix(np.array([70.0, 30.0]), np.array([191.0, 255.0]) * 192 / 191, SIZE)
    crop = warp(image, matrix, (193, 257))
    ((x, y),) = transform(np.array([[70.0, 30.0]]), matrix)
    bright = np.argwhere(crop[..., 0] > 60)[:, ::-1]
    assert len(bright)
    assert np.abs(bright - [x, y]).max() <= 1


def test_the_letterbox_keeps_pixel_edges() -> None:
    matrix = letterbox_matrix((640, 480), (320, 320))
    corners = transform(np.array([[-0.5, -0.5], [639.5, 479.5]]), matrix)  # the outer edges of the outer pixels
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [319.5, 239.5]])


def test_boxes_go_from_edge_to_edge() -> None:
    """Halved, an image 8 wide becomes 4 wide; mirrored, what was 2 to 6 from the left of 10 is so from the right."""
    halved = letterbox_matrix((8, 6), (4, 3))
    np.testing.assert_allclose(
        transform_boxes(np.array([[0, 0, 8, 6], [2, 1, 6, 4]]), halved), [[0.0, 0.0, 4.0, 3.0], [1.0, 0.5, 3.0, 2.0]]
    )
    mirrored = np.array([[-1.0, 0, 9], [0, 1, 0]])  # of an image 10 wide: pixel 0 becomes pixel 9
    np.testing.assert_allclose(transform_boxes(np.array([[2, 1, 6, 4]], np.float32), mirrored), [[4, 1, 8, 4]])
    assert transform_boxes(np.zeros((0, 4)), mirrored).shape == (0, 4)


@pytest.mark.parametrize("mirrored", [False, True])
def test_warp_shrunk_takes_the_mean_of_what_becomes_a_pixel(mirrored: bool) -> None:
    """To a quarter: each pixel is the mean of 16, where ``warp`` takes 4 of them; the lower right is moved in by 3."""
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    matrix = letterbox_matrix((64, 48), (16, 12))
    matrix[:, 2] -= 3
    expected = image.reshape(12, 4, 16, 4, 3).mean((1, 3))[3:, 3:]
    if mirrored:
        matrix[0] = [-matrix[0, 0], 0, 12 - matrix[0, 2]]
        expected = expected[:, ::-1]
    shrunk = warp_shrunk(image, matrix, (13, 9))
    assert np.abs(shrunk - expected).max() <= 1
    assert np.abs(warp(image, matrix, (13, 9)) - expected).max() > 20


def test_warp_shrunk_leaves_what_is_not_shrunk() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    matrix = np.array([[2.0, 0, 1.5], [0, 1.5, -2.25]])
    enlarged = warp(image, matrix, (40, 20), (1, 2, 3))
    np.testing.assert_array_equal(warp_shrunk(image, matrix, (40, 20), (1, 2, 3)), enlarged)
    assert (enlarged[:, -1] == (1, 2, 3)).all()  # beyond the right edge
    # A line becomes less than half a pixel high.
    assert warp_shrunk(image[:1], letterbox_matrix((16, 1), (4, 4)), (4, 4)).shape == (4, 4, 3)


def test_images_beyond_what_opencv_4_warps() -> None:
    wide = np.zeros((100, 70_000, 3), np.uint8)
    wide[:] = (np.arange(70_000) // 300)[:, None]
    end = warp(wide, np.array([[1.0, 0, -69_990], [0, 1, 0]]), (20, 4), (9, 9, 9))
    np.testing.assert_array_equal(end[:, :10], wide[:4, 69_990:])
    assert (end[:, 11:] == 9).all()
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    end = warp(tall, np.array([[1.0, 0, 0], [0, 1, -69_990]]), (4, 10))
    np.testing.assert_array_equal(end, tall[69_990:, :4])
    whole = warp(wide, letterbox_matrix((70_000, 100), (700, 8)), (700, 8))
    np.testing.assert_allclose(whole[0, :, 0], (np.arange(700) * 100 + 50) // 300, atol=1)
    whole = warp(tall, letterbox_matrix((100, 70_000), (8, 700)), (8, 700))
    np.testing.assert_allclose(whole[:, 0, 0], (np.arange(700) * 100 + 50) // 300, atol=1)
    for offset in (500, -70_500):
        beside = warp(wide, np.array([[1.0, 0, offset], [0, 1, 0]]), (20, 4), (9, 9, 9))
        assert (beside == 9).all()


@pytest.mark.parametrize("width", [32_767, 40_000])
def test_a_turned_crop_of_a_huge_image_is_that_of_its_end(width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, width, 3), np.uint8)
    found, expected = (
        warp(image, crop_matrix(np.array([image.shape[1] - 30.0, 18]), np.array([20.0, 20]), (64, 64), 30), (64, 64))
        for image in (noise, np.ascontiguousarray(noise[:, -1000:]))
    )
    assert np.abs(found - expected.astype(int)).max() <= 8  # OpenCV 4 counts in 32nds of a pixel
