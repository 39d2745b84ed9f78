"""The graph that samples crops on the device (:mod:`autopose.runtime.device_crops`): GridSample and no weights.

The crops of all persons are one column of points over the single frame, so the frame is never copied per person.
GridSample is ONNX Runtime's own, of the domain ``com.microsoft``: CUDA kernels for ONNX's are missing from many of its
versions, and the frame would then travel back to the CPU (onnxruntime#19626).

    python -m autopose.export.crop_graph        writes runtime/crop.onnx
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from autopose.files import atomic_path


def crop_graph() -> onnx.ModelProto:
    """Return the graph.

    Inputs: ``frame`` ``(1, H, W, 3)`` uint8; ``points`` ``(1, h w, 3)``, the homogeneous pixels of a crop; ``matrices``
    ``(N, 3, 2)`` from these to GridSample's coordinates. Output: ``pixels`` ``(1, N h w, 1, 3)`` uint8, which is the
    memory of ``(N, h, w, 3)``; outside of the frame is 0.
    """
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("MatMul", ["points", "matrices"], ["at"]),
        node("Reshape", ["at", "column"], ["grid"]),
        node("Cast", ["frame"], ["values"], to=TensorProto.FLOAT),
        node("Transpose", ["values"], ["picture"], perm=[0, 3, 1, 2]),
        node(
            "GridSample",
            ["picture", "grid"],
            ["samples"],
            domain="com.microsoft",
            mode="bilinear",
            padding_mode="zeros",
            align_corners=1,
        ),
        node("Transpose", ["samples"], ["rows"], perm=[0, 2, 3, 1]),
        node("Round", ["rows"], ["rounded"]),
        node("Cast", ["rounded"], ["pixels"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "crops",
        [
            value("frame", TensorProto.UINT8, [1, "height", "width", 3]),
            value("points", TensorProto.FLOAT, [1, "points", 3]),
            value("matrices", TensorProto.FLOAT, ["persons", 3, 2]),
        ],
        [value("pixels", TensorProto.UINT8, [1, "pixels", 1, 3])],
        [numpy_helper.from_array(np.array([1, -1, 1, 2], np.int64), "column")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


if __name__ == "__main__":
    with atomic_path(Path(__file__).parents[1] / "runtime" / "crop.onnx") as temporary:
        onnx.save(crop_graph(), str(temporary))
