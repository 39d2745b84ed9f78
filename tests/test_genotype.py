"""Genotypes: files, messages, fingerprints, and the size of the space by counting."""

import json
from pathlib import Path
from typing import Any

import pytest

from autopose.errors import GenotypeError
from autopose.genotype import AutoPoseGenotype, Genotype, presets
from autopose.zoo import zoo_folder


def _content() -> dict[str, Any]:
    return json.loads(presets()["small"].read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_loads_and_roundtrips(name: str, tmp_path: Path) -> None:
    genotype = Genotype.load(name)
    genotype.save(tmp_path / "g.json")
    again = Genotype.load(tmp_path / "g.json")
    assert again == genotype
    assert again.fingerprint() == genotype.fingerprint()


def test_bundled_models_are_genotypes_too() -> None:
    folder = zoo_folder()
    detectors = ("detector-default", "detector-fast", "detector-best")
    for name, file in (("fast", "fast"), ("default", "default"), *((name, "detector-default") for name in detectors)):
        assert Genotype.load(name) == Genotype.load(folder / f"{file}.json")


def test_the_fingerprint_follows_the_network_only() -> None:
    genotype = Genotype.load("small")
    assert genotype.model_copy(update={"name": "x", "provenance": {"seed": 1}}).fingerprint() == genotype.fingerprint()
    assert genotype.model_copy(update={"head": "concat"}).fingerprint() != genotype.fingerprint()


def test_size_of_the_paper_space() -> None:
    genotype = Genotype.load("reference")
    assert isinstance(genotype, AutoPoseGenotype)
    # Per branch an individual cell of 10 edges and an aggregation cell of 9, six operations each; 3 x 4 bits.
    assert genotype.search_space_size() == 6**76 * 2**12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "resnet"}, r"field 'kind' is 'resnet'; expected one of autopose"),
        ({"scales": [[1, 1, 0, 2], [1, 1, 1, 1], [1, 1, 1, 1]]}, r"field 'scales.0.3'.*found '2'"),
        ({"individual": [["conv3"] * 10] * 3}, r"field 'individual'.*4 items"),
        ({"aggregation": [["conv3"] * 8] * 4}, r"field 'aggregation.0'.*9 items"),
        ({"individual": [["dwsep3"] * 10] * 4}, r"individual\[0\]\[0\] is 'dwsep3', which op_set 'paper' has not"),
        ({"chanels": [1, 2, 3, 4]}, r"field 'chanels'.*not permitted"),
        ({"channels": [0, 2, 3, 4]}, r"field 'channels.0'"),
        ({"schema_version": 2}, r"field 'schema_version'"),
    ],
)
def test_refuses_wrong_fields_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        Genotype.from_dict(_content() | change)


def test_refuses_depths_that_a_reference_network_has_not() -> None:
    for network, depth, message in (("hrnet", 50, "hrnet has 0"), ("simplebaseline", 0, "has 50, 101 or 152")):
        with pytest.raises(GenotypeError, match=message):
            Genotype.from_dict({"kind": "reference", "network": network, "width": 32, "depth": depth})


def test_refuses_missing_fields_and_files(tmp_path: Path) -> None:
    content = _content()
    del content["scales"]
    with pytest.raises(GenotypeError, match="field 'scales': Field required"):
        Genotype.from_dict(content)
    with pytest.raises(GenotypeError, match=r"nor a bundled model\. Presets: .*reference.* Models: default"):
        Genotype.load(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"kind": ')
    with pytest.raises(GenotypeError, match="not JSON"):
        Genotype.load(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GenotypeError, match="cannot be read as text"):
        Genotype.load(broken)
    broken.write_text("[1]")
    with pytest.raises(GenotypeError, match="expected a JSON object"):
        Genotype.load(broken)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "have no end"),
        ('{"kind": ' + "9" * 5000 + "}", "have no end"),
        ('{"kind": ["autopose"]}', "field 'kind' is"),
        ('{"kind": "reference", "network": "hrnet", "width": 100000000}', "width"),
        (json.dumps(json.loads(Genotype.load("small").to_json()) | {"modules_per_stage": 10**9}), "modules_per_stage"),
        (json.dumps(json.loads(Genotype.load("small").to_json()) | {"channels": [10**6, 4, 4, 4]}), "channels"),
    ],
    ids=["brackets", "digits", "kind", "width", "modules", "channels"],
)
def test_refuses_files_that_would_take_all_memory(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "g.json").write_text(text)
    with pytest.raises(GenotypeError, match=message):
        Genotype.load(tmp_path / "g.json")


def test_refuses_an_input_size_that_is_none() -> None:
    for size in ("192x256", 5, [192], [0, 256]):
        with pytest.raises(GenotypeError, match="expected width and height"):
            _ = Genotype.load("small").model_copy(update={"provenance": {"input_size_wh": size}}).input_size_wh
