"""Branches searched with the cells and the weights of a trained network: the network level of AutoPose alone.

A search from fresh weights ranks networks by what hours of shared training leave of them, which is little on two CPU
cores. Here the supernet is a trained network with all its branches; every choice of branches inherits what the network
has learned (as sub-networks do in Once-for-All, Cai et al., ICLR 2020), and the search's steps only teach the shared
weights to bear that branches are missing. The result comes with weights to train on from.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from autopose.errors import ConfigError
from autopose.genotype import BRANCHES, STAGES, AutoPoseGenotype, Genotype
from autopose.models.batch_norm import settle_averages
from autopose.models.multiscale import MultiScaleModule
from autopose.models.network import AutoPoseNetwork, build_network
from autopose.search.autopose_space import AutoPoseSpace, AutoPoseSpaceConfig
from autopose.search.space import Draw, Macro, Supernet, use_batch_statistics
from autopose.training.growth import grow, grows_into
from autopose.training.weights import initial_weights


class TrainedSupernet(Supernet):
    """A network with every branch active, run with some of them; it has no tables.

    Args:
        network: with trained weights.
        space: turns the controller's tokens into one scale vector per stage.
    """

    def __init__(self, network: AutoPoseNetwork, space: "TrainedSpace") -> None:
        super().__init__()
        self.network, self.stage_bits = network, space.stage_bits
        use_batch_statistics(self)

    def forward(self, images: Tensor, draw: Draw) -> Tensor:
        """Map normalised images ``(N, 3, H, W)`` to heatmaps ``(N, K, H/4, W/4)``."""
        streams = self.network.stem(images)
        modules = iter(self.network.stages)
        for bits in self.stage_bits(draw.macro):
            active = [branch for branch in range(BRANCHES) if bits[branch]]
            for _ in range(self.network.genotype.modules_per_stage):
                module = next(modules)
                assert isinstance(module, MultiScaleModule)
                if active:
                    streams = module(streams, active)
        maps: Tensor = self.network.head(streams)
        return maps


class TrainedSpace(AutoPoseSpace):
    """All choices of branches of one trained network.

    Args:
        config: its ``weights`` name the network; ``branches`` and ``token`` count besides.

    Raises:
        ModelError: there are no such weights.
        ConfigError: they are not of a pose network of this space with aggregation cells.
    """

    def __init__(self, config: AutoPoseSpaceConfig) -> None:
        super().__init__(config)
        assert config.weights is not None
        checkpoint = initial_weights(config.weights)
        genotype = checkpoint.genotype
        if not isinstance(genotype, AutoPoseGenotype) or genotype.is_detector or genotype.fusion != "cells":
            raise ConfigError(
                f"autopose.weights = {config.weights!r}: its network is {genotype.name!r} of kind {genotype.kind!r}; "
                "expected a pose network of the AutoPose space with aggregation cells."
            )
        whole = genotype.model_copy(update={"scales": ((1,) * BRANCHES,) * STAGES, "name": "supernet"})
        self.checkpoint = grow(checkpoint, whole) if grows_into(genotype, whole) else checkpoint
        self.whole = whole

    def template(self, multiplier: int, **fields: Any) -> AutoPoseGenotype:
        """Return the trained network's genotype with every branch active; its widths are not multiplied."""
        return AutoPoseGenotype.model_validate(dict(self.whole) | fields)

    def supernet(self, joints: int) -> Supernet:
        """Return the network with its trained weights."""
        if joints != len(self.checkpoint.skeleton):
            raise ConfigError(
                f"autopose.weights = {self.config.weights!r} has {len(self.checkpoint.skeleton)} joints, the search's "
                f"skeleton {joints}. Set skeleton to the network's: {self.checkpoint.skeleton.name!r}."
            )
        network = self.checkpoint.build()
        assert isinstance(network, AutoPoseNetwork)
        return TrainedSupernet(network, self)

    def derive(self, supernet: Supernet, macro: Macro, *, name: str, provenance: Mapping[str, Any]) -> AutoPoseGenotype:
        """Return the network with the branches of ``macro``."""
        return self.template(1, scales=self.stage_bits(macro), name=name, provenance=dict(provenance))

    def derived_weights(
        self, supernet: Supernet, genotype: Genotype, inputs: Iterable[Tensor]
    ) -> dict[str, Tensor] | None:
        """Return the supernet's weights of the branches that are left, with averages taken over ``inputs``."""
        assert isinstance(supernet, TrainedSupernet)
        assert isinstance(genotype, AutoPoseGenotype)
        network = build_network(genotype, len(self.checkpoint.skeleton))
        shared = dict(renamed(supernet.network.state_dict(), genotype))
        wanted = network.state_dict()
        network.load_state_dict({key: shared[key].cpu() if key in shared else wanted[key] for key in wanted})
        settle_averages(network, (batch.cpu() for batch in inputs))
        return {key: value.contiguous() for key, value in network.state_dict().items()}


def renamed(state: Mapping[str, Tensor], genotype: AutoPoseGenotype) -> Iterable[tuple[str, Tensor]]:
    """Yield a whole network's weights under the names that they have in one without the stages that are off."""
    per_stage = genotype.modules_per_stage
    kept: Sequence[int] = [
        stage * per_stage + k for stage in range(STAGES) if any(genotype.scales[stage]) for k in range(per_stage)
    ]
    places = {str(old): str(new) for new, old in enumerate(kept)}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part != "stages":
            yield key, value
            continue
        index, _, rest = rest.partition(".")
        if index in places:
            yield f"stages.{places[index]}.{rest}", value
