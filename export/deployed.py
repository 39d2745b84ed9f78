"""The deployed networks as torch modules: normalisation before, flip averaging and decoding after the network.

They are what :mod:`autopose.export.to_onnx` traces, and the FP32 reference of :mod:`autopose.export.parity`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.heatmap import Codec, Refine, blur_matrix, oks_blur_matrices
from autopose.manifest import Manifest
from autopose.models.center import best_first, decode_centers, unmirrored


class Normalise(nn.Module):
    """uint8 BGR pixels ``(N, H, W, 3)`` to the network's normalised RGB ``(N, 3, H, W)``.

    The cast comes first, because TensorRT wants nothing but a cast behind a uint8 input; then one multiplication and
    one addition per pixel.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        mean_rgb, std_rgb = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * std_rgb)).float().view(3, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean_rgb / std_rgb).float().view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return normalised images."""
        x = images.to(torch.float32).permute(0, 3, 1, 2).flip(1)
        normalised: Tensor = x * self.scale + self.shift
        return normalised


def of_both_sides(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maps of images ``(N, 3, H, W)`` and those of their mirror images, as the network gives them.

    Both go through it side by side along the batch: one pass of twice the batch.
    """
    both: Tensor = network(torch.stack([x, x.flip(-1)], dim=1).flatten(0, 1)).unflatten(0, (-1, 2))
    return both[:, 0], both[:, 1]


class PoseGraph(nn.Module):
    """Crops to keypoints, or to heatmaps.

    Args:
        network: maps ``(N, 3, H, W)`` to heatmaps ``(N, K, h, w)``.
        manifest: what the graph shall do (``io``, ``flip``, ``decode``, ``codec``, ``mean``, ``std``, ``skeleton``).
    """

    flip_order: Tensor

    def __init__(self, network: nn.Module, manifest: Manifest) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(manifest.mean, manifest.std) if manifest.io == "uint8" else nn.Identity()
        self.flip, self.codec, self.decode = manifest.flip, manifest.codec, manifest.decode
        order = torch.from_numpy(manifest.keypoint_skeleton.flip_order)
        self.register_buffer("flip_order", order, persistent=False)

    def heatmaps(self, images: Tensor) -> Tensor:
        """Return ``(N, K, h, w)``, averaged over the mirrored crop if asked for."""
        x = self.normalise(images)
        if not self.flip:
            maps: Tensor = self.network(x)
            return maps
        straight, mirrored = of_both_sides(self.network, x)
        back = mirrored.index_select(1, self.flip_order).flip(-1)
        if shift := self.codec.flip_shift:
            back = torch.cat([back[..., :shift], back[..., :-shift]], dim=-1)
        merged: Tensor = (straight + back) * 0.5
        return merged

    def forward(self, images: Tensor) -> Tensor:
        """Return keypoints ``(N, K, 3)`` as x, y in crop pixels and score; heatmaps if not decoding."""
        maps = self.heatmaps(images)
        return decode_keypoints(maps, self.codec) if self.decode else maps


#: Input pixels: where a detector looks at half the size as well, boxes of its look at the input count fully up to the
#: first side (root of the area) and not at all from the second on: larger persons lie outside of what a cell sees.
#: Chosen on held-out images: the model's card.
SMALL_SIDES = (128.0, 192.0)
#: Added to the centre logits of maps that were averaged with the mirror image's: a mean of two has lower peaks, and the
#: runtime's limits are meant for those of one. As many persons of held-out photographs reach them then.
MIRRORED_LOGIT = 0.11


