"""The fabric space (Pose Neural Fabrics Search): alpha and beta of one fabric per body part, no controller.

The published modes in terms of the loop: ``search.gradient = "sync"`` (every published configuration), ``"first"``,
``"second"``, and ``search.strategy = "random"``.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from autopose.config import Config
from autopose.errors import ConfigError
from autopose.fabric_genotype import CHANNELS, Backbone, FabricGenotype, full_parts
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.search.fabric_pruning import pruned_part, sliced_logits
from autopose.search.fabric_supernet import FabricSupernet
from autopose.search.space import Macro, SearchSpace, Supernet


class FabricSpaceConfig(Config):
    """What is searched over; the defaults are the published COCO model's.

    Attributes:
        backbone: network below the fabric, see :class:`autopose.fabric_genotype.Backbone`.
        backbone_width: of HRNet's finest branch or of the stem; 0 = as published.
        backbone_genotype: for backbone ``autopose``: preset or file of the searched network.
        backbone_weights: local file with the backbone's weights (torchvision's or HRNet's naming); None: random.
        op_set: candidate operations (``autopose.fabric_genotype.FABRIC_OP_SETS``).
        skeleton: whose body parts.
        parts: number of body parts (P).
        depth: layers of cells after the pyramid.
        channels: of the cells at 1/4 ... 1/32.
        hidden_states: nodes in a cell.
        shared_alpha: one alpha for all cells of a part.
        vector: dimension D of a keypoint's vector.
        prune_below: edges and operations of smaller softmax weight are removed from the result.
    """

    backbone: Literal["hrnet", "resnet50", "mobilenetv2", "autopose", "stem", "fabric"] = "hrnet"
    backbone_width: int = Field(0, ge=0)
    backbone_genotype: str | None = None
    backbone_weights: str | None = None
    op_set: Literal["hrnet", "mobilenet", "pool", "all"] = "hrnet"
    skeleton: str = "coco17"
    parts: Literal[1, 3, 5, 8] = 5
    depth: int = Field(3, ge=1)
    channels: tuple[int, int, int, int] = CHANNELS
    hidden_states: int = Field(1, ge=1)
    shared_alpha: bool = True
    vector: int = Field(8, ge=1)
    prune_below: float = Field(1e-3, ge=0, lt=0.25)


class FabricSpace(SearchSpace):
    """All fabrics over one backbone.

    Raises:
        ConfigError: backbone ``autopose`` without its genotype, or the other way round.
    """

    name = "fabric"

    def __init__(self, config: FabricSpaceConfig) -> None:
        self.config = config
        searched: AutoPoseGenotype | None = None
        if (config.backbone == "autopose") != (config.backbone_genotype is not None):
            raise ConfigError(
                f"fabric.backbone = {config.backbone!r} with fabric.backbone_genotype = {config.backbone_genotype!r}: "
                "name a genotype for backbone 'autopose', and only for it."
            )
        if config.backbone_genotype is not None:
            loaded = Genotype.load(config.backbone_genotype)
            if not isinstance(loaded, AutoPoseGenotype):
                raise ConfigError(
                    f"fabric.backbone_genotype = {config.backbone_genotype!r} is of kind {loaded.kind!r}; "
                    "expected one of kind 'autopose'."
                )
            searched = loaded
        backbone = Backbone(network=config.backbone, width=config.backbone_width, autopose=searched)
        self.whole = FabricGenotype(
            name="fabric-supernet",
            backbone=backbone,
            op_set=config.op_set,
            skeleton=config.skeleton,
            depth=config.depth,
            channels=config.channels,
            hidden_states=config.hidden_states,
            shared_alpha=config.shared_alpha,
            vector=config.vector,
            parts=full_parts(
                config.skeleton,
                config.parts,
                op_set=config.op_set,
                depth=config.depth,
                hidden_states=config.hidden_states,
            ),
        )

    def supernet(self, joints: int) -> Supernet:
        """Return the unpruned network, its backbone with the configured weights."""
        supernet = FabricSupernet(self.whole, joints)
        if self.config.backbone_weights is not None:
            from autopose.models.pretrained import load_backbone

            load_backbone(supernet.network, self.config.backbone_weights)
        return supernet

    def derive(self, supernet: Supernet, macro: Macro, *, name: str, provenance: Mapping[str, Any]) -> FabricGenotype:
        """Return what the threshold leaves, with the logits of what is kept.

        Logits that were drawn stay as they are in training, too, as published: learned there, they would be the
        synchronous search's from another beginning.
        """
        assert isinstance(supernet, FabricSupernet)
        config = self.config
        parts = tuple(
            pruned_part(
                part.name,
                supernet.arch[f"beta_{part.name}"].detach().cpu(),
                supernet.arch[f"alpha_{part.name}"].detach().cpu(),
                depth=config.depth,
                op_set=config.op_set,
                mixed=supernet.mixed,
                shared=config.shared_alpha,
                threshold=config.prune_below,
            )
            for part in self.whole.parts
        )
        weights = "fixed" if supernet.drawn else self.whole.weights
        changes = {"name": name, "provenance": dict(provenance), "parts": parts, "weights": weights}
        return FabricGenotype.model_validate(dict(self.whole) | changes)

    def derived_weights(
        self, supernet: Supernet, genotype: Genotype, inputs: Iterable[Tensor] = ()
    ) -> dict[str, Tensor] | None:
        """Return the supernet's weights of all that is kept: the result needs no training of its own.

        After a random search None: its weights belong to other draws.
        """
        assert isinstance(supernet, FabricSupernet)
        assert isinstance(genotype, FabricGenotype)
        if supernet.drawn:
            return None
        from autopose.models.fabric import FabricNetwork

        with torch.device("meta"):
            wanted = FabricNetwork(genotype, supernet.network.joints).state_dict()
        state = {key: value.detach() for key, value in supernet.network.state_dict().items() if key in wanted}
        for part in genotype.parts:
            logits = sliced_logits(part, shared=genotype.shared_alpha)
            state |= {f"fabrics.{part.name}.{key}": value for key, value in logits.items()}
        assert state.keys() == wanted.keys()
        return {key: value.cpu().contiguous() for key, value in state.items()}
