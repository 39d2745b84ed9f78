"""Checkpoints: what is written is read, damaged and foreign files are refused by name."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from autopose.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_tensors
from autopose.errors import ModelError
from autopose.genotype import AutoPoseGenotype
from autopose.heatmap import Codec
from autopose.models.network import build_network

GENOTYPE = AutoPoseGenotype(
    individual=(("skip",) * 10,) * 4, aggregation=(("skip",) * 9,) * 4, scales=((0, 0, 0, 1),) * 3,
    channels=(4, 4, 4, 4), stem_channels=4,
)  # fmt: skip


def _checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(
        GENOTYPE, build_network(GENOTYPE).state_dict(), Codec(sigma=1.5), metrics={"AP": 0.5}, name="tiny"
    )


def test_roundtrip(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", _checkpoint())
    again = load_checkpoint(tmp_path / "a.safetensors")
    assert (again.genotype, again.codec, dict(again.metrics), again.name) == (
        GENOTYPE,
        Codec(sigma=1.5),
        {"AP": 0.5},
        "tiny",
    )
    assert again.sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    network, x = build_network(GENOTYPE).eval(), torch.randn(1, 3, 64, 64)
    network.load_state_dict(dict(_checkpoint().state))
    torch.testing.assert_close(again.build()(x), network(x))
    assert load_file(tmp_path / "a.safetensors").keys() == _checkpoint().state.keys()  # any reader of the format


def test_half_keeps_integers_and_halves_the_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", _checkpoint())
    save_checkpoint(tmp_path / "h.safetensors", _checkpoint(), half=True)
    half = load_checkpoint(tmp_path / "h.safetensors")
    for key, value in _checkpoint().state.items():
        if value.is_floating_point():
            assert half.state[key].dtype == torch.float16
            torch.testing.assert_close(half.state[key].float(), value, rtol=1e-3, atol=1e-4)
        else:
            assert torch.equal(half.state[key], value)
            assert half.state[key].dtype == value.dtype
    half.build()


def test_of_a_run_the_best_weights_are_read_else_the_last(tmp_path: Path) -> None:
    for name in ("last", "best"):
        save_checkpoint(tmp_path / f"{name}.safetensors", replace(_checkpoint(), name=name))
        assert load_checkpoint(tmp_path).name == name


def test_refuses_missing_damaged_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such checkpoint or run folder"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match=r"holds no best\.safetensors"):
        load_checkpoint(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        load_checkpoint(tmp_path / "x.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "y.safetensors")
    with pytest.raises(ModelError, match="no autopose description"):
        load_checkpoint(tmp_path / "y.safetensors")
    for described in ("[]", "null"):
        save_file({"a": torch.zeros(1)}, tmp_path / "z.safetensors", {"autopose.checkpoint": described})
        with pytest.raises(ModelError, match="its description cannot be used"):
            load_checkpoint(tmp_path / "z.safetensors")


@pytest.mark.parametrize(("field", "value"), [("schema_version", 7), ("task", "segment"), ("name", 5)])
def test_refuses_other_versions(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, _checkpoint())
    with safe_open(str(path), framework="pt") as file:
        content = json.loads(file.metadata()["autopose.checkpoint"])
    save_file(dict(_checkpoint().state), path, {"autopose.checkpoint": json.dumps(content | {field: value})})
    with pytest.raises(ModelError, match=f"{field} is {value!r}"):
        load_checkpoint(path)


def test_refuses_weights_that_do_not_fit() -> None:
    state = dict(_checkpoint().state)
    state.pop(next(iter(state)))
    with pytest.raises(ModelError, match="1 tensors missing, 0 unknown"):
        Checkpoint(GENOTYPE, state).build()


def test_a_small_file_that_claims_a_huge_network_takes_no_memory(tmp_path: Path) -> None:
    wide: dict[str, Any] = {"channels": (8192,) * 4, "scales": ((1,) * 4,) * 3, "individual": (("conv5",) * 10,) * 4}
    huge = GENOTYPE.model_copy(update=wide)
    save_checkpoint(tmp_path / "huge.safetensors", Checkpoint(huge, {"a": torch.zeros(1)}))
    with pytest.raises(ModelError, match="do not fit"):  # its weights would be 3 TB
        load_checkpoint(tmp_path / "huge.safetensors").build()


def test_a_full_disk_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^best: cannot be written \(.*\)\. Make room there"):
        write_tensors(tmp_path / "missing" / "x.safetensors", {"a": torch.zeros(1)}, {}, name="best")
