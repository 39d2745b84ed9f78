"""Numbers and words that callers in Python give, checked where they come in; the command line checks its own."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, get_args


def check_count(name: str, value: Any, *, optional: bool = False) -> None:
    """Take a whole number of 1 or more, or, if ``optional``, None.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below 1.
    """
    if value is None and optional:
        return
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} {value!r}: expected a whole number.")
    if int(value) < 1:
        raise ValueError(f"{name} {value}: expected 1 or more.")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Take one of the words of a ``Literal``.

    Raises:
        ValueError: it is none of them.
    """
    if value not in get_args(choices):
        raise ValueError(f"{name} {value!r}: expected {', '.join(get_args(choices))}.")


def check_share(name: str, value: Any) -> None:
    """Take a number from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of range, or nan.
    """
    if not isinstance(value, Real):
        raise TypeError(f"{name} {value!r}: expected a number.")
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{name} {value}: expected 0 to 1.")


def check_region(region: Sequence[Any]) -> None:
    """Take the corners x0, y0, x1, y1 of a part of an image, in whole pixels.

    Raises:
        TypeError: they are no four whole numbers.
        ValueError: the part has no area, or begins outside of every image.
    """
    if len(region) != 4 or not all(isinstance(value, Integral) for value in region):
        raise TypeError(f"region {region!r}: expected four whole numbers, x0, y0, x1, y1.")
    x0, y0, x1, y1 = region
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise ValueError(
            f"region {' '.join(map(str, region))}: expected corners x0 y0 x1 y1 in image pixels with 0 <= x0 < x1 and "
            "0 <= y0 < y1, not width and height."
        )
