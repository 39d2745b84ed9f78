"""What :mod:`autopose.data.looks` does to one crop by OpenCV, done to many on a device.

A batch is a float32 tensor ``(N, h, w, 3)``, BGR 0 to 255, which the functions change in place, and a table ``(N, C)``
of numbers (:func:`look_row`), which stays with the processor: it chooses the rows that are changed.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autopose.affine import invert
from autopose.data.looks import Look, coarse_matrix

_PATCHES = 3
#: Of a patch: x, y, w, h, kind (1 colour, 2 noise, 3 another part), then colour, or seed, or the part's corner.
_NUMBERS_OF_A_PATCH = 8
_COLOUR, _NOISE, _PART = 1, 2, 3
#: Columns of a batch's table: crop pixel to picture, coarse size and kind, colour, exponent, blur, quality, patches.
INVERSE, COARSE, _LINEAR = slice(0, 6), slice(6, 9), slice(9, 21)
_EXPONENT, _BLUR, _QUALITY, _PATCH = 21, 22, 23, 24
_COLUMNS = _PATCH + _PATCHES * _NUMBERS_OF_A_PATCH
#: A blur reaches this far (OpenCV's own reach for the largest sigma that is drawn, 2).
_REACH = 6

#: Quantisation of JPEG at quality 50, luma and chroma (ITU-T T.81, Annex K).
_LUMA = """
16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_CHROMA = """
17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
#: BGR to luma and the two chromas, without their offset (JFIF).
_YCC = [[0.114, 0.587, 0.299], [0.5, -0.331264, -0.168736], [-0.081312, -0.418688, 0.5]]


def look_row(look: Look, matrix: NDArray[np.float64], size_wh: tuple[int, int]) -> NDArray[np.float64]:
    """Return a crop's row of the table: ``matrix`` ``(2, 3)`` maps its picture to the crop, of this size."""
    row = np.zeros(_COLUMNS)
    if look.coarse is not None:
        row[COARSE] = (*look.coarse.size_wh, look.coarse.blocks)
        matrix = coarse_matrix(matrix, size_wh, look.coarse.size_wh)
    row[INVERSE] = invert(matrix).ravel()
    row[_LINEAR] = (np.eye(3, 4) if look.colour is None else look.colour.linear).ravel()
    row[_EXPONENT] = 1.0 if look.colour is None else look.colour.exponent
    row[_BLUR], row[_QUALITY] = look.blur, look.jpeg
    for number, patch in enumerate(look.patches):
        if patch.source_xy is not None:
            kind: tuple[float, ...] = (_PART, *patch.source_xy, 0)
        elif patch.colour is not None:
            kind = (_COLOUR, *patch.colour)
        else:
            kind = (_NOISE, patch.seed, 0, 0)
        first = _PATCH + number * _NUMBERS_OF_A_PATCH
        row[first : first + _NUMBERS_OF_A_PATCH] = (patch.x, patch.y, patch.w, patch.h, *kind)
    return row


def grid(size_wh: tuple[int, int], device: torch.device) -> Tensor:
    """Return ``(h, w, 2)`` x, y of a picture's pixels."""
    columns, rows = torch.arange(size_wh[0], device=device), torch.arange(size_wh[1], device=device)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).float()


def moved(places: Tensor, matrices: Tensor) -> Tensor:
    """Map x, y ``(M, h, w, 2)`` by ``(M, 6)`` rows of 2x3 matrices."""
    a, b, c, d, e, f = matrices[:, :, None, None].unbind(1)
    x, y = places.unbind(-1)
    return torch.stack([a * x + b * y + c, d * x + e * y + f], -1)


