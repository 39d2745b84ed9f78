"""Training crops painted where the network is: pictures decoded once onto the device, varied there, many at a time.

The processor only draws what each crop is to show (:meth:`autopose.data.pose_dataset.PoseDataset.draw`, half a
millisecond on a slow core); :class:`Resident` paints it as :mod:`autopose.data.looks` and
:mod:`autopose.data.neighbours` do with OpenCV, but for rounding, the pixels of noise, and JPEG's rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autopose.affine import invert
from autopose.data.crop_set import CropSet
from autopose.data.pose_dataset import PoseDataset
from autopose.training.effects import COARSE, INVERSE, blur, compress, corners, grid, hide, look_row, moved, recolour


@dataclass(frozen=True, eq=False)
class DrawnRow:
    """One crop as :meth:`Resident.paint` wants it: numbers instead of pictures.

    Attributes:
        person: number of the person.
        table: ``(C,)`` float64.
        xy: ``(K, 2)`` float32 joints in crop pixels.
        weight: ``(K,)`` float32.
        neighbour: ``(7,)`` float64 number of another person, and the map from crop to their picture; None: alone.
        alpha: ``(h, w)`` uint8 where the neighbour is seen.
    """

    person: int
    table: NDArray[np.float64]
    xy: NDArray[np.float32]
    weight: NDArray[np.float32]
    neighbour: NDArray[np.float64] | None
    alpha: NDArray[np.uint8]


class DrawSource:
    """What a loader process does of :class:`Resident`'s work: it draws, and reads no picture."""

    def __init__(self, dataset: PoseDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def sample(self, index: int, rng: np.random.Generator) -> DrawnRow:
        """Return what a crop is to show."""
        draw, size_wh = self.dataset.draw(index, rng), self.dataset.codec.input_size_wh
        table, other = look_row(draw.look, draw.matrix, size_wh), draw.neighbour
        if other is None:
            return DrawnRow(index, table, draw.xy, draw.weight, None, np.zeros((size_wh[1], size_wh[0]), np.uint8))
        beside = np.array([other.person, *invert(other.matrix).ravel()])
        return DrawnRow(index, table, draw.xy, draw.weight, beside, np.rint(255 * other.alpha).astype(np.uint8))


def collate_rows(rows: Sequence[DrawnRow]) -> tuple[Tensor, ...]:
    """Return a batch for :meth:`Resident.paint`, in few tensors: each takes a file handle on its way.

    Returns:
        Persons ``(N,)`` int64; the table ``(N, C)`` float64; joints ``(N, K, 2)`` and weights ``(N, K)`` float32;
        neighbours ``(M, 8)`` float64: row, person, and the map from crop to picture; where they are seen
        ``(M, h, w)`` uint8.
    """
    beside = [(number, row.neighbour, row.alpha) for number, row in enumerate(rows) if row.neighbour is not None]
    alpha = np.array([seen for *_, seen in beside], np.uint8).reshape(-1, *rows[0].alpha.shape)
    return (
        torch.tensor([row.person for row in rows]),
        torch.from_numpy(np.stack([row.table for row in rows])),
        torch.from_numpy(np.stack([row.xy for row in rows])),
        torch.from_numpy(np.stack([row.weight for row in rows])),
        torch.from_numpy(np.array([[number, *other] for number, other, _ in beside], np.float64).reshape(-1, 8)),
        torch.from_numpy(alpha),
    )


class Resident:
    """Pictures on a device, and crops painted of them."""

    def __init__(self, crops: CropSet, device: torch.device) -> None:
        self.device = device
        self.pixels = torch.from_numpy(crops.pixels).to(device)
        self.start = torch.from_numpy(crops.start).to(device)
        self.size = torch.from_numpy(crops.size_wh).to(device)

    @torch.no_grad()
    def paint(self, batch: Sequence[Tensor], size_wh: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Paint a batch of :func:`collate_rows`.

        Returns:
            Crops ``(N, h, w, 3)`` uint8 BGR, joints ``(N, K, 2)`` in crop pixels and weights ``(N, K)``, on the device.
        """
        persons, table, xy, weight, neighbours, alpha = batch
        with torch.autocast(self.device.type, enabled=False):
            image = self._sampled(persons, table, size_wh)
            self._add_neighbours(image, neighbours, alpha)
            recolour(image, table)
            hide(image, table)
            blur(image, table)
            compress(image, table)
            crops = image.round_().clamp_(0, 255).to(torch.uint8)
        return crops, xy.to(self.device, non_blocking=True), weight.to(self.device, non_blocking=True)

    def _sampled(self, persons: Tensor, table: Tensor, size_wh: tuple[int, int]) -> Tensor:
        """Return ``(N, h, w, 3)`` float32 sampled from the pictures, at low resolution where the table says so."""
        places = grid(size_wh, self.device)
        image = torch.empty((len(persons), *places.shape[:-1], 3), device=self.device)
        coarse = table[:, COARSE][:, 0] > 0
        for chosen, sampled in ((~coarse, self._sharp), (coarse, self._coarse)):
            if chosen.any():
                rows = torch.nonzero(chosen)[:, 0].to(self.device)
                image[rows] = sampled(persons[chosen].to(self.device), table[chosen], places)
        return image

    def _sharp(self, who: Tensor, table: Tensor, places: Tensor) -> Tensor:
        return self._bilinear(who, moved(places.expand(len(who), -1, -1, -1), self._on(table[:, INVERSE])))

    def _coarse(self, who: Tensor, table: Tensor, places: Tensor) -> Tensor:
        """Sample the pixels of the smaller picture that are around each place, and enlarge as OpenCV does."""
        inverse, kind = self._on(table[:, INVERSE]), self._on(table[:, COARSE])[:, None, None]
        small, blocks = kind[..., :2], kind[..., 2:] > 0
        exact = (places + 0.5) * small / torch.tensor([places.shape[1], places.shape[0]], device=self.device)
        place = torch.where(blocks, exact.floor(), (exact - 0.5).clamp(min=0)).minimum(small - 1)
        low = place.floor()
        image = torch.zeros((*place.shape[:-1], 3), device=self.device)
        for shift, share in corners(place - low):
            image += self._bilinear(who, moved(torch.minimum(low + shift, small - 1), inverse)) * share
        return image

    def _add_neighbours(self, image: Tensor, neighbours: Tensor, alpha: Tensor) -> None:
        if len(neighbours) == 0:
            return
        rows, who = neighbours[:, 0].long().to(self.device), neighbours[:, 1].long().to(self.device)
        places = grid((image.shape[2], image.shape[1]), self.device).expand(len(rows), -1, -1, -1)
        other = self._bilinear(who, moved(places, self._on(neighbours[:, 2:])), replicate=True)
        seen = alpha.to(self.device).float()[..., None] / 255
        image[rows] = image[rows] * (1 - seen) + other * seen

    def _on(self, numbers: Tensor) -> Tensor:
        return numbers.float().to(self.device, non_blocking=True)

    def _bilinear(self, who: Tensor, places: Tensor, *, replicate: bool = False) -> Tensor:
        """Return ``(M, h, w, 3)`` at ``places`` ``(M, h, w, 2)`` x, y of persons' pictures; black outside of them."""
        size, start = self.size[who][:, None, None], self.start[who][:, None, None]
        if replicate:
            places = torch.minimum(places.clamp(min=0), size - 1)
        low = places.floor()
        whole = low.long()
        image = torch.zeros((*places.shape[:-1], 3), device=self.device)
        for shift, share in corners(places - low):
            at = whole + shift.long().to(self.device)
            inside = ((at >= 0) & (at < size)).all(-1)
            index = torch.where(inside, start + at[..., 1] * size[..., 0] + at[..., 0], 0)
            image += self.pixels[index] * (share * inside[..., None])
        return image
