"""Triton model repositories: the layout and the text, read back by a small parser of protobuf's text form."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import onnx
import pytest

from autopose.errors import UsageError
from autopose.export.pipeline import export_model
from autopose.export.recipe import Recipe
from autopose.export.triton import triton_config, write_repository
from autopose.heatmap import Codec
from autopose.manifest import METADATA_KEY, Manifest
from autopose.runtime.models import resolve_model


def parse(text: str) -> dict[str, Any]:
    """Read protobuf text: scalars, enums, lists in brackets, repeated messages as lists of dicts."""
    tokens = re.findall(r'"[^"]*"|[\w.]+|[{}\[\]:,]', text)

    def message(position: int) -> tuple[dict[str, Any], int]:
        fields: dict[str, Any] = {}
        while position < len(tokens) and tokens[position] != "}":
            if tokens[position] == ",":
                position += 1
                continue
            name = tokens[position]
            position += 1
            if tokens[position] == ":":
                position += 1
            value, position = read(position)
            if name in fields:
                previous = fields[name]
                fields[name] = (previous if isinstance(previous, list) else [previous]) + [value]
            else:
                fields[name] = value
        return fields, position

    def read(position: int) -> tuple[Any, int]:
        token = tokens[position]
        if token == "{":
            inner, position = message(position + 1)
            return inner, position + 1
        if token == "[":
            items: list[Any] = []
            position += 1
            while tokens[position] != "]":
                if tokens[position] == ",":
                    position += 1
                    continue
                item, position = read(position)
                items.append(item)
            return items, position + 1
        return (token.strip('"') if not token.isdigit() else int(token)), position + 1

    return message(0)[0]


@pytest.fixture(scope="module")
def model_config() -> Any:
    """Triton's own schema, without the client around it (which would want gRPC)."""
    client = importlib.util.find_spec("tritonclient")
    if client is None or not client.submodule_search_locations:
        pytest.skip("tritonclient is not installed")
    path = Path(client.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig


@pytest.mark.parametrize("engine", [False, True])
def test_tritons_own_schema_takes_the_configuration(model_config: Any, engine: bool) -> None:
    from google.protobuf import text_format  # type: ignore[import-untyped]

    manifest = Manifest(task="detector", outputs=("boxes", "scores"), codec=Codec(input_size_wh=(416, 288)))
    config = text_format.Parse(triton_config(manifest, engine=engine, batches=(1, 4, 16)), model_config())
    assert list(config.input[0].dims) == [288, 416, 3]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000


def test_against_the_exported_graph(pose_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(pose_onnx)
    manifest = Manifest.from_json({item.key: item.value for item in model.metadata_props}[METADATA_KEY], "model")
    folder = write_repository(tmp_path, pose_onnx, manifest)
    assert (folder / "1" / "model.onnx").read_bytes() == pose_onnx.read_bytes()
    config = parse((folder / "config.pbtxt").read_text())
    assert config["name"] == folder.name
    assert re.fullmatch(r"\w+", folder.name)
    assert config["platform"] == "onnxruntime_onnx"
    assert config["max_batch_size"] == 64
    kinds = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
    for entries, values in ((config["input"], model.graph.input), (config["output"], model.graph.output)):
        assert len(entries) == len(values)
        for entry, value in zip(entries, values, strict=True):
            tensor = value.type.tensor_type
            assert entry["name"] == value.name
            assert entry["data_type"] == kinds[tensor.elem_type]
            assert entry["dims"] == [side.dim_value for side in tensor.shape.dim][1:]
    assert config["dynamic_batching"] == {"preferred_batch_size": [8, 64], "max_queue_delay_microseconds": 2000}


def test_models_have_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"graph")
    names = [
        write_repository(
            tmp_path / "models", tmp_path / "a.onnx", Manifest(name="fast").model_copy(update=changes)
        ).name
        for changes in (
            {},
            {"flip": False},
            {"flip": False, "decode": False, "outputs": ("heatmaps",)},
            {"flip": False, "decode": False, "outputs": ("heatmaps",), "io": "plain"},
            {"precision": "fp16"},
            {"name": "été"},
        )
    ]
    assert names[:4] == [f"autopose_fast_fp32{suffix}" for suffix in ("_flip", "", "_heatmaps", "_heatmaps_plain")]
    assert len(set(names)) == 6
    assert all(name.isascii() for name in names)


@pytest.mark.parametrize("suffix", [".engine", ".plan"])
def test_engines_are_plans_of_the_batches_that_they_take(tmp_path: Path, suffix: str) -> None:
    engine = tmp_path / f"made{suffix}"
    engine.write_bytes(b"engine")
    for batches, preferred in (((1, 4, 16), [4, 16]), ((1, 8, 8), [8])):
        folder = write_repository(tmp_path / "models", engine, Manifest(precision="fp16"), batches=batches)
        assert (folder / "1" / "model.plan").read_bytes() == b"engine"
        config = parse((folder / "config.pbtxt").read_text())
        assert config["platform"] == "tensorrt_plan"
        assert config["max_batch_size"] == batches[-1]
        assert config["dynamic_batching"]["preferred_batch_size"] == preferred


def test_a_model_takes_no_other_ones_place(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"graph")
    manifest = Manifest(task="detector", outputs=("boxes", "scores"), flip=False, source_sha256="1")
    folder = write_repository(tmp_path, tmp_path / "a.onnx", manifest)
    (tmp_path / "a.onnx").write_bytes(b"new weights")
    write_repository(tmp_path, tmp_path / "a.onnx", manifest.model_copy(update={"source_sha256": "2"}))
    assert (folder / "1" / "model.onnx").read_bytes() == b"new weights"
    for changes, reason in (
        ({"looks": 2}, "its number of looks is 1; that of this one, 'unnamed', is 2"),
        ({"codec": Codec(input_size_wh=(416, 320))}, "its input is uint8 of 192x256 pixels.* is uint8 of 416x320"),
        ({"codec": Codec(stride=8)}, "its heatmap size is 48x64; .* is 24x32"),
        ({"skeleton": "mpii16"}, "its skeleton is coco17; .* is mpii16"),
        ({"skeleton": {"name": "coco17", "joints": ["ear"]}}, "its joints is nose, .*, right_ankle; .* is ear"),
        ({"task": "pose"}, "its task is detector; .* is pose"),
        ({"outputs": ("scores", "boxes")}, "its output is boxes, scores; .* is scores, boxes"),
        ({"fingerprint": "abc"}, "its genotype is "),
    ):
        with pytest.raises(UsageError, match=f"holds another model, 'unnamed': {reason}"):
            write_repository(tmp_path, tmp_path / "a.onnx", manifest.model_copy(update=changes))
    assert (folder / "1" / "model.onnx").read_bytes() == b"new weights"
    write_repository(tmp_path, tmp_path / "a.onnx", manifest.model_copy(update={"name": "日本"}))
    with pytest.raises(UsageError, match="its name is 日本"):  # both are only underscores in ASCII
        write_repository(tmp_path, tmp_path / "a.onnx", manifest.model_copy(update={"name": "中国"}))


@pytest.mark.parametrize("name", ["detector-default", "detector-fast", "detector-best"])
def test_shapes_of_the_bundled_detectors(name: str) -> None:
    """The number of boxes is in the graph, and only there: the manifest has none."""
    model = onnx.load(resolve_model(name, task="detector"), load_external_data=False)
    manifest = Manifest.from_json({item.key: item.value for item in model.metadata_props}[METADATA_KEY], "model")
    config = parse(triton_config(manifest, engine=False, batches=(1, 4, 16)))
    for entries, values in ((config["input"], model.graph.input), (config["output"], model.graph.output)):
        for entry, value in zip(entries, values, strict=True):
            assert entry["dims"] == [side.dim_value for side in value.type.tensor_type.shape.dim][1:]


@pytest.mark.parametrize(
    ("manifest", "dims", "outputs"),
    [
        (Manifest(io="plain", decode=False, outputs=("heatmaps",)), [3, 256, 192], {"heatmaps": [17, 64, 48]}),
        (
            Manifest(task="detector", outputs=("boxes", "scores"), codec=Codec(input_size_wh=(416, 288))),
            [288, 416, 3],
            {"boxes": [100, 4], "scores": [100]},
        ),
        (
            Manifest(task="detector", outputs=("boxes", "scores"), codec=Codec(input_size_wh=(576, 448)), looks=2),
            [448, 576, 3],
            {"boxes": [200, 4], "scores": [200]},
        ),
    ],
)
def test_shapes_of_other_exports(manifest: Manifest, dims: list[int], outputs: dict[str, list[int]]) -> None:
    config = parse(triton_config(manifest, engine=True, batches=(1, 4, 16)))
    assert config["platform"] == "tensorrt_plan"
    assert config["max_batch_size"] == 16
    assert config["input"][0]["dims"] == dims
    assert config["input"][0]["data_type"] == ("TYPE_FP32" if manifest.io == "plain" else "TYPE_UINT8")
    assert {entry["name"]: entry["dims"] for entry in config["output"]} == outputs


def test_refuses_engines_without_a_batch_of_one_before_they_are_built(
    pose_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []
    monkeypatch.setattr("autopose.export.pipeline.engine_for", lambda model, out, recipe: built.append(out))
    asked = Recipe(builder="tensorrt", batches=(4, 8, 16), triton=tmp_path / "repository")
    with pytest.raises(UsageError, match="starts from batches of 1"):
        export_model(str(pose_onnx), tmp_path / "m.engine", asked)
    assert not built
    export_model(str(pose_onnx), tmp_path / "m.onnx", Recipe(batches=(4, 8, 16), triton=tmp_path / "repository"))
    assert list((tmp_path / "repository").glob("*/1/model.onnx"))  # a graph takes every batch
