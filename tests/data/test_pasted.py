"""Persons painted into a detector's inputs: their boxes against the pixels that changed, and whom they hide."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from autopose.data.detection_dataset import DetectionAugment, DetectionDataset, DetectionSample, SceneColour
from autopose.data.pasted import PersonPaster
from autopose.data.scenes import Scene
from autopose.poses import Person
from tests.data.test_neighbours import STANDING

PLAIN = SceneColour(colour=0, grey=0, blur=0, jpeg=0, erase=0, low_resolution=0)
WHITE, BLACK = Path("white"), Path("black")
NOBODY = np.zeros((0, 4), np.float32)


class Pictures:
    """A white picture, in which the persons are, and a black one."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        return np.full((200, 150, 3), 255 if path == WHITE else 0, np.uint8)


def person(x: float = 50.0, y: float = 20.0, share: float = 1.0) -> Person:
    box = np.array([x - 4, y - 2, x + 44, y + 160])
    return Person(WHITE, box, STANDING + np.array([x, y]), np.ones(17, np.float32), area=3000.0, weight_sample=share)


def extent(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    rows, columns = np.nonzero(image[..., 0] > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_the_box_is_what_is_painted() -> None:
    """The labelled box is a little wider than the silhouette at the sides, and cuts it off at the head and the feet."""
    paster, checked = PersonPaster([person()], Pictures()), 0
    for seed in range(40):
        black = np.zeros((240, 320, 3), np.uint8)
        pasted = paster.paste(black, NOBODY, (40, 150), np.random.default_rng(seed))
        assert pasted is not None
        image, box, hidden = pasted
        assert not black.any()
        assert hidden.shape == (0,)
        found, height = extent(image), box[3] - box[1]
        assert (np.abs(found - box)[[0, 2]] <= 0.05 * height + 1).all()
        assert (box >= 0).all()
        assert (box <= [320, 240, 320, 240]).all()
        if found[1] > 0 and found[3] < 240:
            assert 0 <= box[1] - found[1] <= 0.12 * height + 1
            assert 0 <= found[3] - box[3] <= 0.12 * height + 1
            assert 40 * np.exp(-1) < height < 150 * np.exp(1)
            checked += 1
    assert checked > 20


def test_half_of_them_stand_beside_somebody() -> None:
    paster = PersonPaster([person()], Pictures())
    somebody = np.array([[150, 40, 250, 240]], np.float32)
    apart = []
    for seed in range(200):
        pasted = paster.paste(np.zeros((480, 640, 3), np.uint8), somebody, (20, 40), np.random.default_rng(seed))
        if pasted is not None and pasted[1][3] - pasted[1][1] > 100:  # as high as somebody, not 20 to 40
            apart.append(abs((pasted[1][0] + pasted[1][2]) / 2 - 200))
    assert 50 < len(apart) < 110  # of 100, a quarter would have to be enlarged too much
    assert max(apart) < 200
    assert min(apart) > 15


def test_who_is_hidden_is_what_the_pixels_say() -> None:
    paster, seen = PersonPaster([person()], Pictures()), set()
    boxes = np.array([[10, 10, 40, 40], [60, 20, 100, 120], [0, 0, 320, 240], [200, 100, 230, 200]], np.float32)
    for seed in range(60):
        pasted = paster.paste(np.zeros((240, 320, 3), np.uint8), boxes, (60, 150), np.random.default_rng(seed))
        if pasted is None:
            continue
        image, _, hidden = pasted
        painted = image[..., 0] > 127
        shares = [painted[int(y0) : int(y1), int(x0) : int(x1)].mean() for x0, y0, x1, y1 in boxes]
        np.testing.assert_array_equal(hidden, np.array(shares) > 0.4)
        seen |= set(hidden.tolist())
    assert seen == {False, True}


@pytest.mark.parametrize("edge", [0.0, -24.0])
def test_nothing_is_painted_from_beyond_the_edge_of_a_photograph(edge: float) -> None:
    """A person of whom the left half is outside of their photograph: the other half is painted, and boxed."""
    cut = replace(person(x=-20.0), box_xyxy=np.array([edge, 20, 24, 180]))
    pasted = PersonPaster([cut], Pictures()).paste(
        np.zeros((400, 400, 3), np.uint8), NOBODY, (100, 100), np.random.default_rng(3)
    )
    assert pasted is not None
    assert np.abs(extent(pasted[0]) - pasted[1])[[0, 2]].max() <= 3
    assert (pasted[1][2] - pasted[1][0]) / (pasted[1][3] - pasted[1][1]) < 0.2  # whole: 0.3


@pytest.mark.parametrize("x", [-20.0, 130.0])
def test_the_black_beyond_a_photograph_is_not_painted(x: float) -> None:
    """Of a white photograph, on white: where it ends, at most the half of a pixel is what lies beyond."""
    cut = replace(person(x=x), box_xyxy=np.clip(person(x=x).box_xyxy, 0, [150, 200, 150, 200]))
    for seed in range(40):
        white = np.full((300, 300, 3), 255, np.uint8)
        pasted = PersonPaster([cut], Pictures()).paste(white, NOBODY, (60, 100), np.random.default_rng(seed))
        assert pasted is None or pasted[0].min() >= 126


def test_nobody_is_enlarged_much() -> None:
    paster = PersonPaster([person()], Pictures())
    image = np.zeros((900, 900, 3), np.uint8)
    assert all(paster.paste(image, NOBODY, (800, 800), np.random.default_rng(seed)) is None for seed in range(5))


def test_persons_are_drawn_as_often_as_their_source_says() -> None:
    """A crouching person counts three times a standing one; one without joints is not there at all."""
    squat = person(share=3.0)
    squat = replace(squat, keypoints=squat.keypoints * [1, 0.5], box_xyxy=squat.box_xyxy * [1, 0.5, 1, 0.5])
    blank = replace(person(share=9.0), weight=np.zeros(17, np.float32))
    paster = PersonPaster([person(), blank, squat], Pictures())
    assert len(paster) == 2
    narrow = 0
    for seed in range(200):
        pasted = paster.paste(np.zeros((400, 400, 3), np.uint8), NOBODY, (80, 80), np.random.default_rng(seed))
        if pasted is not None:
            width, height = pasted[1][2:] - pasted[1][:2]
            narrow += width / height < 0.42
    assert 25 < narrow < 75


def painted(augment: DetectionAugment, persons: list[Person], seed: int = 0, box: bool = True) -> DetectionSample:
    boxes = np.array([[20.0, 20, 60, 120]]) if box else np.zeros((0, 4))
    scene = Scene(BLACK, (150, 200), boxes, np.full(len(boxes), 0.5, np.float32), np.zeros((0, 4)))
    data = DetectionDataset([scene], (128, 160), augment, Pictures(), persons)
    return data.sample(0, np.random.default_rng(seed))


def test_a_detectors_input_gets_them() -> None:
    augment = DetectionAugment(mosaic=0, zoom=(0.8, 0.8), colour=PLAIN, paste=1, pasted=3, pasted_height=(30, 60))
    numbers = set()
    for seed in range(60):
        sample = painted(augment, [person()], seed)
        assert sample.image.any()
        assert sample.boxes.dtype == sample.weight.dtype == np.float32
        assert len(sample.boxes) == len(sample.weight)
        assert (sample.weight[sample.weight != 0.5] == 1).all()
        numbers.add(len(sample.boxes) + len(sample.ignore))
    assert numbers == {2, 3, 4}  # the scene's person, and one to three others; nobody is lost


def test_the_tiny_and_the_hidden_are_ignored() -> None:
    tiny = DetectionAugment(
        mosaic=0, zoom=(0.8, 0.8), colour=PLAIN, paste=1, pasted=1, pasted_height=(12, 12), min_side=30
    )
    sample = painted(tiny, [person()], box=False)
    assert len(sample.boxes) == 0
    assert len(sample.ignore) == 1
    crowd = DetectionAugment(mosaic=0, zoom=(0.8, 0.8), colour=PLAIN, paste=1, pasted=8, pasted_height=(60, 120))
    assert any(len(painted(crowd, [person()], seed).ignore) for seed in range(10))
    alone = DetectionAugment(mosaic=0, zoom=(0.8, 0.8), colour=PLAIN)
    for seed in range(10):  # the scene's person weighs half, the others 1: whoever is hidden takes the weight along
        sample = painted(crowd, [person()], seed)
        own = (np.abs(sample.boxes - painted(alone, [], seed).boxes) < 1e-3).all(1)
        np.testing.assert_array_equal(sample.weight, np.where(own, np.float32(0.5), np.float32(1)))


@pytest.mark.parametrize(("paste", "persons"), [(0.0, [person()]), (1.0, [])])
def test_without_paste_or_persons_inputs_are_what_they_were(paste: float, persons: list[Person]) -> None:
    plain = painted(DetectionAugment(), [])
    same = painted(DetectionAugment(paste=paste), persons)
    np.testing.assert_array_equal(plain.image, same.image)
    np.testing.assert_array_equal(plain.boxes, same.boxes)
