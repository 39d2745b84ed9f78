"""The graph that the runtime crops with is the one that its source makes, and holds nothing that CUDA lacks."""

from pathlib import Path

import onnx

from autopose.export.crop_graph import crop_graph


def test_the_packaged_graph_is_up_to_date(repository: Path) -> None:
    packaged = onnx.load(str(repository / "runtime" / "crop.onnx"))
    assert packaged == crop_graph()
    assert {node.domain for node in packaged.graph.node if node.op_type == "GridSample"} == {"com.microsoft"}
