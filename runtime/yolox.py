"""Third-party person detectors in ONNX with YOLOX's output layout (YOLOX, Ge et al. 2021, ``demo/ONNXRuntime``)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autopose.affine import letterbox_matrix, warp
from autopose.errors import ModelError
from autopose.manifest import METADATA_KEY
from autopose.runtime.detector import DEFAULT_THRESHOLD, finished_boxes
from autopose.runtime.ort_session import open_ort, usable_cores
from autopose.runtime.session import Device

STRIDES = (8, 16, 32)
_BORDER = (114, 114, 114)


def is_yolox(path: Path) -> bool:
    """Tell whether an ONNX file is a foreign one; its layout is checked when it is opened.

    Raises:
        ModelError: it is no ONNX file.
    """
    session = open_ort(path, device="cpu", threads=1)
    return METADATA_KEY not in session.get_modelmeta().custom_metadata_map


class YoloxDetector:
    """A YOLOX network: input float32 ``(1, 3, H, W)`` BGR 0-255; output ``(1, cells, 5 + classes)``, class 0 = person.

    Args:
        path: ONNX file.
        device: see :func:`autopose.runtime.session.open_session`.
        threads: CPU threads of one run; None for all.
        threshold: least score (objectness times class score) of a box.

    Raises:
        ModelError: the file has another layout.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: Device = "auto",
        threads: int | None = None,
        threshold: float = DEFAULT_THRESHOLD,
    ) -> None:
        self.path = Path(path)
        self.threshold = threshold
        self._session: Any = open_ort(self.path, device=device, threads=threads or usable_cores())
        (image, *more), (output, *others) = self._session.get_inputs(), self._session.get_outputs()
        shape = image.shape
        fixed = (
            len(shape) == 4 and shape[1] == 3 and all(isinstance(side, int) and side % 32 == 0 for side in shape[2:])
        )
        if more or others or not fixed or len(output.shape) != 3 or image.type != "tensor(float)":
            gives = [item.shape for item in (output, *others)]
            raise ModelError(
                f"{path}: takes {image.name} {image.shape} and gives {gives}: neither an autopose detector nor\n"
                "YOLOX's layout, float32 (1, 3, H, W) -> (1, cells, 5 + classes). Give such a file, or wrap your "
                "detector in Python: Estimator(detector=your_callable)."
            )
        self._input = image.name
        self.input_size_wh = (int(shape[3]), int(shape[2]))
        self._cells, self._stride = _grid(self.input_size_wh)

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Find the persons of one image: boxes xyxy ``(n, 4)`` in image pixels, scores ``(n,)``."""
        return self.detect(image, self.threshold)

    def detect(self, image: NDArray[np.uint8], threshold: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Find the persons of one image, down to another threshold."""
        size_wh = image.shape[1], image.shape[0]
        matrix = letterbox_matrix(size_wh, self.input_size_wh)
        inputs = warp(image, matrix, self.input_size_wh, _BORDER).transpose(2, 0, 1)[None].astype(np.float32)
        raw = self._session.run(None, {self._input: inputs})[0][0]
        if len(raw) != len(self._cells) or raw.shape[1] < 6:
            raise ModelError(
                f"{self.path}: gives {raw.shape}; YOLOX's layout is ({len(self._cells)}, 5 + classes) at this size."
            )
        scores = raw[:, 4] * raw[:, 5]
        likely = scores >= threshold
        raw, scores = raw[likely], scores[likely]
        center = (raw[:, :2] + self._cells[likely]) * self._stride[likely]
        half = np.exp(raw[:, 2:4]) * self._stride[likely] / 2
        boxes = np.concatenate([center - half, center + half], -1)
        return finished_boxes(boxes, scores, matrix, size_wh, threshold)

    def close(self) -> None:
        """Free the network."""
        self._session = None


def _grid(input_size_wh: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each output row's cell x, y ``(cells, 2)`` and stride ``(cells, 1)``, finest level first."""
    cells, strides = [], []
    for stride in STRIDES:
        x, y = np.meshgrid(np.arange(input_size_wh[0] // stride), np.arange(input_size_wh[1] // stride))
        cells.append(np.stack([x.ravel(), y.ravel()], -1))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
