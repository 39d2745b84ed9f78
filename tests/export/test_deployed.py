"""The graph's own decoding and flip averaging against the codec's NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autopose.checkpoint import Checkpoint
from autopose.export.crops import synthetic_crops
from autopose.export.deployed import DetectorGraph, Normalise, PoseGraph, decode_keypoints
from autopose.heatmap import Codec
from autopose.manifest import Manifest
from autopose.training.normalize import normalize


def _awkward_maps(codec: Codec, rng: np.random.Generator) -> NDArray[np.float32]:
    """Maps with peaks on every border and corner, ties of peaks and of neighbours, flat and negative maps."""
    width, height = codec.heatmap_size_wh
    cells = [
        (x, y) for x in (0, 1, width // 2, width - 2, width - 1) for y in (0, 1, height // 2, height - 2, height - 1)
    ]
    maps = rng.normal(0, 0.05, (len(cells), 4, height, width)).astype(np.float32)
    for row, (x, y) in enumerate(cells):
        maps[row, :, y, x] = 1.0
        maps[row, 1, height - 1 - y, width - 1 - x] = 1.0  # a second peak of the same value
        maps[row, 2, y, max(x - 1, 0)] = maps[row, 2, y, min(x + 1, width - 1)] = 0.5  # neighbours tie
        maps[row, 2, y, x] = 1.0
        maps[row, 3] = -1.0 if row % 2 else 0.25  # flat
    hollow = maps[12, 0, height // 2 - 3 : height // 2 + 4, width // 2 - 3 : width // 2 + 4]
    hollow[:] = 0.9  # once blurred, the peak in its middle is a minimum
    hollow[1:-1, 1:-1] = 0.0
    hollow[3, 3] = 1.0
    return maps


@pytest.mark.parametrize("convention", ["aligned", "hrnet", "posenfs"])
@pytest.mark.parametrize("refine", ["none", "quarter", "hrnet"])
def test_decode_equals_the_codec_bit_for_bit(refine: str, convention: str) -> None:
    codec = Codec.model_validate({"input_size_wh": (48, 64), "refine": refine, "convention": convention})
    rng = np.random.default_rng(0)
    width, height = codec.heatmap_size_wh
    for maps in (_awkward_maps(codec, rng), rng.normal(0, 1, (20, 5, height, width)).astype(np.float32)):
        before = maps.copy()
        xy, scores = codec.decode(maps)
        keypoints = decode_keypoints(torch.from_numpy(maps), codec).numpy()
        np.testing.assert_array_equal(keypoints[..., :2], xy)
        np.testing.assert_array_equal(keypoints[..., 2], scores)
        np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize(
    ("refine", "convention"), [("dark", "aligned"), ("dark-blur", "hrnet"), ("dark-blur", "udp"), ("oks", "aligned")]
)
def test_decode_dark_equals_the_codec_within_rounding(refine: str, convention: str) -> None:
    codec = Codec.model_validate(
        {"input_size_wh": (48, 64), "refine": refine, "convention": convention, "oks_sigmas": (0.03, 0.06, 0.09, 0.11)}
    )
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, 60, (200, 2)) * [0.75, 1]
    maps, _ = codec.encode(xy, np.ones(200))
    maps = (maps + rng.normal(0, 0.003, maps.shape)).astype(np.float32).reshape(50, 4, *maps.shape[1:])
    expected, scores = codec.decode(maps)
    keypoints = decode_keypoints(torch.from_numpy(maps), codec).numpy()
    np.testing.assert_allclose(keypoints[..., :2], expected, atol=2e-3)
    np.testing.assert_array_equal(keypoints[..., 2], scores)
    awkward = _awkward_maps(codec, rng)
    scores = decode_keypoints(torch.from_numpy(awkward), codec).numpy()[..., 2]
    np.testing.assert_array_equal(scores, codec.decode(awkward)[1])
    if refine == "oks":
        awkward = awkward[:, [0, 1, 2, 0]]  # a flat map is flat up to rounding once blurred: no place wins
    keypoints = decode_keypoints(torch.from_numpy(awkward), codec).numpy()
    np.testing.assert_allclose(keypoints[..., :2], codec.decode(awkward)[0], atol=2e-3)


class _Texture(nn.Module):
    """A network stand-in that is not symmetric: four-fold pooling of mixed channels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 17, 5, stride=4, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.conv(x)
        return maps


@pytest.mark.parametrize("convention", ["aligned", "hrnet", "posenfs"])
def test_flip_average_equals_the_codecs(convention: str) -> None:
    codec = Codec.model_validate({"input_size_wh": (48, 64), "convention": convention})
    manifest = Manifest(codec=codec, flip=True, decode=False, outputs=("heatmaps",))
    network = _Texture()
    crops = torch.randint(0, 256, (3, 64, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = PoseGraph(network, manifest)(crops).numpy()
        x = normalize(crops)
        plain, mirrored = network(x).numpy(), network(x.flip(-1)).numpy()
    expected = codec.merge_flipped(plain, mirrored, manifest.keypoint_skeleton.flip_order)
    np.testing.assert_allclose(maps, expected, atol=2e-5)


def test_normalisation_equals_the_trainers() -> None:
    manifest = Manifest()
    images = torch.randint(0, 256, (2, 9, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours = Normalise(manifest.mean, manifest.std)(images)
    torch.testing.assert_close(ours, normalize(images).contiguous(), atol=1e-6, rtol=1e-5)


def test_a_detector_of_four_looks_takes_no_side(detector_checkpoint: Checkpoint) -> None:
    images = torch.from_numpy(synthetic_crops(2, (256, 192), seed=4))

    def look(looks: int, pictures: Tensor) -> tuple[Tensor, Tensor]:
        manifest = Manifest.model_validate({"task": "detector", "looks": looks})
        with torch.inference_mode():
            boxes, scores = DetectorGraph(detector_checkpoint.build(), manifest, 4).eval()(pictures)
        assert boxes.shape == (2, 200, 4)
        return boxes[:, :10], scores[:, :10]

    boxes, scores = look(4, images)
    mirrored, same = look(4, images.flip(2))
    torch.testing.assert_close(same, scores, atol=1e-5, rtol=0)
    back = torch.stack([256 - mirrored[..., 2], mirrored[..., 1], 256 - mirrored[..., 0], mirrored[..., 3]], dim=-1)
    torch.testing.assert_close(back, boxes, atol=1e-3, rtol=0)
    assert (look(2, images)[1] - look(2, images.flip(2))[1]).abs().max() > 1e-4  # two looks do
