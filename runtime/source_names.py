"""What sources are called: in the names of output files, and where people read about them."""

import os
import re
import unicodedata
from collections.abc import Iterable

#: Bytes of an output file's stem at most: file systems take 255, and endings such as ``_000000000123_keypoints.json``
#: and a temporary file's random part come on top.
LONGEST_STEM = 200
#: What stands between a source's name and its outputs' endings: a source ``clip-coco`` beside one called ``clip`` would
#: have outputs of the same name.
OUTPUT_MARKS = ("-frames", "-crops", "-sheet", "-coco", "-openpose", "-angles", ".part")


def public_address(address: str) -> str:
    """Return a stream's address without user, password and query, which is where signed links carry their key."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    bare = re.sub(r"^[^/]*@", "", rest)
    if bare == rest:  # a password with a slash in it: what follows the first colon is no port
        bare = re.sub(r"^[^/@:\[]*:(?!\d*(?:/|$))[^@]*@", "", rest)
    return scheme + mark + bare.partition("?")[0]


def address_stem(address: str) -> str:
    """Return a file stem for a stream's address."""
    return re.sub(r"[^\w.-]+", "-", public_address(address).partition("://")[2]).strip("-.") or "stream"


def composed(name: str) -> str:
    """Return a name whose accents are in their letters: files from a Mac have them beside, what is typed has not."""
    return unicodedata.normalize("NFC", name)


def as_one(name: str) -> str:
    """Return what is equal for names that Windows or macOS take for the same."""
    return composed(name).lower()


def unique_stem(stem: str, taken: set[str], marks: Iterable[str] = (), counts: dict[str, int] | None = None) -> str:
    """Return the stem, short enough for a file and numbered if it is taken already, and take it.

    Upper and lower case are one, and an accent beside its letter or in it: not every file system tells them apart.

    Args:
        stem: wanted.
        taken: what is given away, as :func:`as_one` has it; added to.
        marks: it is needed with these behind it as well.
        counts: the last number of each stem that was given away with these marks, added to: thousands of pictures of
            one name would each be counted up from the first.
    """
    if len(os.fsencode(stem)) > LONGEST_STEM:
        stem = os.fsencode(stem)[:LONGEST_STEM].decode(errors="ignore")
    counts = {} if counts is None else counts
    count = counts.get(stem, 1)
    name = stem if count == 1 else f"{stem}-{count}"
    while not taken.isdisjoint(needed := {as_one(name + mark) for mark in ("", *marks)}):
        count += 1
        name = f"{stem}-{count}"
    taken |= needed
    counts[stem] = count
    return name
