"""Real ONNX files whose right answer is known: each joint is a disc of its own colour on grey."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from autopose.heatmap import Codec
from autopose.manifest import METADATA_KEY, Manifest
from autopose.skeleton import COCO17

GREY = 128
#: 17 BGR colours, far from each other, from grey and from the black of borders.
COLOURS = np.array([c for c in product((20, 128, 235), repeat=3) if c not in ((20, 20, 20), (128, 128, 128))][:17])
INPUT_WH = (96, 128)
DETECTOR_WH = (160, 128)

PoseModel = Callable[..., Path]


def _save(nodes: list[Any], constants: dict[str, Any], outputs: list[Any], manifest: Manifest, path: Path) -> Path:
    width, height = manifest.codec.input_size_wh
    shape: list[str | int | None] = ["N", height, width, 3] if manifest.io == "uint8" else ["N", 3, height, width]
    kind = TensorProto.UINT8 if manifest.io == "uint8" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", kind, shape)],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _pose_model(path: Path, *, flip: bool = True, decode: bool = True, io: str = "uint8", **changes: Any) -> Path:
    """Write a network whose map k is near 1 where the picture has the colour k."""
    fields = {"name": path.stem, "flip": flip, "decode": decode, "io": io, "codec": Codec(input_size_wh=INPUT_WH)}
    fields |= {"outputs": ("keypoints",) if decode else ("heatmaps",), **changes}
    manifest = Manifest.model_validate(fields)
    mean, std = np.array(manifest.mean, np.float32), np.array(manifest.std, np.float32)
    constants: dict[str, Any] = {
        "colours": COLOURS.astype(np.float32)[None, :, :, None, None],
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
        "sharp": np.float32(-1 / 900),
    }
    node = helper.make_node
    if io == "uint8":
        nodes = [
            node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
            node("Transpose", ["f"], ["x"], perm=[0, 3, 1, 2]),
        ]
    else:  # normalised RGB back to BGR 0-255
        constants |= {"std": (std * 255)[None, :, None, None], "mean": (mean * 255)[None, :, None, None]}
        constants |= {"bgr": np.array([2, 1, 0], np.int64)}
        nodes = [
            node("Mul", ["images", "std"], ["m"]),
            node("Add", ["m", "mean"], ["rgb"]),
            node("Gather", ["rgb", "bgr"], ["x"], axis=1),
        ]
    nodes += [
        node("Unsqueeze", ["x", "axis1"], ["x5"]),
        node("Sub", ["x5", "colours"], ["difference"]),
        node("Mul", ["difference", "difference"], ["square"]),
        node("ReduceSum", ["square", "axis2"], ["distance"], keepdims=0),
        node("Mul", ["distance", "sharp"], ["scaled"]),
        node("Exp", ["scaled"], ["likeness"]),
        node("AveragePool", ["likeness"], ["heatmaps"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    if not decode:
        shape: list[str | int | None] = ["N", 17, INPUT_WH[1] // 4, INPUT_WH[0] // 4]
        return _save(nodes, constants, [helper.make_tensor_value_info("heatmaps", 1, shape)], manifest, path)
    constants |= {"flat": np.array([0, 17, -1], np.int64), "columns": np.int64(INPUT_WH[0] // 4)}
    constants |= {"last": np.array([-1], np.int64), "stride": np.float32(4), "offset": np.float32(1.5)}
    nodes += [
        node("Reshape", ["heatmaps", "flat"], ["maps"]),
        node("ArgMax", ["maps"], ["peak"], axis=2, keepdims=1),
        node("ReduceMax", ["maps"], ["score"], axes=[2], keepdims=1),
        node("Mod", ["peak", "columns"], ["column"]),
        node("Div", ["peak", "columns"], ["row"]),
        node("Concat", ["column", "row"], ["cell"], axis=2),
        node("Cast", ["cell"], ["cellf"], to=TensorProto.FLOAT),
        node("Mul", ["cellf", "stride"], ["pixels"]),
        node("Add", ["pixels", "offset"], ["xy"]),
        node("Concat", ["xy", "score"], ["keypoints"], axis=2),
    ]
    return _save(nodes, constants, [helper.make_tensor_value_info("keypoints", 1, ["N", 17, 3])], manifest, path)


def _detector_model(path: Path) -> Path:
    """Write a network that boxes what is neither grey nor black in the left and in the right half of the picture."""
    width, _ = DETECTOR_WH
    manifest = Manifest(
        task="detector", name="toy-detector", outputs=("boxes", "scores"), codec=Codec(input_size_wh=DETECTOR_WH)
    )
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
        node("Sub", ["f", "grey"], ["d"]),
        node("Abs", ["d"], ["a"]),
        node("ReduceMax", ["a"], ["far"], axes=[3], keepdims=0),
        node("ReduceMax", ["f"], ["bright"], axes=[3], keepdims=0),
        node("Greater", ["far", "margin"], ["coloured"]),
        node("Greater", ["bright", "margin"], ["lit"]),
        node("And", ["coloured", "lit"], ["both"]),
        node("Cast", ["both"], ["mask"], to=TensorProto.FLOAT),
    ]
    constants: dict[str, Any] = {"grey": np.float32(GREY), "margin": np.float32(60)}
    boxes, scores = [], []
    for side, (first, last) in {"l": (0, width // 2), "r": (width // 2, width)}.items():
        constants |= {f"{side}0": np.array([first], np.int64), f"{side}1": np.array([last], np.int64)}
        constants |= {"axis_x": np.array([2], np.int64), f"{side}x": np.int64(first)}
        nodes.append(node("Slice", ["mask", f"{side}0", f"{side}1", "axis_x"], [f"{side}mask"]))
        for axis, name, shift in ((1, "x", f"{side}x"), (2, "y", "zero")):
            profile = f"{side}{name}profile"
            nodes.append(node("ReduceMax", [f"{side}mask"], [profile], axes=[axis], keepdims=0))
            nodes.append(node("ArgMax", [profile], [f"{profile}a"], axis=1, keepdims=1))
            nodes.append(node("ArgMax", [profile], [f"{profile}b"], axis=1, keepdims=1, select_last_index=1))
            nodes.append(node("Add", [f"{profile}a", shift], [f"{side}{name}low"]))
            nodes.append(node("Add", [f"{profile}b", shift], [f"{side}{name}end"]))
            nodes.append(node("Add", [f"{side}{name}end", "one"], [f"{side}{name}high"]))
        nodes.append(node("Concat", [f"{side}{n}" for n in ("xlow", "ylow", "xhigh", "yhigh")], [f"{side}box"], axis=1))
        nodes.append(node("Unsqueeze", [f"{side}box", "axis1"], [f"{side}box3"]))
        nodes.append(node("ReduceMax", [f"{side}mask"], [f"{side}any"], axes=[1, 2], keepdims=0))
        nodes.append(node("Unsqueeze", [f"{side}any", "axis1"], [f"{side}any2"]))
        nodes.append(node("Mul", [f"{side}any2", "confident"], [f"{side}score"]))
        boxes.append(f"{side}box3")
        scores.append(f"{side}score")
    constants |= {
        "zero": np.int64(0),
        "one": np.int64(1),
        "axis1": np.array([1], np.int64),
        "confident": np.float32(0.9),
    }
    nodes.append(node("Concat", boxes, ["integer_boxes"], axis=1))
    nodes.append(node("Cast", ["integer_boxes"], ["boxes"], to=TensorProto.FLOAT))
    nodes.append(node("Concat", scores, ["scores"], axis=1))
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 2, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2]),
    ]
    return _save(nodes, constants, outputs, manifest, path)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pose-flip``, ``pose`` (no flip), ``maps``, ``plain`` and ``detector``, all ``.onnx``."""
    folder = tmp_path_factory.mktemp("models")
    _pose_model(folder / "pose-flip.onnx")
    _pose_model(folder / "pose.onnx", flip=False)
    _pose_model(folder / "maps.onnx", flip=False, decode=False)
    _pose_model(folder / "plain.onnx", flip=False, io="plain")
    _detector_model(folder / "detector.onnx")
    return folder


