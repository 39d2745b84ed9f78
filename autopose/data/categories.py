"""Which records are of persons: the numbers that annotation files and results have for categories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autopose.errors import DataError

#: What the category of persons is called.
PERSON_NAMES = ("person", "persons", "people", "human", "pedestrian")


def person_category(content: Mapping[str, Any], path: Path) -> int:
    """Return the number of the category of persons: that of the name, else the only one, else COCO's 1.

    Without a list of categories it is 1, or 0 where all annotations have that.

    Raises:
        DataError: there are several, and none is called a person; or they are no list.
    """
    categories = _listed(content, path)
    named = [each["id"] for each in categories if str(each.get("name")).lower() in PERSON_NAMES]
    if named or len(categories) == 1:
        number = (named or [categories[0]["id"]])[0]
        if not isinstance(number, int):
            raise DataError(f"{path}: the category of persons has the id {number!r}; expected a whole number.")
        return number
    if categories:
        names = ", ".join(repr(each.get("name")) for each in categories[:5])
        raise DataError(f"{path}: none of its {len(categories)} categories ({names}) is called 'person'. Name it so.")
    used = [each.get("category_id", 1) for each in content["annotations"] if isinstance(each, dict)]
    return 0 if used and all(number == 0 for number in used) else 1


def other_categories(content: Mapping[str, Any], path: Path, category: int) -> tuple[Any, ...]:
    """Return the numbers of a file's categories that are no persons.

    Raises:
        DataError: its categories are no list.
    """
    return tuple(each["id"] for each in _listed(content, path) if each["id"] != category)


def person_numbers(results: Sequence[Mapping[str, Any]], category: int, others: Sequence[Any]) -> tuple[int, ...]:
    """Return what stands for a person as ``category_id`` of results: the annotation file's number, and mostly 1.

    autopose and COCO's detectors say 1 whatever the file does. Where that is another category of the file, it means a
    person only in results that know nothing else.

    Args:
        results: boxes or poses.
        category: the file's number for persons.
        others: its other numbers.
    """
    foreign = any(result.get("category_id", 1) != 1 for result in results)
    return (category,) if 1 in others and foreign else (category, 1)


def as_persons(annotations: Sequence[Any], category: int) -> Sequence[Mapping[str, Any]]:
    """Return records whose ``category_id`` is 1 for a person and something else for anything else, as in COCO."""
    if category == 1:
        return annotations
    return [{**each, "category_id": int(each.get("category_id", category) == category)} for each in annotations]


def category_record(content: Mapping[str, Any], category: int) -> Mapping[str, Any]:
    """Return what a file says of a category; nothing if it does not."""
    listed = [each for each in content.get("categories") or () if isinstance(each, dict) and each.get("id") == category]
    return listed[0] if listed else {}


def _listed(content: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    """Return the records of the categories that have a number."""
    categories = content.get("categories")
    if categories is not None and not isinstance(categories, list):
        raise DataError(f"{path}: 'categories' is {str(categories)[:40]}; expected a list of objects with id and name.")
    return [each for each in categories or () if isinstance(each, dict) and "id" in each]
