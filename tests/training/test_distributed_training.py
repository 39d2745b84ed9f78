"""Two processes of one training: when one must stop both do, the step is saved, and only the first one tells."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from autopose.checkpoint import load_checkpoint
from autopose.data.synthetic import write_synthetic


def _command(figures: Path, *more: str) -> list[str]:
    settings = [
        f'data.sources=[{{annotations="{figures}"}}]', "data.workers=0", "data.tune_share=0.3",
        "codec.input_size_wh=[64, 64]", "train.batch=2", "train.steps=100000", "train.save_every=100000",
    ]  # fmt: skip
    command = [sys.executable, "-m", "autopose", "train", "small", "--config", "smoke"]
    return [*command, *more, *(part for setting in settings for part in ("--set", setting))]


def _environment(rank: int, port: int) -> dict[str, str]:
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
    return os.environ | group | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """A few drawn figures."""
    return write_synthetic(tmp_path / "figures", images=24, seed=3, size_wh=(96, 96))


def test_one_process_out_of_time_stops_both(figures: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = ["-o", str(tmp_path / "run")]
    processes = [
        subprocess.Popen(
            _command(figures, *out, *limit),
            env=_environment(rank, port),
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
    assert f"--config {tmp_path}/run/config.toml -o {tmp_path}/run --resume" in told[0][1]
    assert "Stopped" not in told[1][1]
    assert told[0][0] == told[1][0] == ""  # there are no final figures


def test_several_processes_need_one_folder(figures: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        _command(figures), env=_environment(1, 0), capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert result.returncode == 2
    assert "add -o RUN" in result.stderr
