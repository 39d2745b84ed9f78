"""ONNX Runtime with inputs and outputs in the memory of the session's own device, and that memory kept between runs."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray

#: Shapes whose memory is kept per tensor: the number of persons changes from frame to frame.
KEPT_SHAPES = 8


@dataclass(frozen=True)
class DeviceArray:
    """An array in device memory; its content lasts until the next run of the :class:`BoundModel` that it came from."""

    value: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def reshaped(self, *shape: int) -> "DeviceArray":
        """Return the same memory under another shape."""
        assert np.prod(shape) == np.prod(self.shape)
        return DeviceArray(self.value, shape, self.dtype)

    def download(self) -> NDArray[Any]:
        """Return a copy in host memory."""
        return np.array(self.value.numpy()).reshape(self.shape)


class BoundModel:
    """Runs an ONNX Runtime session by IO binding; for one thread at a time.

    Args:
        session: ``onnxruntime.InferenceSession``.
        device: ``cuda``, or ``cpu``, where it saves nothing and serves to test this code.
    """

    def __init__(self, session: Any, device: str) -> None:
        self._session, self._device = session, device
        self._binding: Any = session.io_binding()
        self._kept: dict[str, OrderedDict[tuple[int, ...], DeviceArray]] = {}

    def allocate(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Return memory for a tensor: that of an earlier run with this shape, if it is still kept."""
        kept = self._kept.setdefault(name, OrderedDict())
        if shape not in kept:
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(dtype).type, self._device, 0)
            kept[shape] = DeviceArray(value, shape, np.dtype(dtype))
            while len(kept) > KEPT_SHAPES:
                kept.popitem(last=False)
        kept.move_to_end(shape)
        return kept[shape]

    def upload(self, name: str, array: NDArray[Any]) -> DeviceArray:
        """Copy an array to the device."""
        target = self.allocate(name, array.shape, array.dtype)
        target.value.update_inplace(np.ascontiguousarray(array))
        return target

    def run(self, inputs: Mapping[str, DeviceArray], outputs: Mapping[str, DeviceArray]) -> None:
        """Run the session from device memory into device memory; returns when it is done.

        Args:
            inputs: by name, from :meth:`upload`, or outputs of another model on the same device.
            outputs: by name, from :meth:`allocate`.
        """
        for bind, arrays in ((self._binding.bind_input, inputs), (self._binding.bind_output, outputs)):
            for name, array in arrays.items():
                bind(name, self._device, 0, array.dtype.type, array.shape, array.value.data_ptr())
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
