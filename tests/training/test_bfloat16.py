"""Where training computes in bfloat16, on devices that are made to have instructions for it and to lack them."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autopose.config import load_config
from autopose.data.synthetic import write_synthetic
from autopose.genotype import AutoPoseGenotype
from autopose.training.bfloat16 import _say_once, in_bfloat16, native_bfloat16
from autopose.training.config import Amp, TrainConfig
from autopose.training.trainer import train

CPU = torch.device("cpu")
Have = Callable[..., None]


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Iterator[Have]:
    """Give this CPU the named instructions, and no others of the kind."""

    def forget() -> None:
        native_bfloat16.cache_clear()
        _say_once.cache_clear()

    def change(*names: str) -> None:
        forget()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True} | dict.fromkeys(names, True))

    yield change
    forget()


@pytest.mark.parametrize(
    ("instructions", "amp", "expected"),
    [
        ("avx512_bf16", "auto", True),
        ("amx_bf16", "auto", True),
        ("bf16", "auto", True),
        ("avx512_f", "auto", False),
        ("avx512_f", "bf16", True),
        ("avx512_bf16", "bf16", True),
        ("avx512_bf16", "none", False),
    ],
)
def test_auto_asks_the_processor(have: Have, instructions: str, amp: Amp, expected: bool) -> None:
    have(instructions)
    assert in_bfloat16(amp, CPU) is expected


def test_a_gpu_that_imitates_it_does_not_count(have: Have, monkeypatch: pytest.MonkeyPatch) -> None:
    have("avx512_bf16")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert in_bfloat16("auto", torch.device("cuda")) is False
    assert in_bfloat16("auto", CPU) is True


def test_what_is_slow_is_said_once(have: Have, caplog: pytest.LogCaptureFixture) -> None:
    have()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            in_bfloat16("auto", CPU)
            in_bfloat16("none", CPU)
            in_bfloat16("bf16", CPU)
    (record,) = caplog.records
    assert 'give amp = "auto" instead of "bf16"' in record.message


@pytest.mark.parametrize(("instructions", "same_as"), [((), "none"), (("avx512_bf16",), "bf16")])
def test_auto_trains_as_the_precision_that_it_stands_for(
    have: Have, instructions: tuple[str, ...], same_as: Amp, tmp_path: Path, tiny: AutoPoseGenotype
) -> None:
    have(*instructions)
    figures = write_synthetic(tmp_path / "figures", images=4, seed=3, size_wh=(128, 128))
    weights: list[dict[str, torch.Tensor]] = []
    for amp in ("auto", same_as, "none" if same_as == "bf16" else "bf16"):
        settings = [
            f'data.sources=[{{annotations="{figures}"}}]', "data.tune_share=0.3", "data.workers=0",
            "codec.input_size_wh=[64, 96]", "train.batch=2", "train.steps=2", "train.eval_every=1000000",
            "train.optimizer=muon", "train.lr=5e-3", f"train.amp={amp}",
        ]  # fmt: skip
        train(tiny, load_config(TrainConfig, None, settings), tmp_path / str(len(weights)))
        weights.append(load_file(tmp_path / str(len(weights)) / "last.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not all(torch.equal(weights[0][key], weights[2][key]) for key in weights[0])
