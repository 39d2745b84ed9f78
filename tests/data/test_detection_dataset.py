from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.data.detection_dataset import DetectionAugment, DetectionDataset, SceneColour
from autopose.data.scenes import Scene

PLAIN = SceneColour(colour=0, grey=0, blur=0, jpeg=0, erase=0, low_resolution=0)
SIZE = (128, 96)


class Rectangles:
    """A reader whose pictures are black but for a white rectangle where the scene's box is."""

    def __init__(self, scenes: list[Scene]) -> None:
        self.images = {}
        for scene in scenes:
            image = np.zeros((scene.size_wh[1], scene.size_wh[0], 3), np.uint8)
            for x0, y0, x1, y1 in scene.boxes.astype(int):
                image[y0:y1, x0:x1] = 255
            self.images[scene.image_path] = image

    def read(self, path: Path) -> NDArray[np.uint8]:
        return self.images[path]


def scene(*boxes: Any, size_wh: tuple[int, int] = (200, 300), ignore: Any = (), name: str = "a") -> Scene:
    array = np.array(boxes, float).reshape(-1, 4)
    return Scene(
        Path(name), size_wh, array, np.full(len(array), 0.5, np.float32), np.array(ignore, float).reshape(-1, 4)
    )


def extent(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    rows, columns = np.nonzero(image.min(2) > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_evaluation_input_is_letterboxed_by_hand() -> None:
    """200x300 into 128x96: the height decides, factor 0.32; box edges are multiplied by it."""
    scenes = [scene((50, 100, 150, 250), ignore=[(0, 0, 20, 40)])]
    sample = DetectionDataset(scenes, SIZE, None, Rectangles(scenes)).sample(0, np.random.default_rng(0))
    assert sample.image.shape == (96, 128, 3)
    np.testing.assert_allclose(sample.boxes, [[16, 32, 48, 80]], atol=1e-4)
    np.testing.assert_allclose(sample.ignore, [[0, 0, 6.4, 12.8]], atol=1e-4)
    np.testing.assert_array_equal(extent(sample.image), [16, 32, 48, 80])
    assert (sample.image[:, 64:] == 0).all()  # the picture ends at 200 * 0.32
    np.testing.assert_array_equal(sample.weight, [np.float32(0.5)])


def test_boxes_follow_the_pixels() -> None:
    scenes = [scene((70, 110, 130, 200))]
    augment = DetectionAugment(mosaic=0, zoom=(0.6, 2.0), colour=PLAIN, min_visible=0, min_side=0)
    data = DetectionDataset(scenes, SIZE, augment, Rectangles(scenes))
    checked = 0
    for seed in range(40):
        sample = data.sample(0, np.random.default_rng(seed))
        corners = sample.image[[0, 0, -1, -1], [0, -1, 0, -1]]
        if (corners.min(1) > 127).any() or not len(sample.boxes):
            continue  # a bright border hides the rectangle, or it is outside
        assert np.abs(extent(sample.image) - sample.boxes[0]).max() <= 1.3
        checked += 1
    assert checked > 20


def test_pictures_that_fill_the_input_are_mirrored_and_enlarged_by_hand() -> None:
    for size, factor in (((128, 96), 1), ((64, 48), 2)):
        scenes = [scene((10, 20, 50, 40), size_wh=size)]
        for flip in (0, 1):
            augment = DetectionAugment(mosaic=0, zoom=(1, 1), stretch=0, flip=flip, colour=PLAIN)
            sample = DetectionDataset(scenes, SIZE, augment, Rectangles(scenes)).sample(0, np.random.default_rng(0))
            left, right = (size[0] - 50, size[0] - 10) if flip else (10, 50)
            np.testing.assert_allclose(sample.boxes, [np.multiply([left, 20, right, 40], factor)], atol=1e-4)
            np.testing.assert_array_equal(extent(sample.image), np.multiply([left, 20, right, 40], factor))


def test_zoom_and_stretch_stay_in_their_ranges() -> None:
    scenes = [scene((50, 100, 150, 200))]
    augment = DetectionAugment(mosaic=0, zoom=(0.5, 1), stretch=0.5, colour=PLAIN, min_side=0)
    data = DetectionDataset(scenes, SIZE, augment, Rectangles(scenes))
    sides = np.array(
        [np.diff(data.sample(0, np.random.default_rng(i)).boxes.reshape(2, 2), axis=0)[0] for i in range(80)]
    )
    zooms, ratios = np.sqrt(sides.prod(1)) / 32, np.log2(sides[:, 0] / sides[:, 1])  # 100 pixels are 32 when it fits
    for values, low, high in ((zooms, 0.5, 1), (ratios, -0.5, 0.5)):
        assert low - 1e-3 <= values.min() < low + 0.1
        assert high - 0.1 < values.max() <= high + 1e-3


def test_a_checkerboard_is_shrunk_by_areas_or_with_aliasing() -> None:
    squares = np.indices((480, 640)).sum(0) % 2 * np.uint8(255)
    scenes = [scene(size_wh=(640, 480))]
    reader = Rectangles(scenes)
    reader.images[Path("a")] = np.repeat(squares.astype(np.uint8)[..., None], 3, 2)
    spreads = []
    for smooth in (0, 1):
        augment = DetectionAugment(mosaic=0, zoom=(1, 1), stretch=0, colour=PLAIN, smooth_shrink=smooth)
        spreads.append(DetectionDataset(scenes, SIZE, augment, reader).sample(0, np.random.default_rng(0)).image.std())
    assert spreads[0] > 100
    assert spreads[1] < 10


def test_colours_and_sharpness_change_and_the_boxes_do_not() -> None:
    scenes = [scene((50, 100, 150, 200))]
    plain, *changed = (
        DetectionDataset(
            scenes, SIZE, DetectionAugment(colour=PLAIN.model_copy(update=more)), Rectangles(scenes)
        ).sample(0, np.random.default_rng(0))
        for more in ({}, {"colour": 1.0}, {"blur": 1.0}, {"jpeg": 1.0})
    )  # fmt: skip
    for sample in changed:
        assert (sample.image != plain.image).any()
        np.testing.assert_array_equal(sample.boxes, plain.boxes)


def test_hidden_and_tiny_boxes_are_ignored_not_learnt() -> None:
    """Zoom 4 about a random corner cuts boxes; zoom 0.05 makes them tiny."""
    scenes = [scene((0, 0, 60, 90), (140, 210, 200, 300))]
    near = DetectionAugment(mosaic=0, flip=0, stretch=0, zoom=(4, 4), min_visible=0.99, colour=PLAIN)
    cut = [
        DetectionDataset(scenes, SIZE, near, Rectangles(scenes)).sample(0, np.random.default_rng(i)) for i in range(8)
    ]
    assert any(len(sample.ignore) and not len(sample.boxes) for sample in cut)
    assert all((sample.ignore[:, 2:] > sample.ignore[:, :2]).all() for sample in cut)
    far = DetectionAugment(mosaic=0, zoom=(0.05, 0.05), colour=PLAIN)
    small = DetectionDataset(scenes, SIZE, far, Rectangles(scenes)).sample(0, np.random.default_rng(0))
    assert len(small.boxes) == 0
    assert len(small.ignore) == 2
    mixed = [replace(scene((10, 10, 14, 14), (50, 60, 150, 250)), weight=np.array([0.75, 0.25], np.float32))]
    plain = DetectionAugment(mosaic=0, zoom=(1, 1), stretch=0, colour=PLAIN)
    sample = DetectionDataset(mixed, SIZE, plain, Rectangles(mixed)).sample(0, np.random.default_rng(0))
    assert (sample.weight.tolist(), len(sample.ignore)) == ([0.25], 1)


def test_mosaics_hold_several_pictures_within_the_input() -> None:
    scenes = [scene((20, 20, 180, 280), name=str(i)) for i in range(6)]
    data = DetectionDataset(scenes, SIZE, DetectionAugment(mosaic=1, min_visible=0), Rectangles(scenes))
    counts = []
    for seed in range(30):
        sample = data.sample(0, np.random.default_rng(seed))
        counts.append(len(sample.boxes))
        assert sample.image.shape == (96, 128, 3)
        assert len(sample.boxes) == len(sample.weight)
        boxes = np.concatenate([sample.boxes, sample.ignore])
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= SIZE).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert max(counts) == 4
    assert np.mean(counts) > 2


def test_boxes_and_ignored_regions_of_a_mosaic_follow_the_pixels() -> None:
    bounds = (40, 60, 160, 240)
    scenes = [
        replace(scene(bounds, ignore=[bounds], name=str(i)), weight=np.full(1, (i + 1) / 6, np.float32))
        for i in range(6)
    ]
    augment = DetectionAugment(mosaic=1, min_visible=0, min_side=0, colour=PLAIN)
    data, others = DetectionDataset(scenes, SIZE, augment, Rectangles(scenes)), set()
    for seed in range(20):
        sample = data.sample(2, np.random.default_rng(seed))
        np.testing.assert_array_equal(sample.ignore, sample.boxes)
        assert sample.weight[0] == np.float32(0.5)  # the picture that was asked for is the first
        others.update(sample.weight[1:].tolist())
        for x0, y0, x1, y1 in sample.boxes:
            inside = sample.image[int(y0) + 2 : int(y1) - 1, int(x0) + 2 : int(x1) - 1]
            assert inside.min(initial=255) > 127
    assert len(others) == 6


def test_same_generator_same_sample_and_the_source_is_untouched() -> None:
    scenes = [scene((20, 20, 180, 280), name=str(i)) for i in range(3)]
    reader = Rectangles(scenes)
    before = {path: image.copy() for path, image in reader.images.items()}
    data = DetectionDataset(scenes, SIZE, DetectionAugment(), reader)
    for seed in range(6):
        one, two = (data.sample(1, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.boxes, two.boxes)
    for path, image in before.items():
        np.testing.assert_array_equal(reader.images[path], image)


def test_pictures_of_nobody_are_negatives() -> None:
    scenes = [scene()]
    for augment in (None, DetectionAugment(mosaic=0), DetectionAugment(mosaic=1)):
        sample = DetectionDataset(scenes, SIZE, augment, Rectangles(scenes)).sample(0, np.random.default_rng(0))
        assert sample.boxes.shape == sample.ignore.shape == (0, 4)
        assert sample.boxes.dtype == np.float32
