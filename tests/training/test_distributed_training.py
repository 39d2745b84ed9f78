"""Two processes of one training: when one must stop both do, the step is saved, and only the first one tells."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autopose.checkpoint import load_checkpoint
from autopose.data.synthetic import write_synthetic
from autopose.errors import UsageError
from autopose.fabric_genotype import Backbone, FabricCell, FabricGenotype, FabricPart
from autopose.training.distributed import own_device
from tests.ranks import environment, free_port, run_ranks


def _command(figures: Path, *more: str) -> list[str]:
    settings = [
        f'data.sources=[{{annotations="{figures}"}}]', "data.workers=0", "data.tune_share=0.3",
        "codec.input_size_wh=[64, 64]", "train.batch=2", "train.steps=100000", "train.save_every=100000",
    ]  # fmt: skip
    command = [sys.executable, "-m", "autopose", "train", "small", "--config", "smoke"]
    return [*command, *more, *(part for setting in settings for part in ("--set", setting))]


#: Trains, and prints what the parameters add up to: the same on both ranks only if gradients were exchanged.
SCRIPT = """
import sys, zlib
from pathlib import Path
from autopose.config import load_config
from autopose.genotype import Genotype
from autopose.training import run, trainer
from autopose.training.config import TrainConfig

genotype, figures, out, limit, *resume = sys.argv[1:]
networks, build = [], run.build_network

def remembered(*arguments):
    networks.append(build(*arguments))
    return networks[-1]

run.build_network = remembered
config = load_config(TrainConfig, "smoke", [
    'data.sources=[{annotations="%s"}]' % figures, "data.workers=0", "data.tune_share=0.3", "train.steps=3",
    "codec.input_size_wh=[64, 64]", "train.batch=2", "train.save_every=1", "train.eval_every=1000000",
], group="train")
trainer.train(Genotype.load(genotype), config, Path(out), resume=bool(resume), max_seconds=float(limit))
print(zlib.crc32(b"".join(p.detach().numpy().tobytes() for p in networks[0].parameters())))
"""


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """A few drawn figures."""
    return write_synthetic(tmp_path / "figures", images=24, seed=3, size_wh=(96, 96))


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL refuses two ranks on one: "Duplicate GPU detected"."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert own_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UsageError, match=r"2 processes .* sees 1 GPU; (.|\n)*--nproc-per-node 1"):
        own_device()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert own_device() == torch.device("cuda", 1)


@pytest.mark.parametrize("rank", ["0", "3"], ids=["torchrun --virtual-local-rank", "a cluster's launcher"])
def test_a_gpu_that_a_process_sees_alone_is_its_own(monkeypatch: pytest.MonkeyPatch, rank: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"CUDA_VISIBLE_DEVICES": "3", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert own_device() == torch.device("cuda", 0)


def _train_both(*arguments: str) -> list[int]:
    """Return what each process's parameters add up to."""
    return [int(printed) for printed in run_ranks(2, SCRIPT, *arguments)]


@pytest.mark.slow
def test_both_processes_have_the_same_weights_and_go_on_to_the_bit(figures: Path, tmp_path: Path) -> None:
    """Each sees other pictures, so that only averaged gradients keep them together.

    The network is a fabric that reads one of its backbone's four levels: the others never get a gradient.
    """
    cell = FabricCell(layer=1, level=0, edges=("parallel",), ops=(("sep3",),))
    parts = (FabricPart(name="body", cells=(cell,)),)
    backbone = Backbone(network="stem", width=4)
    FabricGenotype(backbone=backbone, channels=(4, 8, 12, 16), depth=1, parts=parts).save(tmp_path / "fabric.json")
    given = str(tmp_path / "fabric.json"), str(figures)
    whole, broken = str(tmp_path / "whole"), str(tmp_path / "broken")
    first, second = _train_both(*given, whole, "1e9")
    assert first == second
    assert json.loads((tmp_path / "whole" / "log.jsonl").read_text())["samples"] == 3 * 2 * 2
    stopped = _train_both(*given, broken, "0")
    assert stopped[0] == stopped[1] != first
    assert _train_both(*given, broken, "1e9", "resume") == [first, second]
    states = [load_file(Path(run) / "last.safetensors") for run in (whole, broken)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_one_process_out_of_time_stops_both(figures: Path, tmp_path: Path) -> None:
    port = free_port()
    out = ["-o", str(tmp_path / "run")]
    processes = [
        subprocess.Popen(
            _command(figures, *out, *limit),
            env=environment(rank, 2, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, limit in enumerate(([], ["--max-hours", "0"]))
    ]
    told = []
    for process in processes:
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        told.append((printed, errors))
    assert load_checkpoint(tmp_path / "run" / "last.safetensors").metrics == {"step": 1}
    again = "Go on with: torchrun --nproc-per-node 2 -m autopose train"  # as many, or the run is refused
    assert f"Stopped and saved at step 1 of 100000. {again}" in told[0][1]
    assert f"autopose train -o {tmp_path}/run --resume" in told[0][1]
    assert "Stopped" not in told[1][1]
    assert told[0][0] == told[1][0] == ""  # there are no final figures


def test_several_processes_need_one_folder(figures: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        _command(figures), env=environment(1, 2, 0), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.returncode == 2
    assert "add -o RUN" in result.stderr
