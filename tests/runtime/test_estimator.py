"""The estimator finds painted figures where they are, whatever form the picture comes in."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from autopose.errors import DataError, MediaError, ModelError, UsageError
from autopose.image_files import read_image
from autopose.poses import Poses
from autopose.runtime.estimator import Estimator


@pytest.fixture(scope="module")
def estimator(models: Path) -> Any:
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu", threads=1) as opened:
        yield opened.warmup()


@pytest.fixture
def picture(figures: Any) -> Any:
    return figures.paint((320, 240), figures.at(30, 40), figures.at(200, 60))


def _check(poses: Poses, figures: Any) -> None:
    assert len(poses) == 2
    order = np.argsort(poses.boxes[:, 0])
    for index, joints in zip(order, (figures.at(30, 40), figures.at(200, 60)), strict=True):
        assert np.abs(poses.keypoints[index] - joints).max() < 2.5  # half a heatmap cell, in image pixels, and rounding
        box = poses.boxes[index]
        np.testing.assert_allclose(box, [*joints.min(0), *joints.max(0)], atol=7)  # discs have a radius, cells a width
    assert (poses.keypoint_scores > 0.5).all()
    assert poses.image_size_wh == (320, 240)


def test_finds_figures(estimator: Estimator, picture: Any, figures: Any) -> None:
    before = picture.copy()
    poses = estimator.predict(picture)
    _check(poses, figures)
    np.testing.assert_array_equal(picture, before)
    assert poses.image is not None


def test_every_form_of_picture_gives_the_same(estimator: Estimator, picture: Any, tmp_path: Path, figures: Any) -> None:
    path = tmp_path / "figures.png"
    cv2.imwrite(str(path), picture)
    expected = estimator.predict(picture)
    for form in (path, str(path), Image.open(path), np.dstack([picture, picture[..., :1]])):
        np.testing.assert_array_equal(estimator.predict(form).keypoints, expected.keypoints)
    np.testing.assert_array_equal(estimator.predict(picture[..., ::-1], rgb=True).keypoints, expected.keypoints)
    deep = tmp_path / "deep.png"
    cv2.imwrite(str(deep), cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.uint16) * 257)
    with Image.open(deep) as opened:
        assert opened.mode == "I;16"
        np.testing.assert_array_equal(estimator.predict(opened).image, estimator.predict(deep).image)
    assert estimator.predict(str(path)).source == str(path)


def test_lists_share_batches_and_keep_order(estimator: Estimator, picture: Any, figures: Any) -> None:
    blank = np.full((50, 60, 3), 128, np.uint8)
    first, second, third = estimator.predict([picture, blank, picture])
    _check(first, figures)
    assert len(second) == 0
    assert second.keypoints.shape == (0, 17, 2)
    np.testing.assert_array_equal(first.keypoints, third.keypoints)
    assert estimator.predict([]) == []


def test_nobody_means_no_skeleton(estimator: Estimator) -> None:
    assert len(estimator.predict(np.full((240, 320, 3), 128, np.uint8))) == 0


def test_given_boxes_replace_the_detector(estimator: Estimator, picture: Any, figures: Any) -> None:
    poses = estimator.predict(picture, boxes=[[30, 40, 90, 150]])
    assert len(poses) == 1
    assert np.abs(poses.keypoints[0] - figures.at(30, 40)).max() < 2.5
    assert len(estimator.predict(picture, boxes=[])) == 0
    assert len(estimator.predict(picture, boxes=[[30, 40, 90, 150]] * 2)) == 2  # as given, even twice
    assert len(estimator.predict(picture)) == 2


@pytest.mark.parametrize(
    ("box", "named"),
    [([5, 5, 5, 90], "no area"), ([50, 50, 20, 90], "no area"), ([400, 10, 450, 90], "outside"), ([1, 2, 3], "shape")],
)
def test_refuses_impossible_boxes(estimator: Estimator, picture: Any, box: list[float], named: str) -> None:
    with pytest.raises(DataError, match=named):
        estimator.predict(picture, boxes=[box])


@pytest.mark.parametrize(
    ("image", "named"),
    [
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 7), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (17, "int"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"list\(array\)"),
        ("missing.jpg", "No image 'missing.jpg'"),
        ("video.MP4", r"video.MP4: is no image file.*track\(\)"),
        ("photos/*.jpg", r"track\(\)"),
        (Path(__file__).parent, r"track\(\)"),
        ("https://user:word@host/photo.jpg?key=1", "^https://host/photo.jpg: is no image file"),
    ],
)
def test_refuses_what_is_no_image(estimator: Estimator, image: Any, named: str) -> None:
    with pytest.raises(MediaError, match=named):
        estimator.predict(image)


def test_refuses_damaged_image_files(tmp_path: Path, picture: Any) -> None:
    for suffix in (".jpg", ".png"):
        whole = tmp_path / f"whole{suffix}"
        cv2.imwrite(str(whole), picture)
        content = whole.read_bytes()
        for name, part, named in (
            ("empty", b"", "empty"),
            ("cut", content[: len(content) // 2], "cut off"),
            ("noise", os.urandom(99), "decoded"),
        ):
            path = tmp_path / f"{name}{suffix}"
            path.write_bytes(part)
            with pytest.raises(MediaError, match=named):
                read_image(path)


def test_eight_threads_give_the_results_of_one(estimator: Estimator, figures: Any) -> None:
    pictures = [figures.paint((320, 240), figures.at(10 + i, 40), figures.at(200 - i, 60)) for i in range(16)]
    expected = [estimator.predict(picture).keypoints for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda picture: estimator.predict(picture).keypoints, pictures))
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


def test_full_frame_and_callables_are_detectors(models: Path, figures: Any) -> None:
    crop = figures.paint((70, 120), figures.at(5, 5))
    with Estimator(models / "pose-flip.onnx", "full-frame", device="cpu") as whole:
        assert np.abs(whole.predict(crop).keypoints[0] - figures.at(5, 5)).max() < 2.5
    given = np.array([[5, 5, 65, 115]], np.float32), np.ones(1, np.float32)
    with Estimator(models / "pose-flip.onnx", lambda image: given, device="cpu") as own:
        assert np.abs(own.predict(crop).keypoints[0] - figures.at(5, 5)).max() < 2.5


def test_a_detector_of_ones_own_may_give_boxes_without_area_and_stays_open(models: Path, picture: Any) -> None:
    class Own:
        closed = False

        def __call__(self, image: Any) -> Any:
            return [[30, 40, 90, 150], [200, 60, 200, 170]], [0.9, 0.9]

        def close(self) -> None:
            self.closed = True

    own = Own()
    with Estimator(models / "pose-flip.onnx", own, device="cpu", least_evidence=0) as opened:
        assert len(opened.predict(picture)) == 1
    assert not own.closed


def test_the_threshold_holds_for_a_detector_of_ones_own(models: Path, picture: Any) -> None:
    def finds(image: Any) -> Any:
        return [[10, 60, 70, 170], [230, 70, 290, 180]], [0.9, 0.3]

    counts = []
    for threshold in (0.25, 0.5):
        with Estimator(
            models / "pose-flip.onnx", finds, device="cpu", least_evidence=0, detector_threshold=threshold
        ) as opened:
            counts.append(len(opened.predict(picture)))
    assert counts == [2, 1]


@pytest.mark.parametrize(
    "option",
    [
        *({"device": "gpu"}, {"device": "cuda:0"}, {"backend": "onnx"}, {"cropping": "gpu"}, {"batch_size": 0}),
        *({"threads": 0}, {"threads": -1}, {"detector_threshold": 25}, {"least_evidence": -0.1}),
        {"detector_threshold": float("nan")},
    ],
)
def test_refuses_words_that_are_no_choice(models: Path, option: dict[str, Any]) -> None:
    """``gpu`` would have run on the CPU without a word."""
    with pytest.raises(ValueError, match=next(iter(option))):
        Estimator(models / "pose-flip.onnx", models / "detector.onnx", **option)


def test_refuses_a_smoothing_that_is_none(estimator: Estimator, walk: Path) -> None:
    with pytest.raises(ValueError, match="smooth 'savgol': expected online, offline, none"):
        estimator.track(walk, smooth="savgol")  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [None, {"walk.mp4": 1}, b"walk.mp4", 2.5])
def test_refuses_to_follow_what_is_no_source(estimator: Estimator, source: Any) -> None:
    with pytest.raises(TypeError, match=rf"track\(\) takes a file.*not {type(source).__name__}"):
        estimator.track(source)
    with pytest.raises(TypeError, match=r"got an array of shape \(4, 4, 3\).* call predict\(\)"):
        estimator.track(np.zeros((4, 4, 3), np.uint8))
    for rate in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"fps .*: expected frames per second"):
            estimator.track([], fps=rate)
    for fps, rgb in ((25.0, False), (None, True)):
        with pytest.raises(UsageError, match="are of frames of your own"):
            estimator.track("walk.mp4", fps=fps, rgb=rgb)


@pytest.mark.parametrize("option", [{"every": 2.0}, {"stride": 1.5}, {"max_frames": 10.0}, {"every": "2"}])
def test_refuses_frames_that_are_not_whole(estimator: Estimator, walk: Path, option: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(option))} .*: expected a whole number"):
        estimator.track(walk, **option)


def test_refuses_numbers_that_are_none(models: Path) -> None:
    with pytest.raises(TypeError, match=r"threads .*: expected a whole number"):
        Estimator(models / "pose-flip.onnx", models / "detector.onnx", threads=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"detector_threshold .*: expected a number"):
        Estimator(models / "pose-flip.onnx", models / "detector.onnx", detector_threshold="0.5")  # type: ignore[arg-type]
    for option in ({"batch_size": None}, {"threads": True}):
        with pytest.raises(TypeError, match=f"{next(iter(option))} .*: expected a whole number"):
            Estimator(models / "pose-flip.onnx", models / "detector.onnx", **option)
    numbers: dict[str, Any] = {"threads": np.int64(1), "batch_size": np.int32(2), "detector_threshold": np.float32(0.5)}
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", **numbers) as opened:
        assert opened.detector_threshold == 0.5


def test_refuses_no_detector(models: Path) -> None:
    with pytest.raises(TypeError, match="full-frame"):
        Estimator(models / "pose-flip.onnx", None, device="cpu")  # type: ignore[arg-type]


def test_refuses_missing_detector(models: Path) -> None:
    with pytest.raises(ModelError, match="no-such"):
        Estimator(models / "pose-flip.onnx", "no-such", device="cpu")


@pytest.mark.slow
def test_opening_and_closing_leaks_nothing(models: Path) -> None:
    if not Path("/proc/self/statm").is_file():
        pytest.skip("needs /proc")

    def cycle(count: int) -> None:
        for _ in range(count):
            Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu", threads=1).close()

    def held() -> tuple[int, int]:
        """Return the open files, and the bytes in memory now: the peak may be another test's."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")

    cycle(50)
    files, memory = held()
    cycle(300)
    files_after, memory_after = held()
    assert files_after <= files
    assert memory_after - memory < 20e6  # a leak of one model each is 48 MB


