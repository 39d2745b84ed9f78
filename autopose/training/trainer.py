"""The training loop: flat, resumable to the bit, the same for pose networks and detectors."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from autopose.checkpoint import Checkpoint, save_checkpoint
from autopose.config import to_toml
from autopose.console import counted
from autopose.data.skeletons import joints_to_resume, open_skeleton
from autopose.errors import ConfigError, UsageError
from autopose.files import write_atomic
from autopose.genotype import Genotype
from autopose.models.network import build_network
from autopose.training.bfloat16 import autocast, in_bfloat16
from autopose.training.config import TrainConfig, TrainSection
from autopose.training.distributed import Group, own_device, wait
from autopose.training.ema import WeightAverage
from autopose.training.fit import check_fit
from autopose.training.initialisation import initialise
from autopose.training.interrupt import interruptible
from autopose.training.loader import KeySampler, make_loader, steps_per_epoch
from autopose.training.log import refuse_other_run, rewind_log, summary_writer
from autopose.training.muon import Muon
from autopose.training.resumable import is_resumable
from autopose.training.schedule import learning_rate
from autopose.training.state import Progress, load_state, save_state
from autopose.training.tasks import make_task

#: Called after every step with (step, total, loss, metrics or None).
Report = Callable[[int, int, float, dict[str, float] | None], None]


def make_optimizer(network: nn.Module, config: TrainSection) -> torch.optim.Optimizer:
    """Return the optimiser; biases and normalisation are not decayed."""
    if config.optimizer == "muon":
        half = in_bfloat16(config.amp, next(network.parameters()).device)
        return Muon(network.parameters(), config.lr, betas=config.betas, weight_decay=config.weight_decay, half=half)
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return kind(groups, lr=config.lr, betas=config.betas, foreach=True)


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
    log_file = out / "log.jsonl"
    if is_resumable(out) and not resume:
        raise UsageError(f"{out}: holds a run already. Add --resume to go on, or choose another folder with -o.")
    if resume and not is_resumable(out):
        raise UsageError(f"{out}: holds no state to resume. Leave --resume out to start.")
    refuse_other_run(out, "step")
    ranks = Group(device)
    rank, world = ranks.rank, ranks.world

    settings = config.train
    torch.manual_seed(settings.seed)
    skeleton = open_skeleton(config.skeleton)
    network = build_network(genotype, len(skeleton)).to(device)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if init is not None:
        initialise(network, init, genotype, skeleton)
    average = WeightAverage(network, settings.ema) if settings.ema else None
    optimizer = make_optimizer(network, settings)
    identity = f"{genotype.fingerprint()} {config.model_dump_json()}{joints_to_resume(config.skeleton)}"
    task = make_task(config, genotype, out, device)
    per_epoch = steps_per_epoch(task.weights, settings.batch * world)
    total = settings.steps or settings.epochs * per_epoch
    progress = Progress(identity=identity, world=world, total=total, data=task.data)
    if resume:
        progress = load_state(out, network, average, optimizer, identity)
        _check_same(out, progress, world, total, task.data)
        progress.data = task.data
    if rank == 0:
        genotype.save(out / "genotype.json")
        write_atomic(out / "config.toml", to_toml(config))
        rewind_log(out, "step", progress.step)

    model: nn.Module = network
    if world > 1:
        # A fabric's backbone may have levels that no part reads.
        model = DistributedDataParallel(network, find_unused_parameters=genotype.kind == "fabric")
    if settings.compile:
        model = torch.compile(model)  # type: ignore[assignment]

    def checkpoint(metrics: dict[str, float]) -> Checkpoint:
        source = average.network if average is not None else network
        return Checkpoint(
            genotype=genotype,
            state=source.state_dict(),
            codec=config.codec,
            task=config.task,
            skeleton=skeleton,
            name=genotype.name,
            config=config.model_dump(mode="json"),
            metrics=metrics,
        )

    sampler = KeySampler(task.weights, settings.batch, settings.seed, progress.step, total, rank, world)
    loader = make_loader(task.source, sampler, task.collate, config.data.workers)
    writer = summary_writer(out, progress.step) if rank == 0 else None
    started, begun = progress.seconds, time.monotonic()
    with closing(loader), interruptible() as asked_to_stop:
        for batch in loader:
            step = progress.step
            rate = learning_rate(step, total, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            model.train()
            try:
                with autocast(settings.amp, device):
                    loss = task.loss(model, batch)
            except RuntimeError as error:
                if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise _not_compiled(error) from None
                raise
            value = _check_finite(loss, step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if settings.clip:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            if average is not None:
                average.update(network)
            progress.step = step = step + 1
            progress.seconds = started + time.monotonic() - begun
            progress.loss = value if step == 1 or not progress.loss else 0.98 * progress.loss + 0.02 * value
            out_of_time = max_seconds is not None and time.monotonic() - begun > max_seconds
            stopping = ranks.any(asked_to_stop() or out_of_time)
            metrics = None
            if rank == 0:
                if step % settings.eval_every == 0 or step == total:
                    metrics = task.evaluate(average.network if average is not None else network)
                    if metrics[task.metric] >= progress.best:
                        progress.best = metrics[task.metric]
                        save_checkpoint(out / "best.safetensors", checkpoint(metrics | {"step": step}))
                if metrics is not None or step % 50 == 0:
                    entry = {
                        "step": step, "loss": progress.loss, "lr": rate, "seconds": round(progress.seconds, 1),
                        "samples": step * settings.batch * world, **({"tune": metrics} if metrics else {}),
                    }  # fmt: skip
                    _log(log_file, writer, entry)
                if step % settings.save_every == 0 or step == total or stopping or metrics is not None:
                    save_state(out, network, average, optimizer, progress)
                    save_checkpoint(out / "last.safetensors", checkpoint({"step": step}))
                if report is not None:
                    report(step, total, progress.loss, metrics)
            if stopping:
                break
    if writer is not None:
        writer.close()
    wait()  # for rank 0's last evaluation and files
    # DistributedDataParallel goes before its group: freed after it, while Python's lock is held, it can wait for ever
    # for a thread of Gloo that waits for the lock.
    del model
    ranks.close()
    best = out / "best.safetensors"
    return best if best.exists() else out / "last.safetensors"


def _check_same(out: Path, progress: Progress, world: int, total: int, data: int) -> None:
    """Refuse to go on with other data or another number of processes: the same step would mean something else.

    Raises:
        UsageError: it is so.
    """
    if progress.world != world:
        raise UsageError(
            f"{out}: was trained by {counted(progress.world, 'process', 'processes')}; now there are {world}. "
            "Resume with as many, or start anew in another folder, with --init to go on from these weights."
        )
    if progress.total != total:
        raise UsageError(
            f"{out}: was to have {progress.total} steps, and now the data make {total}: they have changed. Resume with "
            "the data of the first call, or start anew in another folder, with --init to go on from these weights."
        )
    if progress.data not in (0, data):
        raise UsageError(
            f"{out}: the data have changed since its last step (other pictures, records or weights). Resume with the "
            "data of the first call, or start anew in another folder, with --init to go on from these weights."
        )


def _not_compiled(error: RuntimeError) -> UsageError:
    reason = str(getattr(error, "inner_exception", error)).strip().splitlines()[0]
    return UsageError(
        f"train.compile: torch.compile cannot compile the network here: {reason}\n"
        "It needs a C++ compiler on a CPU and Triton on a GPU. Install it, or set train.compile=false."
    )


def _check_finite(loss: Tensor, step: int) -> float:
    value = loss.item()
    if not torch.isfinite(loss):
        raise ConfigError(
            f"The loss became {value} at step {step}. Lower train.lr, or set train.clip or train.amp=none."
        )
    return value


def _log(path: Path, writer: Any, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    if writer is not None:
        flat = {"loss": entry["loss"], "lr": entry["lr"]} | {f"tune/{k}": v for k, v in entry.get("tune", {}).items()}
        for key, value in flat.items():
            writer.add_scalar(key, value, entry["step"])
