"""Cropping and running on the session's device: on the CPU here, where it must give what the ordinary path gives."""

import logging
import shutil
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autopose.affine import center_scale_from_box, crop_matrix, warp
from autopose.errors import BackendError, ModelError
from autopose.export.crops import synthetic_crops
from autopose.runtime import device_crops as module
from autopose.runtime import ort_session
from autopose.runtime.device_crops import DeviceCrops, device_crops
from autopose.runtime.estimator import Estimator
from autopose.runtime.models import bundled_models
from autopose.runtime.ort_binding import KEPT_SHAPES, BoundModel, DeviceArray
from autopose.runtime.ort_session import OrtSession, open_ort

#: In a frame of 320x240; the second leaves it.
BOXES = np.array([[20, 30, 120, 200], [-40, -10, 60, 150], [250, 100, 330, 239], [10, 10, 14, 200]], np.float32)


def _matrices(size_wh: tuple[int, int]) -> Any:
    centers, regions = center_scale_from_box(BOXES, size_wh[0] / size_wh[1])
    return np.stack([crop_matrix(c, r, size_wh) for c, r in zip(centers, regions, strict=True)])


def _noise(size_wh: tuple[int, int], seed: int = 0) -> Any:
    small = np.random.default_rng(seed).integers(0, 256, (size_wh[1] // 4, size_wh[0] // 4, 3), np.uint8)
    return np.kron(small, np.ones((4, 4, 1), np.uint8))


def test_bound_runs_equal_plain_ones(models: Path) -> None:
    """IO binding on the CPU; memory is used again, and there are more shapes than are kept."""
    rng = np.random.default_rng(0)
    with OrtSession(models / "pose-flip.onnx", device="cpu", threads=1) as session:
        bound = BoundModel(session._session, "cpu")
        for count in (3, 1, 3, *range(1, KEPT_SHAPES + 2), 3):
            crops = rng.integers(0, 256, (count, 128, 96, 3), np.uint8)
            (result,) = session.run_from_device(bound.upload("images", crops))
            np.testing.assert_array_equal(result, session.run(crops)[0])
        first = bound.allocate("images", (2, 128, 96, 3), np.uint8)
        assert bound.allocate("images", (2, 128, 96, 3), np.uint8) is first
        assert len(bound._kept["images"]) == KEPT_SHAPES
    with pytest.raises(BackendError, match="closed"):
        session.run_from_device(first)


def test_samples_what_opencv_samples(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    with OrtSession(models / "pose-flip.onnx", device="cpu", threads=1) as session:
        run = session.run_from_device

        def watched(images: DeviceArray) -> Any:
            seen.append(images.download())
            return run(images)

        monkeypatch.setattr(session, "run_from_device", watched)
        crops = DeviceCrops(session, batch_size=3)
        for frame in (_noise((320, 240)), _noise((640, 480), 1), _noise((320, 240), 2)):
            seen.clear()
            keypoints = crops(frame, _matrices((96, 128)))
            expected = np.stack([warp(frame, matrix, (96, 128)) for matrix in _matrices((96, 128))])
            assert [len(batch) for batch in seen] == [3, 1]
            difference = np.abs(np.concatenate(seen).astype(int) - expected)
            assert difference.max() <= 8  # OpenCV 4 rounds positions to 1/32 pixel, OpenCV 5 does not
            assert difference.mean() < 0.5
            np.testing.assert_array_equal(keypoints, session.run(np.concatenate(seen))[0])


def test_an_estimator_finds_the_same_either_way(models: Path, figures: Any) -> None:
    picture = figures.paint((320, 240), figures.at(30, 40), figures.at(200, 60))
    pictures = [picture, figures.paint((300, 200)), figures.paint((400, 300), figures.at(60, 90))]
    paths = models / "pose-flip.onnx", models / "detector.onnx"
    with (
        Estimator(*paths, device="cpu", threads=1) as host,
        Estimator(*paths, device="cpu", threads=1, cropping="device") as device,
    ):
        assert host.device_crops is None
        for expected, poses in zip(host.predict(pictures), device.predict(pictures), strict=True):
            np.testing.assert_array_equal(poses.boxes, expected.boxes)
            np.testing.assert_allclose(poses.keypoints, expected.keypoints, atol=1e-3)
            np.testing.assert_allclose(poses.keypoint_scores, expected.keypoint_scores, atol=0.02)
        assert [len(poses) for poses in device.predict(pictures)] == [2, 0, 1]
        assert len(device.predict(picture, boxes=np.zeros((0, 4)))) == 0
    assert device.device_crops is None  # closed with what it holds


def test_warming_up_warms_the_cropper(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    run = DeviceCrops._batch

    def note(self: DeviceCrops, picture: Any, grids: Any) -> Any:
        batches.append(len(grids))
        return run(self, picture, grids)

    monkeypatch.setattr(DeviceCrops, "_batch", note)
    paths = models / "pose-flip.onnx", models / "detector.onnx"
    with Estimator(*paths, device="cpu", threads=1, cropping="device", batch_size=4) as estimator:
        estimator.warmup()
    assert batches == [1, 4]


def test_threads_share_a_cropper(models: Path) -> None:
    frames = [_noise((320, 240), seed) for seed in range(4)]
    with OrtSession(models / "pose-flip.onnx", device="cpu", threads=1) as session:
        crops = DeviceCrops(session)
        expected = [crops(frame, _matrices((96, 128))) for frame in frames]
        results: dict[int, Any] = {}

        def work(index: int) -> None:
            results[index] = [crops(frames[index], _matrices((96, 128))) for _ in range(2)]

        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for index, result in results.items():
        for keypoints in result:
            np.testing.assert_array_equal(keypoints, expected[index])


def test_says_what_it_cannot_do(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    with OrtSession(models / "plain.onnx", device="cpu") as session:
        assert device_crops(session, "auto", 4) is None
        with pytest.raises(BackendError, match="io plain"):
            device_crops(session, "device", 4)

    def refuse(*_: Any, **__: Any) -> Any:
        raise ModelError("crop.onnx: this ONNX Runtime knows no GridSample.")

    with OrtSession(models / "pose-flip.onnx", device="cpu") as session:
        session.device = "cuda"  # as seen by "auto"
        monkeypatch.setattr(module, "open_ort", refuse)
        with caplog.at_level(logging.WARNING):
            assert device_crops(session, "auto", 4) is None
        assert "cropped on the CPU: crop.onnx: this ONNX Runtime" in caplog.text
        with pytest.raises(ModelError, match="knows no GridSample"):
            device_crops(session, "device", 4)


def test_on_cuda_batches_run_in_buckets_that_have_a_session_each(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of ONNX Runtime on CUDA is slow in every run whose shape is not that of the run before."""
    sizes: dict[int, set[int]] = defaultdict(set)
    run = BoundModel.run

    def note(self: BoundModel, inputs: Any, outputs: Any) -> None:
        if "images" in inputs:
            sizes[id(self._session)].add(inputs["images"].shape[0])
        run(self, inputs, outputs)

    def opened(path: Path, **options: Any) -> Any:
        return open_ort(path, **options | {"device": "cpu"})

    monkeypatch.setattr(BoundModel, "run", note)
    for part in (module, ort_session):  # CUDA's ways, on the CPU
        monkeypatch.setattr(part, "BoundModel", lambda session, _: BoundModel(session, "cpu"))
        monkeypatch.setattr(part, "open_ort", opened)
    rng = np.random.default_rng(0)
    path = models / "pose-flip.onnx"
    with OrtSession(path, device="cpu", threads=1) as cpu, OrtSession(path, device="cpu", threads=1) as cuda:
        cuda.device = "cuda"
        for count in (3, 1, 5, 4, 2, 3, 5):
            crops = rng.integers(0, 256, (count, 128, 96, 3), np.uint8)
            np.testing.assert_array_equal(cuda.run(crops)[0], cpu.run(crops)[0])
        assert sorted(map(sorted, sizes.values())) == [[1], [2], [4], [8]]
        frame, matrices = _noise((320, 240)), _matrices((96, 128))
        expected = DeviceCrops(cpu)(frame, matrices)
        for batch_size in (1, 3, 16):
            np.testing.assert_array_equal(DeviceCrops(cuda, batch_size)(frame, matrices), expected)
        assert sorted(map(sorted, sizes.values())) == [[1], [2], [4], [4], [8]]  # one 4 is the CPU's
    assert not cuda._bound  # nor any memory of the device


@pytest.mark.parametrize("fate", ["gone", "replaced", "moved away from", "no memory"])
def test_on_cuda_a_session_outlives_its_file(
    fate: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def opened(path: Path, **options: Any) -> Any:
        if fate == "no memory" and options["device"] == "cuda":
            raise ModelError("Failed to allocate memory.")
        return open_ort(path, **options | {"device": "cpu"})

    monkeypatch.setattr(ort_session, "BoundModel", lambda session, _: BoundModel(session, "cpu"))
    monkeypatch.setattr(ort_session, "open_ort", opened)
    monkeypatch.chdir(tmp_path)
    path = Path("pose.onnx")
    shutil.copyfile(models / "pose-flip.onnx", path)
    crops = np.random.default_rng(0).integers(0, 256, (3, 128, 96, 3), np.uint8)
    with OrtSession(path, device="cpu", threads=1) as session:
        (expected,) = session.run(crops)
        session.device = "cuda"
        session.run(crops[:1])
        if fate == "gone":
            path.unlink()
        elif fate == "replaced":
            path.unlink()
            shutil.copyfile(models / "pose.onnx", path)
        elif fate == "moved away from":
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
        np.testing.assert_array_equal(session.run(crops)[0], expected)
    assert "share a session" in caplog.text


def _on_cuda(path: Path) -> OrtSession:
    try:
        return OrtSession(path, device="cuda", threads=1)
    except BackendError as error:
        pytest.skip(str(error))


@pytest.mark.gpu
def test_cuda_gives_what_the_cpu_gives(models: Path, figures: Any) -> None:
    with _on_cuda(models / "pose-flip.onnx") as cuda, OrtSession(models / "pose-flip.onnx", device="cpu") as cpu:
        for count in (2, 5, 2):
            crops = np.stack([figures.paint((96, 128), figures.at(10 + 4 * i, 8)) for i in range(count)])
            np.testing.assert_allclose(cuda.run(crops)[0], cpu.run(crops)[0], atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", bundled_models())
def test_the_networks_of_the_package_give_on_cuda_what_they_give_on_the_cpu(name: str) -> None:
    """The toys above hold no convolution. TF32, ONNX Runtime's default, may move a joint by a fraction of a pixel."""
    path = bundled_models()[name]
    with _on_cuda(path) as cuda, OrtSession(path, device="cpu") as cpu:
        crops = synthetic_crops(7, cpu.manifest.codec.input_size_wh)
        for count in (7, 1, 3, 2, 7):
            (found,), (expected,) = cuda.run(crops[:count]), cpu.run(crops[:count])
            seen = expected[..., 2] > 0.2
            far = np.linalg.norm(found - expected, axis=-1)[seen]
            assert far.mean() < 0.1
            assert np.median(far) < 0.05


@pytest.mark.gpu
def test_cuda_crops_as_the_cpu_does(models: Path) -> None:
    frame, matrices = _noise((320, 240)), _matrices((96, 128))
    with _on_cuda(models / "pose-flip.onnx") as cuda, OrtSession(models / "pose-flip.onnx", device="cpu") as cpu:
        crops = device_crops(cuda, "device", 3)
        assert crops is not None
        seen = DeviceCrops(cpu)(frame, matrices)
        assert (np.abs(crops(frame, matrices) - seen).max((1, 2)) < 1e-2).mean() > 0.7  # a tie may fall otherwise
