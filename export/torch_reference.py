"""The torch network as the reference of the parity gate; apart, so that engines can be built where torch is absent."""

import numpy as np
import torch
from numpy.typing import NDArray

from autopose.export.deployed import DetectorGraph, PoseGraph
from autopose.export.parity import in_batches
from autopose.manifest import Manifest
from autopose.runtime.session import normalised


class TorchReference:
    """A deployed torch module as the reference."""

    def __init__(self, module: PoseGraph | DetectorGraph, manifest: Manifest) -> None:
        self.module, self.manifest = module, manifest

    def maps(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
        """Return what the network gives, see :class:`Reference`."""

        def run(batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
            plain = self.manifest.io == "plain"
            tensor = torch.from_numpy(normalised(batch, self.manifest) if plain else np.ascontiguousarray(batch))
            with torch.inference_mode():
                if isinstance(self.module, PoseGraph):
                    return (self.module.heatmaps(tensor).numpy(),)
                return tuple(output.numpy() for output in self.module(tensor))

        return in_batches(run, images)
