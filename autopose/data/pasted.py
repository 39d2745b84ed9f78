"""Labelled persons cut out of photographs and painted into others: crowds, overlaps and small persons with true boxes.

Few photographs with every person boxed show many at once. A person whose joints are labelled can be cut out along the
silhouette around them (:mod:`autopose.data.neighbours`) and painted anywhere, at any size, in front of whoever is there
(copy-paste, Ghiasi et al. 2021, with joints in the place of masks).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autopose.affine import transform, transform_boxes, warp_shrunk
from autopose.data.coco import persons_from_coco
from autopose.data.coco_file import CocoFile, first_keypoints
from autopose.data.draw import WeightedDraw
from autopose.data.images import ImageReader
from autopose.data.neighbours import blend, candidates, neighbour_matrix, silhouette
from autopose.data.skeletons import skeleton_of
from autopose.poses import Person

#: A person is enlarged by no more than this: larger ones would be told by their blur.
_MOST_ENLARGED = 1.5
#: A silhouette fills half of its box or so; of a person whose box is painted over by more than this, little is left.
_MOST_COVERED = 0.4


def persons_to_paint(file: CocoFile, *, sample_weight: float = 1.0) -> list[Person]:
    """Return the persons of a file who have joints; none of a file that has boxes alone.

    Raises:
        DataError: its joints are not known, or a record cannot be used.
    """
    if not first_keypoints(file.annotations):
        return []
    return persons_from_coco(file, skeleton=skeleton_of(file), sample_weight=sample_weight)


class PersonPaster:
    """Persons that can be painted into any picture."""

    def __init__(self, persons: Sequence[Person], reader: ImageReader) -> None:
        """Keep those that can be cut out; ``Person.weight_sample`` says how often each is drawn."""
        self.persons = [persons[index] for index in candidates(persons)]
        self.reader = reader
        self._draw = WeightedDraw([person.weight_sample for person in self.persons])

    def __len__(self) -> int:
        return len(self.persons)

    def paste(
        self,
        image: NDArray[np.uint8],
        boxes: NDArray[np.float32],
        heights: tuple[float, float],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]] | None:
        """Paint one person, half of the time beside one of those in the picture, of about the same height.

        Args:
            image: ``(h, w, 3)``; not modified.
            boxes: ``(n, 4)`` of the persons in it, pixels.
            heights: least and largest height of a person who stands elsewhere, pixels; drawn log-uniformly.
            rng: source of chance.

        Returns:
            The picture, the new person's box ``(4,)`` (what of the silhouette and of the labelled box is inside), and
            which ``(n,)`` of the others are hidden for the most part. None if the person would lie outside, or be
            enlarged too much.
        """
        size_wh = (image.shape[1], image.shape[0])
        person = self.persons[self._draw(rng)]
        if len(boxes) and rng.random() < 0.5:
            beside = boxes[rng.integers(len(boxes))]
        else:
            height = np.exp(rng.uniform(*np.log(heights)))
            middle, half = rng.random(2) * size_wh, np.array([height / 4, height / 2])
            beside = np.concatenate([middle - half, middle + half])
        matrix = neighbour_matrix(beside, person.box_xyxy, np.eye(2, 3), rng)
        if matrix[1, 1] > _MOST_ENLARGED:
            return None
        other = self.reader.read(person.image_path)
        alpha = silhouette(transform(person.keypoints, matrix), person.weight > 0, person.skeleton, size_wh)
        if alpha is None:
            return None
        frame, labelled = transform_boxes(np.array([[0, 0, other.shape[1], other.shape[0]], person.box_xyxy]), matrix)
        # Nothing is to be seen of a person beyond the edges of the photograph.
        left, top, right, bottom = np.rint(np.clip(frame, 0, [*size_wh, *size_wh])).astype(int)
        present = np.zeros_like(alpha)
        present[top:bottom, left:right] = alpha[top:bottom, left:right]
        solid = present > 0.5
        rows, columns = (np.flatnonzero(solid.any(axis)) for axis in (1, 0))
        if not len(rows):
            return None
        low = np.maximum(labelled[:2], [columns[0], rows[0]])
        high = np.minimum(labelled[2:], [columns[-1] + 1, rows[-1] + 1])
        if not (high > low).all():
            return None
        painted = blend(warp_shrunk(other, matrix, size_wh), image, present)
        return painted, np.concatenate([low, high]).astype(np.float32), _hidden(boxes, solid)


def _hidden(boxes: NDArray[np.float32], painted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return of which boxes ``(n, 4)`` more than the tolerated share is painted over."""
    covered = []
    for x0, y0, x1, y1 in np.rint(boxes).astype(int).clip(0):
        inside = painted[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        covered.append(inside.size > 0 and float(inside.mean()) > _MOST_COVERED)
    return np.array(covered, bool)