@pytest.mark.parametrize(
    "nobody", [([], []), (np.zeros(0), np.zeros(0)), (np.zeros((0, 4)), np.zeros((0, 1)))], ids=["lists", "1d", "2d"]
)
def test_any_empty_answer_of_a_detector_is_nobody(models: Path, walk: Path, nobody: Any) -> None:
    def finds(image: Any) -> Any:
        return nobody

    with Estimator(models / "pose-flip.onnx", finds, device="cpu") as opened:
        assert len(opened.predict(np.full((60, 80, 3), 128, np.uint8))) == 0
        assert [len(poses) for _, poses in opened.track(walk, max_frames=3)] == [0, 0, 0]


def test_a_detector_may_give_lists(models: Path, walk: Path, picture: Any) -> None:
    def finds(image: Any) -> Any:
        return [[10, 60, 70, 170]], [0.9]

    with Estimator(models / "pose-flip.onnx", finds, device="cpu", least_evidence=0) as opened:
        assert len(opened.predict(picture)) == 1
        assert len(list(opened.track(walk, max_frames=2))) == 2


@pytest.mark.parametrize(
    ("boxes", "scores", "named"),
    [
        (np.zeros((1, 5)), np.zeros(1), r"\(1, 5\).*expected \(n, 4\)"),
        (np.zeros((2, 4)), np.zeros(1), r"scores of shape \(1,\)"),
        ([[0, 0, float("nan"), 9]], [0.5], "not finite"),
        ([[0, 0, 9, 9]], [float("nan")], "not finite"),
        ([[287, 46, 190, 319]], [1.0], "not width and height"),
    ],
)
def test_refuses_what_a_detector_should_not_give(
    models: Path, picture: Any, boxes: Any, scores: Any, named: str
) -> None:
    with (
        Estimator(models / "pose-flip.onnx", lambda image: (boxes, scores), device="cpu") as opened,
        pytest.raises(DataError, match=named),
    ):
        opened.predict(picture)


