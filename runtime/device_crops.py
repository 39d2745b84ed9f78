"""Persons cropped where the network runs: a frame goes to the device once, its persons' keypoints come back.

The crops are sampled by a little graph of their own, ``crop.onnx`` (made by ``autopose/export/crop_graph.py``), and
stay in the device's memory, from which the pose network reads them.
"""

import logging
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autopose.affine import invert
from autopose.errors import AutoposeError, BackendError
from autopose.runtime.ort_binding import BoundModel, DeviceArray
from autopose.runtime.ort_session import ORT_ERRORS, OrtSession, filled, open_ort
from autopose.runtime.session import Device, Session

log = logging.getLogger(__name__)

Cropping = Literal["auto", "host", "device"]
CROP_GRAPH = Path(__file__).with_name("crop.onnx")


class DeviceCrops:
    """From frames and crop matrices to keypoints.

    Args:
        session: a pose model that takes uint8 crops and gives keypoints.
        batch_size: persons per run of the network, at most.

    Raises:
        BackendError: ONNX Runtime cannot crop on the session's device.
    """

    def __init__(self, session: OrtSession, batch_size: int = 16) -> None:
        self.session, self.batch_size = session, batch_size
        self._lock = Lock()
        device: Device = "cuda" if session.device == "cuda" else "cpu"
        sampler = open_ort(CROP_GRAPH, device=device, threads=session.threads, whole=True)
        self._sampler = BoundModel(sampler, device)
        width, height = session.manifest.codec.input_size_wh
        y, x = np.mgrid[:height, :width].astype(np.float32)
        self._points = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(1, -1, 3)
        self._on_device: DeviceArray | None = None

    def __call__(self, frame: NDArray[np.uint8], matrices: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return keypoints ``(n, K, 3)``: x, y in crop pixels and score.

        Args:
            frame: ``(H, W, 3)`` BGR.
            matrices: ``(n, 2, 3)`` frame pixels to crop pixels.
        """
        grids = sampling_matrices(matrices, (frame.shape[1], frame.shape[0]))
        with self._lock:
            if self._on_device is None:
                self._on_device = self._sampler.upload("points", self._points)
            picture = self._sampler.upload("frame", frame[None])
            parts = [
                self._batch(picture, grids[start : start + self.batch_size])
                for start in range(0, len(grids), self.batch_size)
            ]
        return np.concatenate(parts)

    def _batch(self, picture: DeviceArray, grids: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self._on_device is not None
        width, height = self.session.manifest.codec.input_size_wh
        count = len(grids)
        grids = filled(grids, self.session.bucket(count))
        pixels = self._sampler.allocate("pixels", (1, len(grids) * height * width, 1, 3), np.uint8)
        inputs = {"frame": picture, "points": self._on_device, "matrices": self._sampler.upload("matrices", grids)}
        try:
            self._sampler.run(inputs, {"pixels": pixels})
        except ORT_ERRORS as error:
            raise BackendError(f"Cropping on the device failed: {str(error).splitlines()[0][:200]}") from None
        (keypoints,) = self.session.run_from_device(pixels.reshaped(len(grids), height, width, 3))
        return keypoints[:count]


def device_crops(session: Session, cropping: Cropping, batch_size: int) -> DeviceCrops | None:
    """Return what crops on the session's device; None where the host does.

    Args:
        session: an opened pose model.
        cropping: ``auto``: on a GPU wherever that is possible; ``device`` insists, on the CPU as well.
        batch_size: persons per run of the network, at most.

    Raises:
        BackendError: ``device`` was asked for and cannot be had.
    """
    manifest = session.manifest
    fits = isinstance(session, OrtSession) and manifest.io == "uint8" and manifest.decode
    if cropping == "host" or (cropping == "auto" and not (fits and session.device == "cuda")):
        return None
    if not fits or not isinstance(session, OrtSession):
        raise BackendError(
            f"{session.path}: cannot crop on the device: that needs an .onnx with uint8 crops in and keypoints out "
            f"(this is {session.backend}, io {manifest.io}, decode {manifest.decode}).\nLeave cropping at 'auto'."
        )
    try:
        return DeviceCrops(session, batch_size)
    except AutoposeError as error:
        if cropping == "device":
            raise
        log.warning("Persons are cropped on the CPU: %s", str(error).splitlines()[0])
        return None


def sampling_matrices(matrices: NDArray[np.floating], frame_wh: tuple[int, int]) -> NDArray[np.float32]:
    """Return ``(n, 3, 2)``: homogeneous crop pixels to GridSample's coordinates, -1 and 1 at the outer pixels' centres.

    Args:
        matrices: ``(n, 2, 3)`` frame pixels to crop pixels.
        frame_wh: width and height of the frame.
    """
    scale = 2 / np.maximum(np.array(frame_wh, np.float64) - 1, 1)
    grids = invert(np.asarray(matrices, np.float64)) * scale[:, None]
    grids[..., 2] -= 1
    return np.ascontiguousarray(grids.transpose(0, 2, 1), np.float32)
