"""What a search space offers to the search loop, which is ignorant of which space it searches.

A space has two kinds of decisions:

* **cell-level**: tables of logits, learned by gradient descent. They are the entries of :attr:`Supernet.arch`, one
  parameter ``(rows, choices)`` each.
* **network-level** (*macro*): a short sequence of categorical tokens, sampled by a controller that REINFORCE trains. A
  space without them says ``macro_choices = ()``: the loop then builds no controller, and every macro is ``()``.

The loop samples a :class:`Draw`, evaluates ``supernet(images, draw)`` and asks the space to ``derive`` a genotype.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autopose.errors import ConfigError
from autopose.genotype import Genotype

if TYPE_CHECKING:
    from autopose.search.latency import LatencyTable

#: Network-level decisions: one token per controller step.
Macro = tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """One architecture to evaluate.

    Attributes:
        macro: one token per entry of ``SearchSpace.macro_choices``.
        noise: per architecture table the noise that turns its logits into a random choice (same shape as the table);
            None evaluates the discretised architecture (the most likely choice of each row), or, in spaces whose
            result stays continuous, the mixture itself.
    """

    macro: Macro = ()
    noise: Mapping[str, Tensor] | None = None


class Supernet(nn.Module, ABC):
    """A network that holds every architecture of a space at once.

    Subclasses fill :attr:`arch` and :attr:`choices`; everything else that is a parameter counts as a weight. Batch
    normalisation must use the statistics of the batch (see :func:`use_batch_statistics`): running averages over
    different architectures belong to none of them.

    Attributes:
        arch: architecture tables by name, ``(rows, choices)`` logits.
        choices: the names of each table's columns.
        temperature: of the relaxation; the loop sets it before each epoch.
        drawn: the tables are random draws: the weights then fit no particular one of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arch = nn.ParameterDict()
        self.choices: dict[str, tuple[str, ...]] = {}
        self.temperature = 1.0
        self.drawn = False

    @abstractmethod
    def forward(self, images: Tensor, draw: Draw) -> Tensor:
        """Map normalised images ``(N, 3, H, W)`` to heatmaps ``(N, K, H/4, W/4)``.

        The choice is computed from ``self.arch`` inside, so that gradients reach the tables, also under
        ``torch.func.functional_call``.
        """

    def sample_noise(self, generator: torch.Generator) -> Mapping[str, Tensor] | None:
        """Return noise for a random draw: Gumbel(0, 1) for every table; spaces without noise return None.

        The noise is drawn on the CPU and moved, so that a seed means the same on every device and rank.
        """
        return {name: gumbel(table, generator) for name, table in self.arch.items()}

    def arch_parameters(self) -> list[nn.Parameter]:
        """Return the architecture tables."""
        return list(self.arch.values())

    def named_weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield all parameters that are not architecture."""
        return ((name, weight) for name, weight in self.named_parameters() if not name.startswith("arch."))

    def probabilities(self) -> dict[str, Tensor]:
        """Return the softmax of every table, detached, on the CPU."""
        return {name: table.detach().float().softmax(-1).cpu() for name, table in self.arch.items()}

    @torch.no_grad()
    def randomize(self, generator: torch.Generator) -> None:
        """Fill the tables with N(0, 1): the discretised architecture becomes a uniform random one."""
        for table in self.arch.values():
            table.copy_(torch.randn(table.shape, generator=generator, dtype=table.dtype))
        self.drawn = True


class SearchSpace(ABC):
    """A set of architectures that a supernet can hold.

    Attributes:
        name: as in ``autopose search --space``.
        macro_choices: the number of choices of each network-level token; empty if nothing is left to a controller.
    """

    name: str
    macro_choices: tuple[int, ...] = ()

    @abstractmethod
    def supernet(self, joints: int) -> Supernet:
        """Return a freshly initialised supernet (torch's default generator is seeded by the caller)."""

    @abstractmethod
    def derive(self, supernet: Supernet, macro: Macro, *, name: str, provenance: Mapping[str, Any]) -> Genotype:
        """Return the genotype of the discretised architecture, ready for ``autopose train``."""

    def derived_weights(
        self, supernet: Supernet, genotype: Genotype, inputs: Iterable[Tensor]
    ) -> dict[str, Tensor] | None:
        """Return weights for ``build_network(genotype)`` taken from the supernet, or None if it is trained anew.

        Args:
            supernet: after the search.
            genotype: what was derived.
            inputs: batches of normalised training images ``(N, 3, H, W)``, for averages of the batch normalisations.
        """
        return None

    def describe_macro(self, macro: Macro) -> str:
        """Return the network-level decisions as text, for logs."""
        return " ".join(str(token) for token in macro)

    def random_macro(self, generator: torch.Generator) -> Macro:
        """Return uniform random network-level decisions."""
        return tuple(int(torch.randint(count, (1,), generator=generator)) for count in self.macro_choices)

    def latency_units(self, genotype: Genotype, input_size_wh: tuple[int, int]) -> Sequence[str] | None:
        """Return the keys of the latency table that make up a network, with repetition; None: not supported."""
        return None

    def possible_units(self, input_size_wh: tuple[int, int]) -> Sequence[str]:
        """Return every key of the latency table that a derived network may need."""
        return ()

    def expected_latency_ms(
        self, tables: Mapping[str, Tensor], macro: Macro, table: "LatencyTable", input_size_wh: tuple[int, int]
    ) -> Tensor | None:
        """Return the latency expected under the softmax of the tables, differentiable; None: not supported."""
        return None


def gumbel(table: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard Gumbel noise of a table's shape, type and device, drawn on the CPU in float64."""
    uniform = torch.rand(table.shape, generator=generator, dtype=torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-12))).to(table)


def use_batch_statistics(module: nn.Module) -> None:
    """Make every batch normalisation use the statistics of its batch, in training and evaluation alike."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None


def _autopose(settings: Mapping[str, Any]) -> SearchSpace:
    from autopose.search.autopose_space import AutoPoseSpace, AutoPoseSpaceConfig

    config = AutoPoseSpaceConfig.model_validate(settings)
    if config.weights is None:
        return AutoPoseSpace(config)
    from autopose.search.trained_space import TrainedSpace

    return TrainedSpace(config)


def _fabric(settings: Mapping[str, Any]) -> SearchSpace:
    from autopose.search.fabric_space import FabricSpace, FabricSpaceConfig

    return FabricSpace(FabricSpaceConfig.model_validate(settings))


#: Space name -> builder(settings of its section of the configuration), which imports what is built on this module.
_SPACES: Mapping[str, Callable[[Mapping[str, Any]], SearchSpace]] = {"autopose": _autopose, "fabric": _fabric}


def open_space(name: str, settings: Mapping[str, Any]) -> SearchSpace:
    """Return the space of a name.

    Args:
        name: ``autopose`` or ``fabric``.
        settings: the section of the search configuration with the same name; the space validates it.

    Raises:
        ConfigError: no such space, or wrong settings.
    """
    if name not in _SPACES:
        raise ConfigError(f"No search space {name!r}; expected one of {', '.join(_SPACES)}.")
    try:
        return _SPACES[name](settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"[{name}] {key}: {first['msg']} (found {str(first['input'])[:80]!r}).") from None
