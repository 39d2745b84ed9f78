import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autopose.data.scenes import Scene
from autopose.poses import Person
from autopose.training.data_checksum import data_checksum

PERSON = Person(Path("a/1.jpg"), np.zeros(4), np.zeros((17, 2)), np.ones(17, np.float32), 1.0, annotation_id=7)
SCENE = Scene(Path("a/1.jpg"), (9, 9), np.zeros((1, 4)), np.ones(1, np.float32), np.zeros((0, 4)), image_id=7)
TUNE = [Path("a/2.jpg")]


@pytest.mark.parametrize("sample", [PERSON, SCENE], ids=["person", "scene"])
def test_the_folder_does_not_count_but_what_is_learnt_does(sample: Person | Scene) -> None:
    known = data_checksum([sample], TUNE)
    moved = replace(sample, image_path=Path("/else/where/1.jpg"))
    assert data_checksum([moved], [Path("/else/where/2.jpg")]) == known
    number = "annotation_id" if isinstance(sample, Person) else "image_id"
    for changes in (
        {"image_path": Path("a/3.jpg")},
        {number: 8},
        {"weight": 0.5 * sample.weight},
        {"weight": sample.weight[1:]},
        {"weight_sample": 2.0},
    ):
        assert data_checksum([replace(sample, **changes)], TUNE) != known
    assert data_checksum([sample, sample], TUNE) != known
    assert data_checksum([sample], []) != known
    assert data_checksum([sample], [*TUNE, Path("a/4.jpg")]) != known
    assert data_checksum([], []) != 0  # which means that it is not known


def test_the_order_counts() -> None:
    other = replace(PERSON, annotation_id=9)
    assert data_checksum([PERSON, other], TUNE) != data_checksum([other, PERSON], TUNE)


def test_the_same_number_on_every_machine() -> None:
    """The CRC-32 of bytes written down here: neither hashes of the process nor the machine's order of bytes."""
    one = struct.pack("<f", 1.0)
    written = b"1.jpg\n7 1.0\n" + 17 * one + b"1.jpg\n7 1.0\n" + one + b"2.jpg\ntune\n"
    assert data_checksum([PERSON, SCENE], TUNE) == zlib.crc32(written)
