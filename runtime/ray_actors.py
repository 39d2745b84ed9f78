"""Many sources side by side: a Ray Data actor pool, one estimator per actor, whole sources as its units of work.

The results are those of the plain run: each actor runs :func:`autopose.runtime.inference.infer_source`; no source is
split, since ids and smoothing need its frames in order.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from autopose.errors import AutoposeError, BackendError, UsageError, require
from autopose.runtime.inference import InferOptions, RunReport, infer_source
from autopose.runtime.models import bundled_models
from autopose.runtime.ort_session import usable_cores
from autopose.runtime.run import open_estimator
from autopose.runtime.sources import Selection, SourceSpec

#: Of a Ray started here; its least is 75 MiB.
OBJECT_STORE_BYTES = 100 * 2**20


def run_with_ray(
    specs: Sequence[SourceSpec],
    settings: Mapping[str, Any],
    options: InferOptions,
    *,
    actors: int | None = None,
) -> list[RunReport]:
    """Process sources on Ray actors and return a report of each, in the order given.

    A running Ray cluster is joined; else one is started on this machine. Paths must mean the same on every node.

    Args:
        specs: files; live sources belong to one machine and are refused.
        settings: of the estimators.
        options: of the runs.
        actors: how many; None for one per two cores, or per source if those are fewer.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: a live source.
        BackendError: an actor could not be made.
    """
    ray = require("ray", extra="ray", why="--ray")
    data = require("ray.data", extra="ray", why="--ray")
    if any(spec.kind == "live" for spec in specs):
        raise UsageError("--ray is for files: read a webcam or a stream without it.")
    if options.show is not None:
        raise UsageError("--show has no place with --ray: the frames are drawn in other processes.")
    count = min(len(specs), actors or max(1, usable_cores() // 2))
    absolute = replace(options, out=Path(options.out).resolve(), boxes=options.boxes and options.boxes.resolve())
    rows = [{"number": i, "spec": _packed(spec)} for i, spec in enumerate(specs)]
    shared = _absolute_models(settings)
    if shared.get("threads") is None:
        shared["threads"] = max(1, usable_cores() // (2 * count))  # actors share the cores of this machine
    own = not ray.is_initialized()
    if own:
        _join_or_start(ray, count)
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # else each run prints its plan
    try:
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        dataset = data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker,
            fn_constructor_kwargs={"settings": shared, "options": _packed_options(absolute)},
            compute=data.ActorPoolStrategy(size=count),
            num_cpus=1,
        )
        results = sorted(dataset.take_all(), key=lambda row: int(row["number"]))
    except ray.exceptions.RayError as error:
        raise BackendError(f"Ray could not finish the run: {str(error).strip().splitlines()[-1]}") from None
    finally:
        if own:
            ray.shutdown()
    misused = next((row["misused"] for row in results if row["misused"]), "")
    if misused:  # options that contradict each other do so for every source
        raise UsageError(misused)
    reports = [_report(json.loads(row["report"])) for row in results]
    if len(reports) == 1 and reports[0].problem and not reports[0].frames:
        raise BackendError(reports[0].problem)
    return reports


def _join_or_start(ray: Any, count: int) -> None:
    """Join the cluster of ``RAY_ADDRESS`` or ``ray start``, else start Ray on this machine with room for the actors."""
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        try:
            # One core more than the actors hold: Ray Data's own tasks would wait for ever for a free one. Ray starts
            # workers at niceness 15, where a busy machine hardly lets them start; here they are the run itself. Only
            # names and reports pass through the object store, which would otherwise take 30 % of the memory.
            ray.init(
                num_cpus=count + 1,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _system_config={"worker_niceness": 0},
                **quiet,
            )
        except ValueError:
            # A cluster that runs has resources of its own and refuses these. It is not looked for first: "auto" would
            # also find what another program has started for itself and will end when it is done.
            ray.init(address="auto", **quiet)
    except Exception as error:  # noqa: BLE001 - Ray raises bare exceptions when it cannot start
        raise BackendError(
            f"Ray could be neither started on this machine nor joined: {error} After a crash of a cluster, "
            "'ray stop' makes Ray forget it."
        ) from None


class Worker:
    """What each actor holds: an estimator; called with one source at a time."""

    def __init__(self, settings: dict[str, Any], options: str) -> None:
        self.estimator = open_estimator(settings)
        self.options = _unpacked_options(options)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Process a source and return its report as JSON."""
        spec = _unpacked(row["spec"])
        misused = ""
        try:
            report = infer_source(self.estimator, spec, self.options)
        except AutoposeError as error:
            report = RunReport(spec.location, problem=str(error))
            misused = str(error) if isinstance(error, UsageError) else ""
        content = {**asdict(report), "files": [str(path) for path in report.files]}
        return {"number": row["number"], "report": json.dumps(content), "misused": misused}


def _absolute_models(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with models that are files or folders as absolute paths: actors run in another folder."""
    names = {"model": {*bundled_models()}, "detector": {*bundled_models("detector"), "full-frame"}}
    absolute = dict(settings)
    for key in names.keys() & settings.keys():
        model = settings[key]
        if isinstance(model, str | Path) and str(model) not in names[key] and Path(model).exists():
            absolute[key] = str(Path(model).resolve())
    return absolute


def _packed(spec: SourceSpec) -> str:
    """Return a source as JSON, its files absolute: actors run in another folder."""
    return json.dumps({**asdict(spec), "files": [str(path.absolute()) for path in spec.files]})


def _unpacked(text: str) -> SourceSpec:
    content = json.loads(text)
    return SourceSpec(**{**content, "files": tuple(Path(name) for name in content["files"])})


def _packed_options(options: InferOptions) -> str:
    content = asdict(replace(options, show=None))
    return json.dumps({**content, "out": str(options.out), "boxes": options.boxes and str(options.boxes)})


def _unpacked_options(text: str) -> InferOptions:
    content = json.loads(text)
    return InferOptions(
        **{
            **content,
            "out": Path(content["out"]),
            "boxes": content["boxes"] and Path(content["boxes"]),
            "save": None if content["save"] is None else tuple(content["save"]),
            "selection": Selection(**content["selection"]),
        }
    )


def _report(content: dict[str, Any]) -> RunReport:
    return RunReport(**{**content, "files": [Path(name) for name in content["files"]]})
