"""What PoseTrack's files say of their frames: which ones were annotated, and where in these nobody was."""

from collections.abc import Mapping
from typing import Any

from autopose.data.coco_file import number_fault
from autopose.errors import DataError


def is_annotated(image: Mapping[str, Any]) -> bool:
    """Tell whether persons were annotated in a picture: all but the frames that say ``is_labeled: false``.

    PoseTrack lists every frame of a video and annotates some; the others have no records, whoever they show.
    """
    return image.get("is_labeled") is not False


def ignored_regions(image: Mapping[str, Any], where: str) -> list[tuple[float, float, float, float]]:
    """Return the boxes x0, y0, x1, y1 around the polygons in which a frame's persons were not annotated.

    Args:
        image: its record; ``ignore_regions_x`` and ``ignore_regions_y`` list the corners of each polygon.
        where: names the record in errors.

    Raises:
        DataError: they are no lists of numbers, or not of equal lengths.
    """
    polygons = []
    for key in ("ignore_regions_x", "ignore_regions_y"):
        listed = image.get(key) or []
        if not isinstance(listed, list):
            raise DataError(f"{where}: {key!r} is {str(listed)[:40]}; expected a list of polygons.")
        for number, corners in enumerate(listed):
            if fault := number_fault(corners, len(corners) if isinstance(corners, list) else 3):
                raise DataError(f"{where}: {key}[{number}] {fault}.")
        polygons.append(listed)
    if [len(corners) for corners in polygons[0]] != [len(corners) for corners in polygons[1]]:
        raise DataError(f"{where}: 'ignore_regions_x' and 'ignore_regions_y' differ in length; expected pairs of x, y.")
    return [(min(xs), min(ys), max(xs), max(ys)) for xs, ys in zip(*polygons, strict=True) if xs]
