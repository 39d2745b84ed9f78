"""The heatmap codec: joint positions to Gaussian maps and back, the same in training, evaluation and the runtime.

Four conventions relate heatmap cells to crop pixels (stride s = 4):

* ``aligned`` (default): the centres of the outer pixels' *areas* coincide, x_crop = s (x_map + 0.5) - 0.5. Mirroring
  the crop mirrors the map exactly, so flipped maps are averaged without a shift.
* ``hrnet``: x_crop = s x_map (HRNet ``lib/utils/transforms.py``). A mirrored map is off by (s - 1) / s cells, which
  HRNet mends by shifting it one cell to the right (``lib/core/function.py``).
* ``posenfs``: x_crop = s x_map + 0.5, flip average without a shift (PoseNFS ``src/evaluate.py``).
* ``udp``: the centres of the outer pixels coincide, x_crop = x_map (w_crop - 1) / (w_map - 1), so that mirroring is
  exact as well (UDP, CVPR 2020, section 3.2: lengths are counted in pixel intervals).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from autopose.errors import DataError
from autopose.skeleton import COCO17

Refine = Literal["none", "quarter", "hrnet", "dark", "dark-blur", "oks"]
Convention = Literal["aligned", "hrnet", "posenfs", "udp"]

#: Pixels of a side of a network's input.
Side = Annotated[int, Field(ge=1, le=8192)]

#: Root of a person's area over the height of its crop: the median of 268 persons of a COCO train2017 subset.
PERSON_SCALE = 0.39

#: How published code decodes: (convention, refine). HRNet's own is also SimpleBaseline's.
PUBLISHED: Mapping[str, tuple[Convention, Refine]] = {
    "aligned": ("aligned", "quarter"),
    "hrnet": ("hrnet", "hrnet"),
    "posenfs": ("posenfs", "hrnet"),
    "dark": ("hrnet", "dark-blur"),
    "udp": ("udp", "dark-blur"),
}


class Codec(BaseModel):
    """How joints become heatmaps and back.

    Attributes:
        input_size_wh: crop size in pixels.
        stride: crop pixels per heatmap cell.
        sigma: standard deviation of the Gaussian, in heatmap cells.
        convention: relation of cells to crop pixels: ``aligned`` (areas coincide), or that of a published code:
            ``hrnet``, ``posenfs``, ``udp``.
        refine: sub-cell step after the maximum: ``none``; ``quarter`` (0.25 cell towards the higher neighbour, in x and
            in y); ``hrnet`` (the same with HRNet's border rule: no step at all unless 1 < x < w - 1 and 1 < y < h - 1,
            and a joint without a positive peak is put at cell 0, 0: HRNet ``lib/core/inference.py``); ``dark`` (Newton
            step on the logarithm of the map: DARK, CVPR 2020, without its smoothing); ``dark-blur`` (with it: the map
            is first blurred by the Gaussian that it was trained with); ``oks`` (the position of greatest expected OKS,
            see :func:`oks_widths`, with DARK's step).
        oks_sigmas: OKS constants per joint, for ``oks``; None: those of COCO's 17 joints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input_size_wh: tuple[Side, Side] = (192, 256)
    stride: int = Field(4, ge=1)
    sigma: float = Field(2.0, gt=0)
    convention: Convention = "aligned"
    refine: Refine = "quarter"
    oks_sigmas: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _has_cells(self) -> Self:
        least = 2 if self.convention == "udp" else 1  # whose first and last cells are the crop's corners
        if min(self.heatmap_size_wh) < least:
            raise ValueError(
                f"input_size_wh {self.input_size_wh} has fewer than {least} cells of stride {self.stride} on a side"
            )
        return self

    @property
    def heatmap_size_wh(self) -> tuple[int, int]:
        """Return the size of the maps in cells."""
        return self.input_size_wh[0] // self.stride, self.input_size_wh[1] // self.stride

    @property
    def cell_wh(self) -> tuple[float, float]:
        """Return the width and height of a cell in crop pixels."""
        if self.convention != "udp":
            return float(self.stride), float(self.stride)
        (width, height), (columns, rows) = self.input_size_wh, self.heatmap_size_wh
        return (width - 1) / (columns - 1), (height - 1) / (rows - 1)

    @property
    def offset(self) -> float:
        """Return the crop coordinate of cell 0."""
        return {"aligned": (self.stride - 1) / 2, "hrnet": 0.0, "posenfs": 0.5, "udp": 0.0}[self.convention]

    @classmethod
    def published(cls, name: str, input_size_wh: tuple[int, int] = (192, 256), sigma: float = 2.0) -> "Codec":
        """Return the codec of a published code: ``hrnet``, ``posenfs``, ``dark``, ``udp``, or our own ``aligned``.

        Raises:
            DataError: there is none of that name.
        """
        if name not in PUBLISHED:
            raise DataError(f"Unknown decode convention {name!r}. Known: {', '.join(PUBLISHED)}.")
        convention, refine = PUBLISHED[name]
        return cls(input_size_wh=input_size_wh, sigma=sigma, convention=convention, refine=refine)

    @property
    def flip_shift(self) -> int:
        """Return by how many cells a mirrored-back map is shifted to the right before averaging."""
        return 1 if self.convention == "hrnet" else 0

    @property
    def tolerances(self) -> tuple[float, ...]:
        """Return the OKS constants per joint."""
        return self.oks_sigmas or COCO17.sigmas

    def heatmap_from_crop(self, xy_crop: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map crop pixels to heatmap cells."""
        # Targets of the posenfs convention are made without its 0.5, as upstream does: it is added on decoding only.
        offset = 0.0 if self.convention == "posenfs" else self.offset
        return np.asarray((np.asarray(xy_crop, np.float64) - offset) / np.array(self.cell_wh))

    def crop_from_heatmap(self, xy_heatmap: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map heatmap cells to crop pixels."""
        return np.asarray(np.asarray(xy_heatmap, np.float64) * np.array(self.cell_wh) + self.offset)

    def encode(self, xy_crop: NDArray[np.floating], weight: NDArray[np.floating]) -> tuple[
        NDArray[np.float32], NDArray[np.float32]
    ]:  # fmt: skip
        """Return Gaussian targets ``(K, h, w)``, 1 at the joint itself, and target weights ``(K,)``.

        They are centred on the joint (DARK's unbiased coding), not on the nearest cell as HRNet's and PNFS's are.

        Args:
            xy_crop: ``(K, 2)`` joints in crop pixels; NaN: known not to be there, which makes an empty map that counts.
            weight: ``(K,)`` 0 for joints without a label; joints further than 3 sigma outside get weight 0.
        """
        width, height = self.heatmap_size_wh
        xy = self.heatmap_from_crop(xy_crop)
        reach = 3 * self.sigma
        low, high = -reach, np.array([width - 1, height - 1]) + reach
        inside = np.asarray(((xy >= low) & (xy <= high)).all(-1))
        weight = np.where(inside | np.isnan(xy).any(-1), weight, 0).astype(np.float32)
        xy = np.where(inside[:, None], xy, 0)
        gx = np.exp(-((np.arange(width) - xy[:, :1]) ** 2) / (2 * self.sigma**2))
        gy = np.exp(-((np.arange(height) - xy[:, 1:]) ** 2) / (2 * self.sigma**2))
        maps = gy[:, :, None] * gx[:, None, :] * (inside & (weight > 0))[:, None, None]
        return maps.astype(np.float32), weight

    def decode(self, heatmaps: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Read joint positions in crop pixels ``(N, K, 2)`` and peak values ``(N, K)`` off maps ``(N, K, h, w)``."""
        xy, scores = decode(heatmaps, refine=self.refine, sigma=self.sigma, oks_sigmas=self.tolerances)
        return self.crop_from_heatmap(xy), scores

    def merge_flipped(
        self, heatmaps: NDArray[np.floating], flipped: NDArray[np.floating], flip_order: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Average maps of a crop with those of the mirrored crop (both ``(N, K, h, w)``, neither modified)."""
        back = flipped[:, flip_order, :, ::-1]
        if self.flip_shift:
            shift = self.flip_shift
            back = np.concatenate([back[..., :shift], back[..., :-shift]], axis=-1)
        return np.asarray((heatmaps + back) * 0.5, np.float32)


def blur_matrix(size: int, sigma: float) -> NDArray[np.float32]:
    """Return the ``(size, size)`` matrix that blurs a row of cells; outside is 0.

    The kernel reaches 2.5 sigma: 11 cells for sigma 2 as DARK's code, 17 for sigma 3.
    """
    radius = int(np.ceil(2.5 * sigma))
    distance = np.arange(size)[:, None] - np.arange(size)
    kernel = np.exp(-(distance**2) / (2 * sigma**2)) * (np.abs(distance) <= radius)
    return np.asarray(kernel / np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2)).sum(), np.float32)


def oks_widths(oks_sigmas: Sequence[float], height: int, sigma: float) -> NDArray[np.float64]:
    """Return the standard deviations, in cells, by which to blur each joint's map so that it tells the expected OKS.

    A map trained with the squared error is the joint's probability blurred by the training Gaussian. The expected
    object keypoint similarity of a guess is the same probability blurred by the similarity's own Gaussian, of standard
    deviation ``2 k s``: for hips 3 times as wide as the training's. What is missing between the two variances is
    blurred on; at least one cell, against noise.

    Args:
        oks_sigmas: ``(K,)`` COCO's constants ``k``.
        height: of the map in cells; the person's scale ``s`` is taken as :data:`PERSON_SCALE` of it.
        sigma: of the training Gaussian in cells.

    Source:
        ProbPose (Purkrabek and Matas, CVPR 2025) decodes probability maps by expected OKS; the step from squared-error
        heatmaps to these is ours.
    """
    wanted = 2 * np.asarray(oks_sigmas, np.float64) * PERSON_SCALE * height
    return np.sqrt(np.maximum(wanted**2 - sigma**2, 1.0))


@lru_cache(maxsize=8)  # a runtime decodes many batches with one codec
def oks_blur_matrices(
    oks_sigmas: tuple[float, ...], size_wh: tuple[int, int], sigma: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return :func:`blur_matrix` per joint for the rows ``(K, h, h)`` and the columns ``(K, w, w)`` of its map."""
    width, height = size_wh
    widths = oks_widths(oks_sigmas, height, sigma)
    rows, columns = (np.stack([blur_matrix(size, joint) for joint in widths]) for size in (height, width))
    return rows, columns


def decode(
    heatmaps: NDArray[np.floating],
    *,
    refine: Refine = "quarter",
    sigma: float = 2.0,
    oks_sigmas: tuple[float, ...] = COCO17.sigmas,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Read joint positions off heatmaps.

    Args:
        heatmaps: ``(N, K, h, w)``, any range; not modified.
        refine: sub-cell step, see :class:`Codec`. ``quarter`` steps only if both neighbours of that axis exist.
        sigma: of ``dark-blur`` and ``oks``, in cells.
        oks_sigmas: ``(K,)`` of ``oks``.

    Returns:
        Positions ``(N, K, 2)`` as x, y in heatmap cells, and peak values ``(N, K)`` of the maps as given.

    Raises:
        DataError: ``oks`` has constants of another number of joints.
    """
    count, joints, height, width = heatmaps.shape
    flat = np.asarray(heatmaps, np.float32).reshape(count, joints, -1)
    scores = flat.max(-1)
    if refine == "oks":
        if len(oks_sigmas) != joints:
            raise DataError(
                f"Decoding by expected OKS has constants of {len(oks_sigmas)} joints, but the maps show {joints}. "
                "Set codec.oks_sigmas to one constant per joint, or choose another codec.refine."
            )
        rows, columns = oks_blur_matrices(oks_sigmas, (width, height), sigma)
        maps = np.maximum(flat, 0).reshape(count, joints, height, width)
        flat = np.asarray(rows @ maps @ columns.swapaxes(-2, -1), np.float32).reshape(flat.shape)
    peak = flat.argmax(-1)
    x, y = peak % width, peak // width
    xy = np.stack([x, y], -1).astype(np.float64)
    if refine == "none":
        return xy, scores
    if refine == "dark-blur":  # positions and scores stay those of the map itself
        rows, columns = blur_matrix(height, sigma), blur_matrix(width, sigma)
        blurred = rows @ flat.reshape(count, joints, height, width) @ columns.T
        flat = np.asarray(blurred, np.float32).reshape(flat.shape)

    def at(dx: int, dy: int) -> NDArray[np.float64]:
        """Return the map at the peak's neighbour, clamped to the border: ``(N, K)``."""
        index = np.clip(y + dy, 0, height - 1) * width + np.clip(x + dx, 0, width - 1)
        return np.take_along_axis(flat, index[..., None], -1)[..., 0].astype(np.float64)

    inside = np.stack([(x > 0) & (x < width - 1), (y > 0) & (y < height - 1)], -1)
    if refine == "quarter":
        slope = np.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], -1)
        return xy + np.where(inside, 0.25 * np.sign(slope), 0), scores
    if refine == "hrnet":
        slope = np.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], -1)
        well_inside = inside.all(-1) & (x > 1) & (y > 1)
        stepped = xy + np.where(well_inside[..., None], 0.25 * np.sign(slope), 0)
        return np.where(scores[..., None] > 0, stepped, 0), scores

    def log_at(dx: int, dy: int) -> NDArray[np.float64]:
        return np.asarray(np.log(np.maximum(at(dx, dy), 1e-10)))

    center = log_at(0, 0)
    gx, gy = (log_at(1, 0) - log_at(-1, 0)) / 2, (log_at(0, 1) - log_at(0, -1)) / 2
    hxx = log_at(1, 0) - 2 * center + log_at(-1, 0)
    hyy = log_at(0, 1) - 2 * center + log_at(0, -1)
    hxy = (log_at(1, 1) - log_at(-1, 1) - log_at(1, -1) + log_at(-1, -1)) / 4
    determinant = hxx * hyy - hxy**2
    curved = inside.all(-1) & (determinant > 1e-12) & (hxx < 0)
    safe = np.where(curved, determinant, 1)
    step = np.stack([-(hyy * gx - hxy * gy) / safe, -(hxx * gy - hxy * gx) / safe], -1)
    return xy + np.where(curved[..., None], np.clip(step, -0.5, 0.5), 0), scores
