"""Figures of genotypes: where they are looked up, and what refuses."""

from pathlib import Path

import pytest

from autopose.checkpoint import Checkpoint, save_checkpoint
from autopose.description import describe, genotype_of, parse_size, text_of
from autopose.errors import AutoposeError, GenotypeError, UsageError
from autopose.genotype import Genotype
from autopose.heatmap import Codec
from autopose.models.network import build_network


def test_a_genotype_is_found_as_preset_file_run_or_checkpoint(tmp_path: Path) -> None:
    small = Genotype.load("small")
    small.save(tmp_path / "genotype.json")
    codec = Codec(input_size_wh=(96, 128))
    checkpoint = Checkpoint(small, build_network(small).state_dict(), codec)
    save_checkpoint(tmp_path / "last.safetensors", checkpoint)
    assert genotype_of("small") == (small, (192, 256))
    assert genotype_of(str(tmp_path / "genotype.json"))[0] == small
    assert genotype_of(str(tmp_path)) == (small, (96, 128))
    assert genotype_of("default")[1] == (224, 288)
    assert genotype_of("detector-default")[1] == (416, 320)
    assert genotype_of(str(tmp_path / "last.safetensors")) == (small, (96, 128))
    assert genotype_of("detector-small")[1] == (416, 320)


def test_describe_and_text() -> None:
    figures = describe(Genotype.load("reference"), (192, 256))
    assert figures["macs_gi"] == pytest.approx(10.65, rel=0.03)
    assert figures["macs"] == sum(macs for _, _, macs in figures["layers"])
    assert figures["search_space_log10"] == pytest.approx(62.75, abs=0.01)  # log10(6^76 2^12)
    text = text_of(figures)
    assert "10.65 Gi at 192x256" in text
    assert "not the genotype of the paper" in text


def test_what_a_search_recorded_is_shown_in_words() -> None:
    candidates = [{"macro": "1100 0011 0111", "score": 0.07}, {"macro": "1000 0101 0110", "score": 0.06}]
    provenance = {"search": {"strategy": "bilevel", "seed": 0}, "candidates": candidates}
    genotype = Genotype.load("small").model_copy(update={"provenance": provenance})
    lines = text_of(describe(genotype, (64, 64))).splitlines()
    assert lines[-3:] == [
        "  search        strategy bilevel, seed 0",
        "  candidates    macro 1100 0011 0111, score 0.07",
        "                macro 1000 0101 0110, score 0.06",
    ]


@pytest.mark.parametrize("text", ["192", "x", "100x100", "0x32", "-32x32", "axb", "²x32"])
def test_refuses_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        parse_size(text)


def test_refuses_what_is_no_genotype(tmp_path: Path) -> None:
    for source in ("nothing", str(tmp_path), str(tmp_path / "model.onnx")):
        with pytest.raises(AutoposeError):
            genotype_of(source)
    with pytest.raises(GenotypeError, match="does not carry its genotype"):
        genotype_of("model.onnx")
