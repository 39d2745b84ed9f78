"""What a run learns from and is scored on, as one number: a resumed run has to go on with the same data."""

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from autopose.data.scenes import Scene
from autopose.poses import Person


def data_checksum(samples: Iterable[Person | Scene], tune: Iterable[Path]) -> int:
    """Return the CRC-32 of the samples and the tune pictures, in their order; never 0, which stands for not known.

    Of a sample count the name of its picture, its number in the file and its weights; of a tune picture its name. The
    folders do not, so that a run can go on where the data lie elsewhere.
    """
    crc = 0
    for sample in samples:
        number = sample.annotation_id if isinstance(sample, Person) else sample.image_id
        crc = _add(crc, sample.image_path, f"{number} {float(sample.weight_sample)!r}")
        crc = zlib.crc32(np.asarray(sample.weight, "<f4").tobytes(), crc)
    for path in tune:
        crc = _add(crc, path, "tune")
    return crc or 1


def _add(crc: int, path: Path, text: str) -> int:
    return zlib.crc32(f"{path.name}\n{text}\n".encode("utf-8", "surrogateescape"), crc)