def corners(part: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the four corners of a cell, and how much each counts ``(..., 1)`` at ``part`` ``(..., 2)`` of the way."""
    x, y = part[..., :1], part[..., 1:]
    shares = ((1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y)
    shifts = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    return [(torch.tensor(shift, device=part.device), share) for shift, share in zip(shifts, shares, strict=True)]


def _rows(chosen: Tensor, device: torch.device) -> Tensor | None:
    """Return the numbers of the chosen rows."""
    rows = torch.nonzero(chosen)[:, 0]
    return rows.to(device) if len(rows) else None


def recolour(image: Tensor, table: Tensor) -> None:
    """Change colours, see :func:`autopose.data.looks.recolour`."""
    chosen = (table[:, _LINEAR] != torch.eye(3, 4).flatten()).any(1) | (table[:, _EXPONENT] != 1)
    rows = _rows(chosen, image.device)
    if rows is None:
        return
    values = table[chosen].float().to(image.device)
    linear = values[:, _LINEAR].view(-1, 3, 4)
    mixed = image[rows].flatten(1, 2) @ linear[..., :3].transpose(1, 2) + linear[:, None, :, 3]
    share = mixed.clamp_(0, 255).div_(255) ** values[:, _EXPONENT, None, None]
    image[rows] = share.view(len(rows), *image.shape[1:]) * 255


def hide(image: Tensor, table: Tensor) -> None:
    """Paint the patches, see :func:`autopose.data.looks.hide`; noise is of the same kind, not the same."""
    height, width = image.shape[1:3]
    columns, lines = grid((width, height), image.device).long().unbind(-1)
    for number in range(_PATCHES):
        first = _PATCH + number * _NUMBERS_OF_A_PATCH
        patch = table[:, first : first + _NUMBERS_OF_A_PATCH]
        for kind in (_COLOUR, _NOISE, _PART):
            chosen = patch[:, 4] == kind
            rows = _rows(chosen, image.device)
            if rows is None:
                continue
            x, y, w, h, _, *rest = patch[chosen].long().to(image.device)[:, :, None, None].unbind(1)
            inside = (columns >= x) & (columns < x + w) & (lines >= y) & (lines < y + h)
            if kind == _COLOUR:
                over = torch.stack(rest, -1).float()
            elif kind == _NOISE:
                over = _noise(columns, lines, rest[0])
            else:
                from_x = (columns - x + rest[0]).clamp(0, width - 1)
                from_y = (lines - y + rest[1]).clamp(0, height - 1)
                over = image[rows[:, None, None], from_y, from_x]
            image[rows] = torch.where(inside[..., None], over, image[rows])


def _noise(columns: Tensor, lines: Tensor, seed: Tensor) -> Tensor:
    """Return numbers from 0 to 255 that depend on seed, place and channel alone, on any device."""
    channel = torch.arange(3, device=columns.device)
    value = (columns * 374_761_393 + lines * 668_265_263 + seed * 2_246_822_519)[..., None] + channel * 3_266_489_917
    for _ in range(2):
        value = ((value ^ (value >> 15)) * 2_654_435_761) & 0xFFFFFFFF
    return ((value ^ (value >> 13)) & 255).float()


def blur(image: Tensor, table: Tensor) -> None:
    """Blur the chosen pictures by a Gaussian."""
    chosen = table[:, _BLUR] > 0
    rows = _rows(chosen, image.device)
    if rows is None:
        return
    sigma = table[chosen, _BLUR][:, None]
    distance = torch.arange(-_REACH, _REACH + 1)[None]
    reach = torch.div((6 * sigma + 1).round().long() | 1, 2, rounding_mode="floor")  # as OpenCV for 8 bits
    kernel = torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= reach)
    kernel = (kernel / kernel.sum(1, keepdim=True)).float().to(image.device).repeat_interleave(3, 0)
    planes = image[rows].permute(0, 3, 1, 2).flatten(0, 1)[None]
    planes = F.pad(planes, (_REACH,) * 4, mode="reflect")
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=len(kernel))
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=len(kernel))
    image[rows] = planes[0].unflatten(0, (-1, 3)).permute(0, 2, 3, 1)


def compress(image: Tensor, table: Tensor) -> None:
    """Do to the chosen pictures what JPEG does: chroma at half the resolution, blocks of 8x8 cosines, rounded."""
    chosen = table[:, _QUALITY] > 0
    rows = _rows(chosen, image.device)
    if rows is None:
        return
    height, width = image.shape[1:3]
    quality = table[chosen, _QUALITY].float()
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    steps = [
        (torch.tensor([float(word) for word in text.split()]) * scale[:, None] + 50).div(100).floor().clamp(1, 255)
        for text in (_LUMA, _CHROMA)
    ]
    to_ycc = torch.tensor(_YCC, device=image.device)
    ycc = (image[rows].round().clamp(0, 255) @ to_ycc.T).permute(0, 3, 1, 2)
    ycc = F.pad(ycc, (0, -width % 16, 0, -height % 16), mode="replicate")
    luma = _quantised(ycc[:, :1] - 128, steps[0].to(image.device)) + 128
    chroma = _quantised(F.avg_pool2d(ycc[:, 1:], 2), steps[1].to(image.device))
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear")
    planes = torch.cat([luma, chroma], 1)[:, :, :height, :width].permute(0, 2, 3, 1)
    image[rows] = (planes @ torch.linalg.inv(torch.tensor(_YCC)).T.to(image.device)).clamp_(0, 255)


def _quantised(planes: Tensor, step: Tensor) -> Tensor:
    """Round the cosine transform of 8x8 blocks of ``(M, C, h, w)`` to multiples of ``step`` ``(M, 64)``."""
    number = torch.arange(8, device=planes.device)
    cosines = torch.cos((2 * number[None] + 1) * number[:, None] * torch.pi / 16) / 2
    cosines[0] /= 2**0.5
    blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (M, C, rows, columns, 8, 8)
    step = step.view(-1, 1, 1, 1, 8, 8)
    rounded = ((cosines @ blocks @ cosines.T) / step).round() * step
    restored: Tensor = (cosines.T @ rounded @ cosines).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return restored
