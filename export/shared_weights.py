"""Graphs of the same network that keep their weights once, in a file beside them (ONNX external data)."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import onnx

from autopose.files import write_atomic

#: Tensors below this many bytes stay in the graphs.
LEAST_BYTES = 1024
#: Offsets are multiples of this, so that a runtime can map tensors without copying them.
ALIGNMENT = 64


def share_weights(graphs: Sequence[Path], weights: Path) -> None:
    """Move the weights of several ONNX files into one; equal tensors are stored once.

    Args:
        graphs: files with their weights inside, in the folder of ``weights``; rewritten.
        weights: the file to write.

    Raises:
        ValueError: a graph is in another folder, where a runtime would not find the weights.
    """
    content = bytearray()
    offsets: dict[str, int] = {}
    models = {path: onnx.load(path, load_external_data=False) for path in graphs}
    for path, model in models.items():
        if path.parent != weights.parent:
            raise ValueError(f"{path}: expected a file beside {weights}.")
        for tensor in model.graph.initializer:
            data = tensor.raw_data
            if len(data) < LEAST_BYTES:
                continue
            key = hashlib.sha256(data).hexdigest()
            if key not in offsets:
                content += bytes(-len(content) % ALIGNMENT)
                offsets[key] = len(content)
                content += data
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            del tensor.external_data[:]
            for name, value in {"location": weights.name, "offset": offsets[key], "length": len(data)}.items():
                tensor.external_data.add(key=name, value=str(value))
    write_atomic(weights, bytes(content))
    for path, model in models.items():
        write_atomic(path, model.SerializeToString())