class DetectorGraph(nn.Module):
    """Letterboxed images to boxes ``(N, D, 4)`` xyxy in input pixels and scores ``(N, D)`` in falling order.

    Args:
        network: maps ``(N, 3, H, W)`` to centre maps ``(N, 5, h, w)``.
        manifest: what the graph shall do (``io``, ``looks``, ``mean``, ``std``).
        stride: input pixels per cell of the maps.
    """

    raised: Tensor

    def __init__(self, network: nn.Module, manifest: Manifest, stride: int) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(manifest.mean, manifest.std) if manifest.io == "uint8" else nn.Identity()
        self.looks = manifest.looks
        self.stride = stride
        raised = torch.tensor([MIRRORED_LOGIT, 0, 0, 0, 0]).view(5, 1, 1)
        self.register_buffer("raised", raised, persistent=False)

    def maps(self, x: Tensor) -> Tensor:
        """Return centre maps, of four looks the mean with those of the mirror images."""
        if self.looks < 4:
            maps: Tensor = self.network(x)
            return maps
        straight, mirrored = of_both_sides(self.network, x)
        mean: Tensor = (straight + unmirrored(mirrored)) * 0.5 + self.raised
        return mean

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and scores; D is 100 per size of the input."""
        x = self.normalise(images)
        boxes, scores = decode_centers(self.maps(x), self.stride)
        if self.looks == 1:
            return boxes, scores
        side = (boxes[..., 2:] - boxes[..., :2]).prod(-1).sqrt()
        small, large = SMALL_SIDES
        scores = scores * ((large - side) / (large - small)).clamp(0, 1)
        half_boxes, half_scores = decode_centers(self.maps(F.avg_pool2d(x, 2)), self.stride)
        return best_first(torch.cat([boxes, 2 * half_boxes], dim=1), torch.cat([scores, half_scores], dim=1))


#: Neighbours (dx, dy) that each refinement reads, the peak itself first.
_CROSS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
_SQUARE = (*_CROSS, (1, 1), (-1, 1), (1, -1), (-1, -1))
_NEIGHBOURS: dict[Refine, tuple[tuple[int, int], ...]] = {
    "none": ((0, 0),),
    "quarter": _CROSS,
    "hrnet": _CROSS,
    "dark": _SQUARE,
    "dark-blur": _SQUARE,
    "oks": _SQUARE,
}


def decode_keypoints(maps: Tensor, codec: Codec) -> Tensor:
    """Read keypoints off heatmaps inside the graph, as :meth:`autopose.heatmap.Codec.decode` does outside.

    ``none``, ``quarter`` and ``hrnet`` give the same numbers bit for bit (all of them are multiples of 1/4 in FP32, but
    for convention ``udp``, whose cells are not 4 pixels wide); the others take logarithms in FP32 instead of FP64.

    Args:
        maps: ``(N, K, h, w)`` of ``codec.heatmap_size_wh``.
        codec: frames and refinement.

    Returns:
        ``(N, K, 3)``: x, y in crop pixels and the peak's value.
    """
    width, height = codec.heatmap_size_wh
    flat = maps.flatten(2)
    score = flat.amax(dim=-1, keepdim=True).to(torch.float32)
    if codec.refine == "oks":
        matrices = oks_blur_matrices(codec.tolerances, (width, height), codec.sigma)
        rows, columns = (torch.from_numpy(matrix) for matrix in matrices)
        flat = (rows @ maps.to(torch.float32).clamp(min=0) @ columns.mT).flatten(2)
    # Indices are counted in FP32, exact below 2**24: engines are not fond of integer division.
    peak = flat.argmax(dim=-1, keepdim=True).to(torch.float32)  # (N, K, 1); the first of equal values, as NumPy's
    y = torch.floor(peak / width)
    x = peak - y * width
    neighbours = _NEIGHBOURS[codec.refine]
    dx, dy = (torch.tensor(part, dtype=torch.float32) for part in zip(*neighbours, strict=True))
    index = (y + dy).clamp(0, height - 1) * width + (x + dx).clamp(0, width - 1)
    values = flat.gather(2, index.to(torch.int64)).to(torch.float32)  # (N, K, neighbours)
    xy = torch.cat([x, y], dim=-1)
    inside = (xy > 0) & (xy < torch.tensor([width - 1.0, height - 1.0]))
    if codec.refine == "quarter":
        xy = xy + _quarter(values, inside)
    elif codec.refine == "hrnet":
        well_inside = inside.all(-1, keepdim=True) & (xy > 1).all(-1, keepdim=True)
        xy = torch.where(score > 0, xy + _quarter(values, well_inside), 0.0)
    elif codec.refine in ("dark", "oks"):
        xy = xy + _dark(values, inside)
    elif codec.refine == "dark-blur":
        rows, columns = (torch.from_numpy(blur_matrix(size, codec.sigma)) for size in (height, width))
        blurred = (rows @ maps.to(torch.float32) @ columns.T).flatten(2)
        xy = xy + _dark(blurred.gather(2, index.to(torch.int64)), inside)
    if codec.convention == "udp":
        return torch.cat([xy * torch.tensor(codec.cell_wh), score], dim=-1)
    return torch.cat([xy * codec.stride + codec.offset, score], dim=-1)


def _quarter(values: Tensor, inside: Tensor) -> Tensor:
    slope = values[..., 1::2] - values[..., 2::2]  # right - left, below - above
    return torch.where(inside, 0.25 * slope.sign(), 0.0)


def _dark(values: Tensor, inside: Tensor) -> Tensor:
    """Return the Newton step on the logarithm of the map, at most half a cell, 0 where it is not a maximum."""
    log = values.clamp(min=1e-10).log()
    center, right, left, below, above, rb, lb, ra, la = log.unbind(-1)
    gx, gy = (right - left) / 2, (below - above) / 2
    hxx, hyy = right - 2 * center + left, below - 2 * center + above
    hxy = (rb - lb - ra + la) / 4
    determinant = hxx * hyy - hxy * hxy
    curved = inside.all(-1) & (determinant > 1e-12) & (hxx < 0)
    safe = torch.where(curved, determinant, 1.0)
    step = torch.stack([-(hyy * gx - hxy * gy) / safe, -(hxx * gy - hxy * gx) / safe], dim=-1)
    return torch.where(curved[..., None], step.clamp(-0.5, 0.5), 0.0)