@pytest.fixture(scope="session")
def make_pose_model() -> PoseModel:
    """Writer of further pose models."""
    return _pose_model


#: Where the joints of the toy figure are, as shares of its width and height.
FIGURE = np.array(
    [(0.5, 0.06), (0.58, 0.02), (0.42, 0.02), (0.7, 0.08), (0.3, 0.08), (0.75, 0.25), (0.25, 0.25), (0.9, 0.4),
     (0.1, 0.4), (0.98, 0.55), (0.02, 0.55),
     (0.68, 0.55), (0.32, 0.55), (0.7, 0.76), (0.3, 0.76), (0.72, 0.98), (0.28, 0.98)]
)  # fmt: skip


def figure_at(x: float, y: float, width: float = 60, height: float = 110) -> NDArray[np.float64]:
    """Return the joints ``(17, 2)`` of a figure whose box has this top left corner."""
    return FIGURE * (width, height) + (x, y)


def paint(size_wh: tuple[int, int], *figures: NDArray[np.float64], radius: int = 4) -> NDArray[np.uint8]:
    """Return a grey picture with a disc of its colour on each joint."""
    image = np.full((size_wh[1], size_wh[0], 3), GREY, np.uint8)
    for joints in figures:
        for (x, y), colour in zip(joints, COLOURS.tolist(), strict=True):
            cv2.circle(image, (round(float(x)), round(float(y))), radius, colour, -1)
    return image


@pytest.fixture(scope="session")
def figures() -> Any:
    """The toy world: ``paint`` and ``figure_at``, as attributes."""

    class Figures:
        paint = staticmethod(paint)
        at = staticmethod(figure_at)
        skeleton = COCO17

    return Figures


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 24 frames at 12 per second, 320x240, in which two figures walk in their halves of the picture."""
    from fractions import Fraction

    from autopose.runtime.video_writer import VideoWriter

    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    writer = VideoWriter(path, (320, 240), fps=Fraction(12), time_base=Fraction(1, 12), crf=4)
    for t in range(24):
        writer.write(paint((320, 240), figure_at(10 + 3 * t, 60), figure_at(245 - 3 * t, 70)), t)
    writer.close()
    return path
