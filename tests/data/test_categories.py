import json
from pathlib import Path
from typing import Any

import pytest

from autopose.data.categories import person_category, person_numbers
from autopose.data.coco import load_coco
from autopose.errors import DataError
from autopose.evaluation.coco import evaluate_boxes


@pytest.mark.parametrize(
    ("said", "category", "others", "numbers"),
    [
        ([1, 1], 1, (), {1}),
        ([1, 18], 1, (18,), {1}),
        ([1, 1], 3, (), {1, 3}),  # autopose's own results say 1
        ([1, 1], 3, (1,), {1, 3}),
        ([1, 3], 3, (2,), {1, 3}),
        ([1, 3], 3, (1,), {3}),  # the file's numbers: 1 is something else
        ([], 3, (1,), {1, 3}),
    ],
)
def test_what_stands_for_a_person(said: list[int], category: int, others: tuple[int, ...], numbers: set[int]) -> None:
    assert set(person_numbers([{"category_id": number} for number in said], category, others)) == numbers
    assert 1 in person_numbers([{}], category, others)


def test_cars_that_have_cocos_number_are_no_persons(write_coco: Any, tmp_path: Path) -> None:
    """Every person found, and cars with better scores."""
    pytest.importorskip("pycocotools")
    boxes = [[5, 5, 20, 40], [30, 5, 20, 40], [60, 5, 30, 60]]
    path = write_coco(*({"bbox": box, "category_id": 2} for box in boxes), images=1)
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}]
    path.write_text(json.dumps(content))
    persons = [{"image_id": 1, "category_id": 2, "bbox": box, "score": 0.5} for box in boxes]
    cars = [{"image_id": 1, "category_id": 1, "bbox": [5, 70, 90, 9], "score": 0.9}] * 3
    assert evaluate_boxes([*cars, *persons], path)["AP"] == pytest.approx(1)
    (tmp_path / "found.json").write_text(json.dumps([*cars, *persons]))
    found = load_coco(path, boxes=tmp_path / "found.json")
    assert [person.box_xyxy[:2].tolist() for person in found] == [box[:2] for box in boxes]


@pytest.mark.parametrize("categories", [5, "person", {"id": 1, "name": "person"}])
def test_refuses_categories_that_are_no_list(write_coco: Any, categories: Any) -> None:
    content = {"images": [], "annotations": [], "categories": categories}
    with pytest.raises(DataError, match=r"^a\.json: 'categories' is .*; expected a list"):
        person_category(content, Path("a.json"))
    path = write_coco({})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": categories}))
    with pytest.raises(DataError, match="'categories' is"):
        load_coco(path)
