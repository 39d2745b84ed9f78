"""Pose networks of the PNFS space: a backbone's pyramid, one fabric per body part, keypoints as vectors."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autopose.errors import GenotypeError
from autopose.fabric_genotype import EDGES, FABRIC_OP_SETS, FabricCell, FabricGenotype, FabricPart, edge_source
from autopose.models.backbone import build_backbone
from autopose.models.fabric_cell import Cell
from autopose.skeleton import SKELETONS

#: (layer, level); layer 0 is the pyramid.
Place = tuple[int, int]
#: Architecture logits by name: a module's own parameters, or a supernet's.
Logits = Mapping[str, Tensor] | nn.ParameterDict


class PartFabric(nn.Module):
    """The fabric of one part: pyramid to the features of its keypoints at 1/4.

    Args:
        genotype: the network's.
        part: the part's kept cells.
        pyramid: channels of the backbone's four maps.
        own_logits: keep alpha and beta here; False: every call gives them (the search's supernet).
    """

    def __init__(
        self, genotype: FabricGenotype, part: FabricPart, pyramid: tuple[int, ...], *, own_logits: bool = True
    ) -> None:
        super().__init__()
        self.depth, self.shared = genotype.depth, genotype.shared_alpha
        channels = genotype.channels
        candidates = len(FABRIC_OP_SETS[genotype.op_set])
        learned = genotype.weights == "learned"
        self.cells = nn.ModuleDict()
        #: Cell -> edge -> where the edge comes from.
        self.sources: dict[str, dict[str, Place]] = {}
        self.beta, self.alpha = nn.ParameterDict(), nn.ParameterDict()
        for cell in sorted(part.cells, key=lambda cell: (cell.layer, cell.level)):
            key = f"{cell.layer}-{cell.level}"
            kept, idle = self._sources_of(cell, part, genotype.idle_connections)
            self.sources[key] = kept | idle
            edges, unweighted = (
                {name: (cell.level - level, channels[level]) for name, (_, level) in ends.items()}
                for ends in (kept, idle)
            )
            width = channels[cell.level]
            self.cells[key] = Cell(edges, cell.ops, width, candidates, genotype.hidden_states, unweighted)
            if own_logits:
                self.beta[key] = _logits(cell.beta, len(cell.edges), learned)
                for number, ops in enumerate(cell.ops):
                    values = None if cell.alpha is None else cell.alpha[number]
                    self.alpha[self.alpha_key(key, number)] = _logits(values, len(ops), learned)
        used = sorted({level for ends in self.sources.values() for layer, level in ends.values() if layer == 0})
        # The published code omits this convolution at all levels where the finest already has the cells' width; here
        # it is always present, so that every part has features of its own.
        self.reduce = nn.ModuleDict({str(level): nn.Conv2d(pyramid[level], channels[level], 1) for level in used})

    def _sources_of(
        self, cell: FabricCell, part: FabricPart, with_idle: bool
    ) -> tuple[dict[str, Place], dict[str, Place]]:
        """Return where a cell's kept edges and its idle connections come from (if that cell is gone: the pyramid)."""
        kept: dict[str, Place] = {}
        idle: dict[str, Place] = {}
        for edge in EDGES:
            source = edge_source(cell.layer, cell.level, edge)
            if edge in cell.edges:
                kept[edge] = source
            elif with_idle:
                idle[edge] = source if part.cell(*source) else (0, source[1])
        return kept, idle

    def alpha_key(self, cell: str, number: int) -> str:
        """Return the name of the logits of one mixed edge."""
        return f"shared-{number}" if self.shared else f"{cell}-{number}"

    def forward(self, pyramid: Sequence[Tensor], beta: Logits | None = None, alpha: Logits | None = None) -> Tensor:
        """Map the backbone's maps, finest first, to ``(N, channels[0], H/4, W/4)``.

        Args:
            pyramid: the maps.
            beta: logits by cell; None: this module's own.
            alpha: logits by mixed edge (``alpha_key``); None: this module's own.
        """
        beta, alpha = self.beta if beta is None else beta, self.alpha if alpha is None else alpha
        maps: dict[Place, Tensor] = {
            (0, int(level)): module(pyramid[int(level)]) for level, module in self.reduce.items()
        }
        for key, cell in self.cells.items():
            layer, level = key.split("-")
            inputs = {name: maps[source] for name, source in self.sources[key].items()}
            rows = [alpha[self.alpha_key(key, number)] for number in range(len(cell.micro))]  # type: ignore[arg-type]
            maps[int(layer), int(level)] = cell(inputs, beta[key], rows)
        return maps[self.depth, 0]


def _logits(values: Sequence[float] | None, count: int, learned: bool) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values or [0.0] * count, dtype=torch.float32), requires_grad=learned)


