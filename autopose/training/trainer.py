"""The training loop: resumable to the bit, the same for pose networks and detectors."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from autopose.checkpoint import Checkpoint
from autopose.errors import UsageError
from autopose.genotype import Genotype
from autopose.training.config import TrainConfig
from autopose.training.distributed import Group, own_device, wait
from autopose.training.fit import check_fit
from autopose.training.interrupt import interruptible
from autopose.training.log import refuse_other_run, summary_writer
from autopose.training.resumable import is_resumable
from autopose.training.run import Run

#: Called after every step with (step, total, loss, metrics or None).
Report = Callable[[int, int, float, dict[str, float] | None], None]


def train(
    genotype: Genotype,
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    init: Checkpoint | None = None,
    report: Report | None = None,
    device: torch.device | None = None,
    max_seconds: float | None = None,
) -> Path:
    """Train a network.

    Writes into ``out``: ``genotype.json``, ``config.toml``, ``state.safetensors`` and the one before (resumable),
    ``last.safetensors`` and ``best.safetensors`` (averaged weights, by the tune figure), ``log.jsonl``, TensorBoard
    events, ``tune.json``.

    Args:
        genotype: the network.
        config: the recipe.
        out: run folder.
        resume: go on from ``out``; the result is the same to the bit as that of an unbroken run on a CPU.
        init: start from these weights (those that fit by name and shape).
        report: progress callback.
        device: where to train; a GPU if there is one.
        max_seconds: stop, resumable, after this time.

    Returns:
        The path of the best checkpoint.

    Raises:
        UsageError: ``out`` holds another run and ``resume`` is not set, or nothing to resume.
        ConfigError: genotype and recipe do not fit.
    """
    check_fit(genotype, config)
    if device is None:
        device = own_device()
    if is_resumable(out) and not resume:
        raise UsageError(f"{out}: holds a run already. Add --resume to go on, or choose another folder with -o.")
    if resume and not is_resumable(out):
        raise UsageError(f"{out}: holds no state to resume. Leave --resume out to start.")
    refuse_other_run(out, "step")
    ranks = Group(device)
    run = Run(genotype, config, out, ranks, resume=resume, init=init)
    settings, progress, first = config.train, run.progress, ranks.rank == 0
    loader = run.loader()
    writer = summary_writer(out, progress.step) if first else None
    earlier, begun = progress.seconds, time.monotonic()
    with closing(loader), interruptible() as asked_to_stop:
        for batch in loader:
            run.learn(batch)
            seconds = time.monotonic() - begun
            progress.seconds = earlier + seconds
            out_of_time = max_seconds is not None and seconds > max_seconds
            stopping = ranks.any(asked_to_stop() or out_of_time)
            if first:
                step, last = progress.step, progress.step == progress.total
                metrics = run.evaluate() if step % settings.eval_every == 0 or last else None
                if metrics is not None or step % 50 == 0:
                    _log(out / "log.jsonl", writer, run.entry(metrics))
                if metrics is not None or step % settings.save_every == 0 or last or stopping:
                    run.save()
                if report is not None:
                    report(step, progress.total, progress.loss, metrics)
            if stopping:
                break
    if writer is not None:
        writer.close()
    wait()  # for rank 0's last evaluation and files
    # DistributedDataParallel goes before its group: freed after it, while Python's lock is held, it can wait for ever
    # for a thread of Gloo that waits for the lock.
    del run.model
    ranks.close()
    best = out / "best.safetensors"
    return best if best.exists() else out / "last.safetensors"


def _log(path: Path, writer: Any, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    if writer is not None:
        flat = {"loss": entry["loss"], "lr": entry["lr"]} | {f"tune/{k}": v for k, v in entry.get("tune", {}).items()}
        for key, value in flat.items():
            writer.add_scalar(key, value, entry["step"])