def test_refuses_a_detector_without_scores(models: Path, picture: Any) -> None:
    with (
        Estimator(models / "pose-flip.onnx", lambda image: np.zeros((2, 4)), device="cpu") as opened,  # type: ignore[arg-type]
        pytest.raises(DataError, match=r"gave ndarray; expected \(boxes, scores\)"),
    ):
        opened.predict(picture)


def test_deep_pictures_of_pillow(estimator: Estimator) -> None:
    """Pillow opens a 16-bit PGM as mode I; 65535 is white, not everything above 255."""
    ramp = np.linspace(0, 65535, 64, dtype=np.int32).reshape(8, 8)
    seen = estimator.predict(Image.fromarray(ramp)).image
    assert seen is not None
    np.testing.assert_array_equal(seen[..., 0], ramp // 256)
    with pytest.raises(MediaError, match="mode 'F'"):
        estimator.predict(Image.fromarray(ramp.astype(np.float32)))


@pytest.mark.parametrize("turned", range(1, 9))
def test_pictures_of_pillow_are_turned_upright_as_files_are(estimator: Estimator, tmp_path: Path, turned: int) -> None:
    path = tmp_path / "turned.jpg"
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:20, :30] = 255  # one corner tells all eight orientations apart
    exif = Image.Exif()
    exif[0x0112] = turned
    Image.fromarray(picture).save(path, exif=exif)
    of_file = estimator.predict(path).image
    with Image.open(path) as opened:
        of_pillow = estimator.predict(opened).image
    assert of_file is not None
    assert of_pillow is not None
    assert of_pillow.shape == of_file.shape == ((64, 96, 3) if turned < 5 else (96, 64, 3))
    assert np.abs(of_pillow.astype(int) - of_file).max() < 16  # two decoders of JPEG


def test_joints_that_are_no_numbers_count_as_not_seen(
    models: Path, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Estimator(models / "pose-flip.onnx", models / "detector.onnx", device="cpu", least_evidence=0) as opened:
        predictor = opened.predictor

        def broken(images: Any) -> Any:
            xy, scores = predictor(images)
            xy[0, 3], scores[0, 5] = np.nan, np.inf
            return xy, scores

        monkeypatch.setattr(opened, "predictor", broken)
        poses = opened.predict(picture)
    assert np.isfinite(poses.keypoints).all()
    assert np.isfinite(poses.keypoint_scores).all()
    assert sorted(np.flatnonzero(poses.keypoint_scores.min(0) == 0)) == [3, 5]