class KeypointVectors(nn.Module):
    """ReLU and a 1x1 convolution to a vector per keypoint and location; heatmap = ||v||^2 / (1 + ||v||^2).

    With dimension 1 the convolution gives the heatmaps themselves. The convolution starts small: from large vectors the
    loss first drives all of them to zero, where their gradient vanishes too (``docs/fabric.md`` has the measurement).
    """

    def __init__(self, channels: int, joints: int, dimension: int) -> None:
        super().__init__()
        self.joints, self.dimension = joints, dimension
        self.project = nn.Conv2d(channels, joints * dimension, 1)
        nn.init.normal_(self.project.weight, std=1e-2 if dimension > 1 else 1e-3)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, h, w)`` to heatmaps ``(N, joints, h, w)``, in [0, 1) for vectors."""
        y: Tensor = self.project(F.relu(x))
        if self.dimension == 1:
            return y
        n, _, h, w = y.shape
        square = (y * y).view(n, self.joints, self.dimension, h, w).sum(dim=2)
        return square / (1.0 + square)


class FabricNetwork(nn.Module):
    """The network that a fabric genotype describes; unpruned, it is also the supernet of the search.

    Args:
        genotype: validated genotype.
        joints: number of heatmaps: that of the genotype's skeleton.
        own_logits: False: every call gives alpha and beta.

    Raises:
        GenotypeError: another number of joints.
    """

    def __init__(self, genotype: FabricGenotype, joints: int, *, own_logits: bool = True) -> None:
        super().__init__()
        skeleton = SKELETONS[genotype.skeleton]
        if joints != len(skeleton):
            known = ", ".join(name for name, other in SKELETONS.items() if other.parts)
            raise GenotypeError(
                f"Genotype {genotype.name!r} has body parts of {skeleton.name} ({len(skeleton)} joints); the task has "
                f"{joints}. Set its field 'skeleton' to the task's; body parts are known of {known}."
            )
        self.genotype = genotype
        self.joints = joints
        self.backbone = build_backbone(genotype)
        names = [part.name for part in genotype.parts]
        channels = self.backbone.channels
        self.fabrics = nn.ModuleDict(
            {part.name: PartFabric(genotype, part, channels, own_logits=own_logits) for part in genotype.parts}
        )
        members = {name: [skeleton.index(joint) for joint in genotype.joints_of(name)] for name in names}
        self.heads = nn.ModuleDict(
            {name: KeypointVectors(genotype.channels[0], len(members[name]), genotype.vector) for name in names}
        )
        #: Per joint, its places in the concatenated maps of all parts: one, or several that are summed.
        order = [joint for name in names for joint in members[name]]
        self.places = [[place for place, joint in enumerate(order) if joint == wanted] for wanted in range(joints)]

    def forward(self, image: Tensor, logits: Mapping[str, tuple[Logits, Logits]] | None = None) -> Tensor:
        """Map normalised images ``(N, 3, H, W)``, sides divisible by 32, to heatmaps ``(N, joints, H/4, W/4)``.

        Args:
            image: images.
            logits: per part beta and alpha (see ``PartFabric``), if they are not the network's own.
        """
        pyramid = self.backbone(image)
        parts = []
        for name, fabric in self.fabrics.items():
            beta, alpha = (None, None) if logits is None else logits[name]
            parts.append(self.heads[name](fabric(pyramid, beta, alpha)))
        maps = torch.cat(parts, dim=1)
        result: Tensor = maps[:, [places[0] for places in self.places]]
        if maps.shape[1] > self.joints:  # a joint of several parts: the sum, not the mean, as published
            again = [places[1] if len(places) > 1 else -1 for places in self.places]
            extra = [maps[:, place] if place >= 0 else torch.zeros_like(maps[:, 0]) for place in again]
            result = result + torch.stack(extra, dim=1)
        return result
