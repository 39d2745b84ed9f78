"""One export from start to end: FP32 graph, precision, parity, engine, report. ``autopose export`` calls this."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autopose.errors import BackendError, ParityError, UsageError, require
from autopose.export import cache
from autopose.export.crops import calibration_images, check_images, refuse_missing
from autopose.export.deviation import LIMITS, Deviation, Precision
from autopose.export.recipe import Recipe, engine_key, graph_key, rebuild_command
from autopose.export.source import Source, name_of, resolve_source, source_file
from autopose.export.triton import refuse_for_triton, write_repository
from autopose.files import atomic_path
from autopose.manifest import METADATA_KEY, Manifest, Task
from autopose.runtime.gpu import gpu_here
from autopose.runtime.models import DETECTOR, bundled_models
from autopose.runtime.session import open_session

if TYPE_CHECKING:  # not part of the base install, which tells so in a sentence
    import onnx

    from autopose.export.parity import Reference

log = logging.getLogger(__name__)

#: Share of INT8's limit that the calibration pictures may use up.
CALIBRATED_SHARE = 0.6
_EXTRAS = {None: "train", "tensorrt": "trt", "tensorrt_rtx": "trt-rtx"}


@dataclass(frozen=True)
class Result:
    """What an export made.

    Attributes:
        path: the artefact.
        manifest: what it carries.
        deviation: of its graph from the FP32 network.
        checked_on: in words.
        details: further figures (layers kept in FP32, half-precision share, builder, whether it came from the cache).
    """

    path: Path
    manifest: Manifest
    deviation: Deviation
    checked_on: str
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        limits = LIMITS[self.manifest.precision]
        return {
            "path": str(self.path),
            "precision": self.manifest.precision,
            "checked_on": self.checked_on,
            "deviation": self.deviation.to_dict(),
            "limits": {"mean_px": limits.mean_px, "max_px": limits.max_px, "score": limits.score},
            "manifest": self.manifest.model_dump(mode="json"),
            "details": self.details,
        }

    @staticmethod
    def from_dict(content: dict[str, Any], path: Path) -> "Result":
        """Return what :meth:`to_dict` described, now at ``path``."""
        return Result(
            path,
            Manifest.model_validate(content["manifest"]),
            Deviation(**content["deviation"]),
            content["checked_on"],
            content["details"],
        )


def export_model(model: str, out: Path | None = None, recipe: Recipe | None = None) -> Result:
    """Export a model.

    Args:
        model: bundled name, run folder, checkpoint, or an exported FP32 ``.onnx``.
        out: file to write; None: the model's name with its suffix in the working directory.
        recipe: what to make; None: an FP32 ONNX graph.

    Raises:
        UsageError: options that contradict each other.
        ModelError: there is no such model or it cannot be exported.
        DataError: there are no such pictures to calibrate or check with.
        ParityError: the artefact deviates from the FP32 network.
        BackendError, MissingDependencyError: it cannot be built or checked here.
    """
    recipe = recipe or Recipe()
    for option in ("check", "calibration", "images"):
        refuse_missing(f"--{option}", getattr(recipe, option))  # before the work, not after it
    if recipe.check is not None and recipe.check.is_file():
        require("pycocotools", extra="train", why="--check with annotations")
    if recipe.triton is not None:
        refuse_for_triton(recipe.builder, recipe.batches)
    suffixes = (".engine", ".plan") if recipe.builder else (".onnx",)
    if out is not None and out.suffix.lower() not in suffixes:
        raise UsageError(f"-o {out}: this export writes a {suffixes[0]} file. Name it so, or leave -o out.")
    out = out or Path(f"{name_of(model)}{suffixes[0]}")
    if out.exists() and out.samefile(source_file(model, flip=recipe.flip)):
        raise UsageError(f"{out}: is the model itself, which the export would overwrite. Name another file with -o.")
    recipe = as_bundled(model, recipe)
    if recipe.builder is None:
        require("onnx", extra="train", why="Exporting a model")
        result = _export(model, out, recipe, lambda graph, path, manifest: _move(graph, path))
    else:
        result = engine_for(model, out, recipe)
    if recipe.triton is not None:
        # Bundled detectors share their weights, and with them the name that these have.
        named = result.manifest.model_copy(update={"name": model}) if _bundled_detector(model) else result.manifest
        write_repository(recipe.triton, result.path, named, batches=recipe.batches)
    return result


def as_bundled(model: str, recipe: Recipe) -> Recipe:
    """Return the recipe with the looks and the input size that a bundled detector has, where it names none itself.

    Bundled detectors share their weights, which do not say it. The size is that of as many looks.
    """
    graph = _bundled_detector(model)
    if graph is None:
        return recipe
    with open_session(graph, device="cpu", threads=1) as session:
        manifest = session.manifest
    looks = recipe.looks or manifest.looks
    size = manifest.codec.input_size_wh if looks == manifest.looks else None
    return replace(recipe, looks=looks, input_wh=recipe.input_wh or size)


def _bundled_detector(model: str) -> Path | None:
    """Return the graph of a bundled detector; None if the model is none."""
    return bundled_models("detector").get(model.removeprefix(DETECTOR)) if model.startswith(DETECTOR) else None


def graph_for(model: str, *, flip: bool, task: Task) -> Path:
    """Return the FP32 ONNX graph of a run folder or checkpoint, from the cache if it was made before.

    Raises:
        ModelError: the network is for another task, which is told before the time is taken to export it.
        UsageError: there is no folder to keep it in.
    """
    path = source_file(model, flip=flip)
    require("onnx", extra="train", why="Exporting a model")
    graph = cache.make_cache_folder() / f"{graph_key(path, flip=flip)}.onnx"
    if not graph.exists():
        _export(model, graph, Recipe(flip=flip), lambda made, out, manifest: _move(made, out), task=task)
    return graph


def engine_for(model: str, out: Path | None, recipe: Recipe) -> Result:
    """Return an engine, from the cache if it was built before; ``out`` None leaves it in the cache."""
    from autopose.export.builders import load_builder, parse_targets
    from autopose.export.engine_files import write_engine

    assert recipe.builder is not None
    trt = load_builder(recipe.builder)  # before any work: a missing TensorRT is one sentence
    if recipe.targets:
        parse_targets(trt, recipe.targets)
    elif recipe.builder == "tensorrt_rtx" and gpu_here() is None:
        raise BackendError(
            "No NVIDIA GPU is at hand to build this TensorRT-RTX engine for. Name the GPUs that shall run it, for "
            "instance --target sm89 (RTX 40) or --target sm120 (RTX 50)."
        )
    require("onnx", extra=_EXTRAS[recipe.builder], why="Building an engine")
    key = engine_key(source_file(model, flip=recipe.flip), recipe, trt.__version__)
    found = cache.cached_engine(key)
    if found is None:
        kind, options, rebuild = recipe.builder, recipe.engine_options(), rebuild_command(model, None, recipe)

        def build(graph: Path, path: Path, manifest: Manifest) -> dict[str, Any]:
            return write_engine(graph, path, manifest, kind, options, rebuild=rebuild)

        name = None if out is None else out.name
        found = cache.keep(key, lambda path: _export(model, path, recipe, build, name=name).to_dict())
    else:
        log.info("Served from the cache: %s", found[0])
        found[1]["details"]["from_cache"] = True
    engine, report = found
    if out is not None:
        cache.copy_engine(engine, out, rebuild=rebuild_command(model, out, recipe))
    return Result.from_dict(report, out or engine)


def _export(
    model: str,
    out: Path,
    recipe: Recipe,
    finish: Callable[[Path, Path, Manifest], dict[str, Any]],
    *,
    name: str | None = None,
    task: Task | None = None,
) -> Result:
    """Make the graph, hold it against the FP32 network, and let ``finish`` turn it into the artefact.

    ``name`` is what messages call it: an engine is made in the cache.
    """
    from autopose.export.parity import check, check_engine

    precision: Precision = recipe.precision or ("fp16" if recipe.builder else "fp32")
    source = resolve_source(model, flip=recipe.flip, task=task)
    reference = _reference(source, recipe)
    manifest: Manifest = reference.manifest.model_copy(update={"precision": precision})
    images, checked_on = check_images(recipe.check, manifest, images=recipe.images, calibration=recipe.calibration)
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "fp32.onnx"
        _write_fp32(source, recipe, graph)
        details: dict[str, Any] = {}
        if precision != "fp32":
            graph, details = _convert(graph, reference, manifest, recipe)
        expected = reference.maps(images)
        deviation = check(
            expected,
            graph,
            images,
            name=name or out.name,
            for_engine=recipe.builder is not None,
            compact=recipe.compact,
        )
        if not deviation.joints:
            log.warning("Nothing in %s was confident enough to compare: give --check images like yours.", checked_on)
        if recipe.check is not None and recipe.check.is_file() and manifest.task == "pose":
            from autopose.export.ap_change import ap_change

            ap = ap_change(reference, graph, recipe.check, images=recipe.images, for_engine=recipe.builder is not None)
            details |= {"AP_fp32": ap.reference, "AP": ap.artefact, "AP_change": ap.change}
        details |= finish(graph, out, manifest)
        if recipe.builder is not None:
            built = check_engine(expected, out, images, name=name or out.name)
            details |= {} if built is None else {"engine_mean_px": built.mean_px, "engine_max_px": built.max_px}
    return Result(out, manifest, deviation, checked_on, details)


def _move(graph: Path, out: Path) -> dict[str, Any]:
    with atomic_path(out) as temporary:
        temporary.write_bytes(graph.read_bytes())
    return {}


def _reference(source: Source, recipe: Recipe) -> "Reference":
    """Return the FP32 network that the recipe asks for, for :mod:`~.parity`; nothing is traced yet."""
    from autopose.export.parity import GraphReference

    if source.graph is not None:
        given = GraphReference(source.graph)
        _refuse_other_options(source.graph, given.manifest, recipe)
        return given
    assert source.checkpoint is not None
    require("onnxscript", extra="train", why="Exporting a checkpoint")
    from autopose.export.to_onnx import deployed_module, manifest_for
    from autopose.export.torch_reference import TorchReference

    if source.checkpoint.task == "pose" and (recipe.looks is not None or recipe.input_wh is not None):
        raise UsageError("--looks and --input go with detectors: a pose network is fed as it was trained.")
    manifest = manifest_for(source.checkpoint, recipe.graph_options())
    return TorchReference(deployed_module(source.checkpoint, manifest), manifest)


def _refuse_other_options(graph: Path, have: Manifest, recipe: Recipe) -> None:
    """Refuse to make of an exported graph what only its checkpoint could become."""
    if recipe.compact:
        raise UsageError(f"{graph}: --compact needs the checkpoint that this graph was exported from.")
    options: list[tuple[str, Any, Any]] = [(f"--io {recipe.io}", recipe.io, have.io)]
    if have.task == "pose":
        options += [
            ("--flip" if recipe.flip else "--no-flip", recipe.flip, have.flip),
            ("--decode" if recipe.decode else "--no-decode", recipe.decode, have.decode),
        ]
    if recipe.looks is not None:
        options.append((f"--looks {recipe.looks}", recipe.looks, have.looks))
    if recipe.input_wh is not None:
        options.append(("--input {}x{}".format(*recipe.input_wh), recipe.input_wh, have.codec.input_size_wh))
    for option, wanted, found in options:
        if wanted != found:
            raise UsageError(
                f"{graph}: {option} cannot be had from this graph, which was exported otherwise.\n"
                "Give its checkpoint instead of the .onnx, or leave the option as it was then."
            )


def _write_fp32(source: Source, recipe: Recipe, path: Path) -> None:
    """Write the FP32 graph: traced, or the one that was given."""
    if source.graph is not None:
        import onnx

        from autopose.export.onnx_graph import load_graph

        onnx.save(load_graph(source.graph), str(path))  # with its weights, which bundled graphs keep in another file
        return
    assert source.checkpoint is not None
    from autopose.export.to_onnx import export_onnx

    compact = recipe.compact and not recipe.builder
    export_onnx(source.checkpoint, path, recipe.graph_options(), compact=compact, check=False)


def _convert(graph: Path, reference: "Reference", manifest: Manifest, recipe: Recipe) -> tuple[Path, dict[str, Any]]:
    """Convert the FP32 graph; return the new file and what is worth reporting."""
    import onnx

    from autopose.export.half import half_graph
    from autopose.export.onnx_graph import load_graph
    from autopose.export.parity import check
    from autopose.export.quantise import quantised_graph
    from autopose.runtime.session import normalised

    pictures = calibration_images(recipe.calibration, manifest, images=recipe.images)
    calibration = normalised(pictures, manifest) if manifest.io == "plain" else pictures
    model, target = load_graph(graph), graph.with_name("converted.onnx")

    def save(candidate: "onnx.ModelProto") -> None:
        onnx.helper.set_model_props(candidate, {METADATA_KEY: manifest.to_json()})
        onnx.save(candidate, str(target))

    if manifest.precision == "fp16":
        half = half_graph(model, calibration)
        save(half.model)
        for name, value in half.kept.items():
            log.warning("%s stays FP32: it reaches %.0f.", name, value)
        return target, {"half_share": half.share, "kept_fp32": dict(half.kept)}

    expected = reference.maps(pictures)

    def accept(candidate: "onnx.ModelProto") -> bool:
        save(candidate)
        try:
            deviation = check(expected, target, pictures, for_engine=recipe.builder is not None)
        except ParityError as error:
            log.info("%s", error)
            return False
        # Other pictures than those that the ranges were taken on deviate more.
        return deviation.mean_px <= CALIBRATED_SHARE * LIMITS["int8"].mean_px

    if recipe.calibration is None:
        log.warning("INT8 is calibrated on synthetic pictures: give --calibration DIR with images like yours.")
    quantised = quantised_graph(model, calibration, symmetric=recipe.builder is not None, accept=accept)
    save(quantised.model)
    return target, {"int8_share": quantised.share, "kept_fp32": list(quantised.kept)}
