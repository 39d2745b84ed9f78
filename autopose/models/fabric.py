"""Pose networks of the PNFS space: a backbone's pyramid, one fabric per body part, keypoints as vectors."""

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


def _key(layer: int, level: int) -> str:
    return f"{layer}-{level}"


class PartFabric(nn.Module):
    """The fabric of one part: pyramid to the features of its keypoints at 1/4.

    Args:
        genotype: the network's.
        part: the part's kept cells.
        pyramid: channels of the backbone's four maps.
    """

    def __init__(self, genotype: FabricGenotype, part: FabricPart, pyramid: tuple[int, ...]) -> None:
        super().__init__()
        self.depth, self.shared = genotype.depth, genotype.shared_alpha
        channels = genotype.channels
        candidates = len(FABRIC_OP_SETS[genotype.op_set])
        self.learned = genotype.weights == "learned"
        self.cells = nn.ModuleDict()
        #: Cell -> places its inputs come from.
        self.sources: dict[str, list[tuple[int, int]]] = {}
        beta: dict[str, Tensor] = {}
        alpha: dict[str, Tensor] = {}
        for cell in sorted(part.cells, key=lambda cell: (cell.layer, cell.level)):
            key = _key(cell.layer, cell.level)
            kept, idle = self._sources_of(cell, part, genotype.idle_connections)
            edges, unweighted = ([(cell.level - level, channels[level]) for _, level in ends] for ends in (kept, idle))
            self.sources[key] = kept + idle
            self.cells[key] = Cell(
                edges, cell.ops, channels[cell.level], candidates, genotype.hidden_states, unweighted
            )
            beta[key] = torch.tensor(cell.beta or [0.0] * len(cell.edges))
            for number, ops in enumerate(cell.ops):
                logits = cell.alpha[number] if cell.alpha is not None else [0.0] * len(ops)
                alpha.setdefault(self._alpha_key(key, number), torch.tensor(logits))
        used = sorted({level for sources in self.sources.values() for layer, level in sources if layer == 0})
        # The published code skips this convolution at all levels where it is the identity in width at the finest; here
        # it is always present, so that every part has features of its own.
        self.reduce = nn.ModuleDict({str(level): nn.Conv2d(pyramid[level], channels[level], 1) for level in used})
        self.beta = self._logits(beta)
        self.alpha = self._logits(alpha)

    def _sources_of(self, cell: FabricCell, part: FabricPart, with_idle: bool) -> tuple[list[Place], list[Place]]:
        """Return where a cell's kept edges and its idle connections come from (if that cell is gone: the pyramid)."""
        kept: list[Place] = []
        idle: list[Place] = []
        for edge in EDGES:
            source = edge_source(cell.layer, cell.level, edge, self.depth)
            if edge in cell.edges:
                kept.append(source)
            elif with_idle:
                idle.append(source if part.cell(*source) else (0, source[1]))
        return kept, idle

    def _alpha_key(self, cell: str, number: int) -> str:
        return f"shared-{number}" if self.shared else f"{cell}-{number}"

    def _logits(self, values: dict[str, Tensor]) -> nn.ParameterDict:
        return nn.ParameterDict({key: nn.Parameter(value, requires_grad=self.learned) for key, value in values.items()})

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        """Map the backbone's maps, finest first, to ``(N, channels[0], H/4, W/4)``."""
        maps: dict[Place, Tensor] = {
            (0, int(level)): module(pyramid[int(level)]) for level, module in self.reduce.items()
        }
        for key, cell in self.cells.items():
            layer, level = (int(part) for part in key.split("-"))
            assert isinstance(cell, Cell)
            alpha = [self.alpha[self._alpha_key(key, number)] for number in range(len(cell.micro))]
            maps[layer, level] = cell([maps[source] for source in self.sources[key]], self.beta[key], alpha)
        result: Tensor = maps[self.depth, 0]
        return result


class KeypointVectors(nn.Module):
    """ReLU and a 1x1 convolution to a vector per keypoint and location; heatmap = ||v||^2 / (1 + ||v||^2).

    With dimension 1 the convolution gives the heatmaps themselves.
    """

    def __init__(self, channels: int, joints: int, dimension: int) -> None:
        super().__init__()
        self.joints, self.dimension = joints, dimension
        self.project = nn.Conv2d(channels, joints * dimension, 1)

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

    Raises:
        GenotypeError: another number of joints.
    """

    def __init__(self, genotype: FabricGenotype, joints: int) -> None:
        super().__init__()
        skeleton = SKELETONS[genotype.skeleton]
        if joints != len(skeleton):
            raise GenotypeError(
                f"Genotype {genotype.name!r} has body parts of {skeleton.name} ({len(skeleton)} joints); the task has "
                f"{joints}. Set its field 'skeleton' to the task's ({', '.join(SKELETONS)})."
            )
        self.genotype = genotype
        self.joints = joints
        self.backbone = build_backbone(genotype)
        names = [part.name for part in genotype.parts]
        self.fabrics = nn.ModuleDict(
            {part.name: PartFabric(genotype, part, self.backbone.channels) for part in genotype.parts}
        )
        members = {name: [skeleton.index(joint) for joint in genotype.joints_of(name)] for name in names}
        self.heads = nn.ModuleDict(
            {name: KeypointVectors(genotype.channels[0], len(members[name]), genotype.vector) for name in names}
        )
        #: Per joint, its places in the concatenated maps of all parts: one, or several that are summed.
        order = [joint for name in names for joint in members[name]]
        self.places = [[place for place, joint in enumerate(order) if joint == wanted] for wanted in range(joints)]

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images ``(N, 3, H, W)``, sides divisible by 32, to heatmaps ``(N, joints, H/4, W/4)``."""
        pyramid = self.backbone(image)
        maps = torch.cat([self.heads[name](fabric(pyramid)) for name, fabric in self.fabrics.items()], dim=1)
        result: Tensor = maps[:, [places[0] for places in self.places]]
        if maps.shape[1] > self.joints:  # a joint of several parts: the sum, not the mean, as published
            again = [places[1] if len(places) > 1 else -1 for places in self.places]
            extra = [maps[:, place] if place >= 0 else torch.zeros_like(maps[:, 0]) for place in again]
            result = result + torch.stack(extra, dim=1)
        return result

    def arch_parameters(self) -> list[nn.Parameter]:
        """Return alpha and beta of all parts (and of a backbone of fabric cells)."""
        return [value for name, value in self.named_parameters() if is_architecture(name)]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return everything else that is trained."""
        return [value for name, value in self.named_parameters() if not is_architecture(name)]


def is_architecture(name: str) -> bool:
    """Return whether a parameter's name is that of an alpha or a beta."""
    return ".alpha." in name or ".beta." in name
