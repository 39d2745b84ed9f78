"""The training loop on synthetic figures: it learns, it resumes to the bit, it refuses what makes no sense."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from autopose.checkpoint import Checkpoint, load_checkpoint
from autopose.config import load_config
from autopose.data.synthetic import write_synthetic
from autopose.errors import AutoposeError, ConfigError, DataError, ModelError, UsageError
from autopose.fabric_genotype import FabricGenotype
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.models.network import build_network
from autopose.skeleton import COCO17, skeleton_by_name
from autopose.skeleton_record import skeleton_from
from autopose.training.config import TrainConfig, TrainSection
from autopose.training.initialisation import initialise
from autopose.training.interrupt import interruptible
from autopose.training.optimizer import make_optimizer
from autopose.training.resumable import NEWEST, PREVIOUS, load_resumable, save_resumable
from autopose.training.state import Progress
from autopose.training.tasks import PoseTask
from autopose.training.trainer import train


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of a small synthetic set."""
    return write_synthetic(tmp_path_factory.mktemp("figures"), images=24, seed=3, size_wh=(128, 128))


def _config(figures: Path, *more: str) -> TrainConfig:
    base = [
        f'data.sources=[{{annotations="{figures}"}}]', "data.workers=0", "data.tune_share=0.3",
        "codec.input_size_wh=[64, 96]", "codec.sigma=1.5", "train.batch=4", "train.steps=6", "train.warmup_steps=2",
        "train.eval_every=6", "train.save_every=2", "train.lr=5e-3",
    ]  # fmt: skip
    return load_config(TrainConfig, None, [*base, *more])


