"""Small COCO files with pictures, whose every number is known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

CocoWriter = Callable[..., Path]


@pytest.fixture
def write_coco(tmp_path: Path) -> CocoWriter:
    """Write ``ann.json`` and 100x80 pictures under ``images/`` for annotations that name only what matters."""

    def write(*annotations: dict[str, Any], images: int = 2, name: str = "ann.json", **image_fields: Any) -> Path:
        (tmp_path / "images").mkdir(exist_ok=True)
        records = []
        for i in range(1, images + 1):
            path = tmp_path / "images" / f"{i:012d}.png"
            cv2.imwrite(str(path), np.full((80, 100, 3), 20 * i, np.uint8))
            records.append({"id": i, "file_name": f"images/{path.name}", "width": 100, "height": 80, **image_fields})
        defaults = {"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 40, 60]}
        content = {
            "images": records,
            "annotations": [{"id": 7 + i, **defaults, **record} for i, record in enumerate(annotations)],
            "categories": [{"id": 1, "name": "person"}],
        }
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write