def _same(a: Path, b: Path) -> None:
    one, other = load_file(a), load_file(b)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_a_stopped_run_resumes_to_the_bit(figures: Path, tmp_path: Path, amp: str, tiny: AutoPoseGenotype) -> None:
    config = _config(figures, f"train.amp={amp}")
    train(tiny, config, tmp_path / "whole")
    train(tiny, config, tmp_path / "broken", max_seconds=0)  # stops after its first step
    assert load_checkpoint(tmp_path / "broken" / "last.safetensors").metrics == {"step": 1}
    with (tmp_path / "broken" / "log.jsonl").open("a") as log:
        log.write('{"step": 1, "lo')  # killed while it wrote
    train(tiny, _config(figures, f"train.amp={amp}", "train.save_every=1"), tmp_path / "broken", resume=True)
    _same(tmp_path / "whole" / "state.safetensors", tmp_path / "broken" / "state.safetensors")
    _same(tmp_path / "whole" / "last.safetensors", tmp_path / "broken" / "last.safetensors")
    logs = [[json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
            for run in ("whole", "broken")]  # fmt: skip
    assert [entry["step"] for entry in logs[0]] == [6]
    for one, other in zip(*logs, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_the_best_weights_are_those_that_were_scored_best_also_after_a_stop(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    figures_of = iter([0.5, 0.5, 0.1])
    scored: list[dict[str, torch.Tensor]] = []

    def evaluate(task: PoseTask, network: torch.nn.Module) -> dict[str, float]:
        scored.append({key: value.clone() for key, value in network.state_dict().items()})
        return {"AP": next(figures_of)}

    monkeypatch.setattr(PoseTask, "evaluate", evaluate)
    config = _config(figures, "train.steps=3", "train.eval_every=1")
    train(tiny, config, tmp_path, report=lambda *_: signal.raise_signal(signal.SIGTERM))
    assert load_checkpoint(tmp_path / "last.safetensors").metrics == {"step": 2}  # asked to after its first step
    best = load_checkpoint(train(tiny, config, tmp_path, resume=True))
    assert best.metrics == {"AP": 0.5, "step": 2}  # of equals the later
    assert all(torch.equal(value, scored[1][key]) for key, value in best.state.items())
    state, last = load_file(tmp_path / NEWEST), load_file(tmp_path / "last.safetensors")
    assert all(torch.equal(value, state[f"average/{key}"]) for key, value in last.items())
    assert any(not torch.equal(value, state[f"network/{key}"]) for key, value in last.items())


def test_evaluations_change_nothing_of_what_is_learnt(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    for every in (1, 3):
        config = _config(figures, "train.steps=3", f"train.eval_every={every}", "train.ema=0")
        train(tiny, config, tmp_path / str(every))
    _same(tmp_path / "1" / NEWEST, tmp_path / "3" / NEWEST)


def test_a_damaged_state_costs_the_steps_since_the_one_before(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype
) -> None:  # fmt: skip
    config = _config(figures, "train.save_every=4")
    train(tiny, config, tmp_path)
    whole = load_file(tmp_path / "last.safetensors")
    content = bytearray((tmp_path / NEWEST).read_bytes())
    content[-2] ^= 1
    (tmp_path / NEWEST).write_bytes(content)
    steps: list[int] = []
    train(tiny, config, tmp_path, resume=True, report=lambda step, total, loss, metrics: steps.append(step))
    assert steps == [5, 6]
    again = load_file(tmp_path / "last.safetensors")
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_bit(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    """kill -9 in the middle of a step: the run goes on from its last saved state."""
    tiny.save(tmp_path / "tiny.json")
    settings = [
        f'data.sources=[{{annotations="{figures}"}}]', "data.workers=1", "data.tune_share=0.3",
        "codec.input_size_wh=[64, 96]", "train.batch=4", "train.steps=40", "train.eval_every=40", "train.save_every=3",
    ]  # fmt: skip
    command = [sys.executable, "-m", "autopose", "train", str(tmp_path / "tiny.json"), "--config", "smoke", "-q"]
    command += [part for setting in settings for part in ("--set", setting)]
    subprocess.run([*command, "-o", str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen([*command, "-o", str(tmp_path / "broken")], start_new_session=True)
    state = tmp_path / "broken" / "state.safetensors"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    command += ["--set", "data.workers=0"]  # on a smaller machine: no other result
    subprocess.run([*command, "-o", str(tmp_path / "broken"), "--resume"], check=True, capture_output=True)
    _same(tmp_path / "whole" / "last.safetensors", tmp_path / "broken" / "last.safetensors")


def test_it_learns(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    losses: list[float] = []
    config = _config(figures, "train.steps=150", "train.eval_every=150", "train.ema=0.9", "augment.rotation=0")
    best = train(tiny, config, tmp_path, report=lambda step, total, loss, metrics: losses.append(loss))
    assert losses[-1] < 0.8 * losses[0]
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in entries] == [(n, losses[n - 1]) for n in (50, 100, 150)]
    checkpoint = load_checkpoint(best)
    assert checkpoint.genotype == tiny
    assert checkpoint.codec == config.codec
    assert checkpoint.config == config.model_dump(mode="json")
    assert 0 <= checkpoint.metrics["AP"] <= 1
    assert checkpoint.metrics["step"] == 150
    assert checkpoint.build()(torch.zeros(1, 3, 96, 64)).shape == (1, 17, 24, 16)
    assert {p.name for p in tmp_path.iterdir()} >= {"genotype.json", "config.toml", "log.jsonl", "tune.json"}
    assert load_config(TrainConfig, tmp_path / "config.toml") == config


def test_the_detector_learns(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    genotype = tiny.model_copy(update={"head": "center", "head_channels": 8, "head_stride": 8})
    losses: list[float] = []
    config = _config(
        figures, "task=detector", "train.steps=150", "train.eval_every=150", "codec.input_size_wh=[96, 96]",
        "scene_augment.paste=0.3",
    )  # fmt: skip
    train(genotype, config, tmp_path, report=lambda step, total, loss, metrics: losses.append(loss))
    assert losses[-1] < 0.8 * losses[0]


def test_init_starts_from_weights(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    train(tiny, _config(figures), tmp_path / "a")
    weights = load_checkpoint(tmp_path / "a" / "last.safetensors")
    config = _config(figures, "train.steps=1", "train.lr=1e-9", "train.ema=0.0")
    train(tiny, config, tmp_path / "b", init=weights)
    again = load_checkpoint(tmp_path / "b" / "last.safetensors")
    for key, value in again.state.items():  # the last layer, too: the same joints
        if value.is_floating_point() and "running" not in key:
            torch.testing.assert_close(value, weights.state[key].float(), atol=1e-6, rtol=0)


def test_init_takes_over_the_joints_that_are_named_alike(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype
) -> None:  # fmt: skip
    """Of 17 other joints the last layer has the shape of COCO's, and would begin with what means another joint."""
    best = load_checkpoint(train(tiny, _config(figures), tmp_path / "run"))
    named = {0: "nose", 9: "right_wrist", 16: "left_wrist"}
    joints = [named.get(index, f"mark{index}") for index in range(17)]
    for count in (17, 9):  # a last layer of the same shape, and of another
        own = skeleton_from({"name": "own", "joints": joints[:count], "pairs": []}, "here")
        network = build_network(tiny, count)
        fresh = {key: value.clone() for key, value in network.state_dict().items()}
        initialise(network, best, tiny, own)
        for key, value in network.state_dict().items():
            if not key.startswith("head.predict"):
                torch.testing.assert_close(value, best.state[key], atol=0, rtol=0)
                continue
            expected = fresh[key].clone()
            expected[0] = best.state[key][0]
            if count == 17:
                expected[9], expected[16] = best.state[key][10], best.state[key][9]
            torch.testing.assert_close(value, expected, atol=0, rtol=0)


def test_init_of_a_fabric_takes_over_the_joints_that_are_named_alike() -> None:
    """Of COCO's head and PoseTrack's five joints each are learned: an eye's maps are no neck's."""
    coco = Genotype.load("fabric-tiny")
    assert isinstance(coco, FabricGenotype)
    given = build_network(coco, 17)
    checkpoint = Checkpoint(coco, given.state_dict())
    for name, count in (("posetrack17", 17), ("crowdpose14", 14)):
        skeleton = skeleton_by_name(name)
        genotype = coco.model_copy(update={"skeleton": name})
        network = build_network(genotype, count)
        fresh = {key: value.clone() for key, value in network.state_dict().items()}
        initialise(network, checkpoint, genotype, skeleton)
        image = torch.randn(2, 3, 64, 64)
        ours, theirs = network.eval()(image), given.eval()(image)
        for index, joint in enumerate(skeleton.joints):
            if joint in COCO17.joints:
                torch.testing.assert_close(ours[:, index], theirs[:, COCO17.index(joint)], msg=joint)
        head = skeleton.parts[len(coco.parts)]["head"]
        new = [joint not in COCO17.joints for joint in head]
        weight = "heads.head.project.weight"
        rows = network.state_dict()[weight].unflatten(0, (len(head), -1))
        torch.testing.assert_close(rows[new], fresh[weight].unflatten(0, (len(head), -1))[new], atol=0, rtol=0)


def _refused(genotype: AutoPoseGenotype, figures: Path, tmp_path: Path, **options: Any) -> AutoposeError:
    with pytest.raises(AutoposeError) as caught:
        train(genotype, _config(figures, *options.pop("settings", ())), tmp_path, **options)
    return caught.value


def test_refuses_to_overwrite_to_resume_nothing_and_to_mix_runs(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype
) -> None:  # fmt: skip
    error = _refused(tiny, figures, tmp_path, resume=True)
    assert isinstance(error, UsageError)
    assert "no state to resume" in str(error)
    train(tiny, _config(figures), tmp_path)
    assert "holds a run already" in str(_refused(tiny, figures, tmp_path))
    error = _refused(tiny, figures, tmp_path, resume=True, settings=["train.lr=0.1"])
    assert isinstance(error, ModelError)
    assert "another configuration (train.lr was 0.005, is 0.1). Resume with" in str(error)
    assert "Resume without GENOTYPE, --config and --set: the run has its own" in str(error)
    for generation in (NEWEST, PREVIOUS):
        (tmp_path / generation).write_bytes(b"not safetensors")
    assert "no state can be resumed" in str(_refused(tiny, figures, tmp_path, resume=True))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_matrices_are_decayed_and_vectors_are_not(kind: Literal["adam", "adamw"]) -> None:
    settings = TrainSection(optimizer=kind, lr=0.01, betas=(0.5, 0.6), weight_decay=0.1)
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    torchs = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
    optimizers = [
        make_optimizer(ours, settings),
        torchs([theirs.weight], 0.01, betas=(0.5, 0.6), weight_decay=0.1),
        torchs([theirs.bias], 0.01, betas=(0.5, 0.6)),
    ]
    if kind == "adamw":
        optimizers[2].param_groups[0]["weight_decay"] = 0.0
    for step in range(3):
        for network in (ours, theirs):
            network.weight.grad, network.bias.grad = torch.full((2, 3), 1.0 + step), torch.full((2,), 2.0 - step)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_gradients_are_clipped_and_rates_are_the_schedules(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype
) -> None:
    norms: list[float] = []
    rates: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(found)))
        rates.extend({group["lr"] for group in optimizer.param_groups})

    for clip in (0, 1e-3):
        handle = register_optimizer_step_pre_hook(note)
        try:
            train(tiny, _config(figures, "train.steps=2", f"train.clip={clip}"), tmp_path / str(clip))
        finally:
            handle.remove()
    assert min(norms[:2]) > 1e-2
    assert norms[2:] == pytest.approx([1e-3, 1e-3], rel=1e-3)
    assert rates == pytest.approx([2.5e-3, 5e-3] * 2)  # both steps warm up


def test_a_run_that_cannot_start_leaves_no_folder(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    config = load_config(TrainConfig, None, [f'data.sources=[{{annotations="{figures}"}}]', "data.tune_share=0.001"])
    with pytest.raises(DataError, match="tune split"):
        train(tiny, config, tmp_path / "runs" / "run")
    assert not (tmp_path / "runs").exists()
    nobody = figures.with_name("nobody.json")
    nobody.write_text(json.dumps(json.loads(figures.read_text()) | {"annotations": []}))
    sources = f'data.sources=[{{annotations="{figures}"}}, {{annotations="synthetic"}}, {{annotations="none.json"}}]'
    for settings, message in (
        (["task=detector", "codec.input_size_wh=[96, 96]", f"data.tune_annotations={nobody}"], "no person's box"),
        ([sources], "none.json"),
    ):
        network = Genotype.load("detector-small") if "task=detector" in settings else tiny
        with pytest.raises(DataError, match=message):
            train(network, _config(figures, *settings), tmp_path / "runs" / "run")
        assert [path for path in tmp_path.glob("runs/**/*") if path.is_file()] == []


def test_refuses_weights_of_another_network_and_diverging_losses(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype
) -> None:  # fmt: skip
    train(tiny.model_copy(update={"channels": (4, 4, 4, 4), "stem_channels": 4}), _config(figures), tmp_path / "other")
    other = load_checkpoint(tmp_path / "other" / "last.safetensors")
    error = _refused(tiny, figures, tmp_path / "x", init=other)
    assert isinstance(error, ConfigError)
    assert "tensors of" in str(error)
    error = _refused(tiny, figures, tmp_path / "y", settings=["train.lr=1e30", "train.warmup_steps=0"])
    assert "The loss became" in str(error)


def test_refuses_other_data_other_processes_and_a_searchs_folder(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype
) -> None:  # fmt: skip
    config = _config(figures)
    config = config.model_copy(update={"train": config.train.model_copy(update={"steps": None, "epochs": 2})})
    train(tiny, config, tmp_path / "run", max_seconds=0)
    content = json.loads(figures.read_text())
    content["annotations"] *= 2
    figures_before = figures.read_text()
    figures.write_text(json.dumps(content))
    try:
        with pytest.raises(UsageError, match="the data make"):
            train(tiny, config, tmp_path / "run", resume=True)
    finally:
        figures.write_text(figures_before)
    identity = f"{tiny.fingerprint()} {config.model_dump_json()}"
    tensors, progress = load_resumable(tmp_path / "run", Progress, identity)
    save_resumable(tmp_path / "run", tensors, replace(progress, world=2))
    with pytest.raises(UsageError, match="was trained by 2 processes; now there are 1"):
        train(tiny, config, tmp_path / "run", resume=True)
    save_resumable(tmp_path / "run", tensors, replace(progress, seconds=1e6))  # the clock goes on, too
    train(tiny, config, tmp_path / "run", resume=True, max_seconds=0)
    assert load_resumable(tmp_path / "run", Progress, identity)[1].seconds > 1e6
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "log.jsonl").write_text('{"epoch": 1}\n')
    (tmp_path / "search" / "genotype.json").write_text("{}")
    assert "another kind" in str(_refused(tiny, figures, tmp_path / "search"))
    assert (tmp_path / "search" / "genotype.json").read_text() == "{}"


def test_refuses_other_data_of_as_many_steps(figures: Path, tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    """``train.steps`` hides how many samples there are; where the data lie does not matter to the checksum."""
    config = _config(figures)
    train(tiny, config, tmp_path, max_seconds=0)
    before = figures.read_text()
    content = json.loads(before)
    held_out = {image["id"] for image in json.loads((tmp_path / "tune.json").read_text())["images"]}
    learnt = next(record for record in content["annotations"] if record["image_id"] not in held_out)
    tuned = next(record for record in content["annotations"] if record["image_id"] in held_out)
    try:
        for changed in (learnt, tuned):  # a record less, of what is learnt and of what scores it
            fewer = [record for record in content["annotations"] if record is not changed]
            figures.write_text(json.dumps(content | {"annotations": fewer}))
            with pytest.raises(UsageError, match="the data have changed since its last step"):
                train(tiny, config, tmp_path, resume=True)
    finally:
        figures.write_text(before)
    train(tiny, config, tmp_path, resume=True)
    assert load_checkpoint(tmp_path / "last.safetensors").metrics == {"step": 6}


def test_states_that_know_nothing_of_their_data_are_resumed(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """As those that were written before there was a checksum; from then on they know."""
    config = _config(figures)
    with monkeypatch.context() as patch:
        patch.setattr("autopose.training.tasks.data_checksum", lambda samples, tune: 0)
        train(tiny, config, tmp_path, max_seconds=0)
    train(tiny, config, tmp_path, resume=True, max_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr("autopose.training.tasks.data_checksum", lambda samples, tune: 5)
        assert "the data have changed" in str(_refused(tiny, figures, tmp_path, resume=True))


def test_signals_ask_to_stop_as_long_as_a_run_lasts() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for kind in (signal.SIGTERM, signal.SIGINT):
        with interruptible() as asked:
            assert not asked()
            signal.raise_signal(kind)
            assert asked()
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_refuses_seeds_below_zero() -> None:
    with pytest.raises(ConfigError, match="seed"):
        load_config(TrainConfig, None, ["train.seed=-1"])


def test_a_broken_picture_ends_the_run_with_a_sentence(tmp_path: Path, tiny: AutoPoseGenotype) -> None:
    """In a loader process: neither its traceback, nor a command that waits for the process for ever."""
    figures = write_synthetic(tmp_path / "figures", images=24, seed=3, size_wh=(128, 128))
    for picture in sorted((tmp_path / "figures" / "images").iterdir()):
        picture.write_bytes(picture.read_bytes()[:900])
    tiny.save(tmp_path / "tiny.json")
    settings = [f'data.sources=[{{annotations="{figures}"}}]', "data.workers=1", "data.tune_share=0.3",
                "codec.input_size_wh=[64, 96]", "train.batch=4", "train.steps=40"]  # fmt: skip
    command = [sys.executable, "-m", "autopose", "train", str(tmp_path / "tiny.json"), "--config", "smoke", "-q"]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run([*command, "-o", str(tmp_path / "run")], capture_output=True, timeout=120, check=False)
    assert done.returncode == 1
    (sentence,) = done.stderr.decode().strip().splitlines()
    assert "the image is cut off" in sentence


def test_a_network_that_cannot_be_compiled_is_a_sentence(
    figures: Path, tmp_path: Path, tiny: AutoPoseGenotype, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    class Uncompilable(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise BackendCompilerFailed(len, RuntimeError("No working C++ compiler found"), None)

    monkeypatch.setattr(torch, "compile", lambda network: Uncompilable())
    with pytest.raises(UsageError, match=r"(?s)No working C\+\+ compiler found.*train\.compile=false"):
        train(tiny, _config(figures, "train.compile=true"), tmp_path)
