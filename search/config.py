"""The configuration of a search, read from TOML."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from autopose.config import Config
from autopose.data.augment import Augment
from autopose.data.skeletons import open_skeleton
from autopose.genotype import AutoPoseGenotype
from autopose.heatmap import Codec
from autopose.search.autopose_space import AutoPoseSpaceConfig
from autopose.search.controller import ControllerConfig
from autopose.skeleton import COCO17, SKELETONS
from autopose.training.config import Amp, Betas, DataConfig, with_tolerances


class LoopConfig(Config):
    """The bi-level loop (Algorithm 1).

    Attributes:
        strategy: ``bilevel``, or ``random``: the baseline of equal budget.
        gradient: ``first`` or ``second`` order, or ``sync``: both levels in one step, on all training images.
        arch_first: update the architecture before the weights (DARTS) instead of after (Algorithm 1).
        epochs: of the search (N_epoch).
        iterations: steps per epoch (N_iter); 0 = the shared weights stay as they begin (a trained network's).
        batch: persons per step and process, for either level.
        arch_share: share of the training images (by a fixed hash of the name) that the architecture learns from; with
            ``sync`` both levels learn from all of them. The reward is computed on the tune split
            (``data.tune_share``), which neither level trains on.
        arch_start_epoch: epochs of weights only at the beginning.
        optimizer: of the weights, ``adam`` or ``sgd`` (momentum 0.9).
        lr: of the weights; cosine to ``lr_end``.
        lr_end: learning rate of the weights at the end.
        weight_decay: of the weights.
        clip: largest norm of the weights' gradient; 0 = none.
        arch_lr: of Adam on the architecture; with ``sync`` it falls as ``lr`` does.
        arch_betas: of Adam on the architecture.
        arch_weight_decay: of Adam on the architecture. The 1e-3 of classification searches would outweigh the gradient
            of the heatmap loss (measured: docs/search.md) and hold the cells at uniform.
        temperature: of the Gumbel-softmax in the first epoch.
        temperature_end: in the last epoch, linearly.
        candidates: N of the derivation. The random baseline ranks as many, plus those that the controller would have
            scored (``updates`` x ``batch`` of each epoch from ``start_epoch`` on; none with ``separate`` or where a
            space has none).
        random_sharing: the random baseline ranks with weights ``shared`` by one supernet trained on uniform samples, or
            trains each candidate ``separate``-ly for its part of the budget.
        reward: what the controller maximises and candidates are ranked by: ``AP`` (the paper), or the mean ``OKS``,
            which already tells architectures apart while every AP is still 0: for short searches.
        reward_persons: of the tune split, whole images until they show so many; 0 = all.
        reward_batch: persons per forward pass; batch statistics are taken over it.
        reward_steps: before a candidate is scored, so many steps of the weights for it alone, on the same batches for
            every candidate, with ``lr`` falling to ``lr_end``; the shared weights are put back afterwards.
        max_parameters: a derived network with more parameters has its reward divided by how many times more; 0 = any
            number. For networks that must fit somewhere, as into a package.
        alarm_share: alarm if more than this share of edges has become parameter-free.
        amp: ``bf16`` autocast, ``auto``: on devices that have instructions for it, or ``none``.
        save_minutes: longest time between checkpoints.
        seed: of everything.
        seeds: how many runs, with seeds ``seed``, ``seed + 1``, ...; more than one are summarised.
    """

    strategy: Literal["bilevel", "random"] = "bilevel"
    gradient: Literal["first", "second", "sync"] = "first"
    arch_first: bool = False
    epochs: int = Field(50, ge=1)
    iterations: int = Field(1100, ge=0)
    batch: int = Field(32, ge=1)
    arch_share: float = Field(0.5, ge=0, lt=1)
    arch_start_epoch: int = Field(0, ge=0)
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0)
    lr_end: float = Field(1e-4, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(0.0, ge=0)
    arch_lr: float = Field(3e-3, gt=0)
    arch_betas: Betas = (0.5, 0.999)
    arch_weight_decay: float = Field(0.0, ge=0)
    temperature: float = Field(1.0, gt=0)
    temperature_end: float = Field(1.0, gt=0)
    candidates: int = Field(10, ge=1)
    random_sharing: Literal["shared", "separate"] = "shared"
    reward: Literal["AP", "OKS"] = "AP"
    reward_persons: int = Field(0, ge=0)
    reward_batch: int = Field(32, ge=2)
    reward_steps: int = Field(0, ge=0)
    max_parameters: int = Field(0, ge=0)
    alarm_share: float = Field(0.75, gt=0, le=1)
    amp: Amp = "none"
    save_minutes: float = Field(5.0, ge=0)
    seed: int = Field(0, ge=0)
    seeds: int = Field(1, ge=1)

    @property
    def own_share(self) -> float:
        """Return the share of the training images that the architecture alone learns from."""
        return 0.0 if self.gradient == "sync" else self.arch_share


class LatencyConfig(Config):
    """Latency in the reward: AP x (latency / target) ^ exponent (MnasNet, Tan et al. 2019).

    Attributes:
        table: JSON that ``autopose bench --ops`` wrote on the target device; None leaves latency out.
        target_ms: of the derived network, one crop, no flip.
        exponent: of latency / target; negative: slower is worse.
        only_above: do not reward networks for being faster than the target.
        cell_weight: how much the cells' loss counts the expected latency above the target; 0 leaves latency to the
            controller.
    """

    table: str | None = None
    target_ms: float = Field(50.0, gt=0)
    exponent: float = Field(-0.5, le=0)
    only_above: bool = False
    cell_weight: float = Field(0.0, ge=0)


class SearchConfig(Config):
    """A whole search.

    Attributes:
        space: which space; its section below has its settings.
        autopose: the AutoPose space.
        fabric: the fabric space (settings of ``autopose.search.fabric_space``).
        skeleton: joints to learn: ``coco17``, ``mpii16``, ..., or a JSON file that names others (docs/data.md)
        codec: input size, heatmaps.
        data: what to search on (as in training).
        augment: how person crops are varied.
        search: the loop.
        controller: the policy over network-level decisions.
        latency: the target device, if it counts.
    """

    space: Literal["autopose", "fabric"] = "autopose"
    autopose: AutoPoseSpaceConfig = AutoPoseSpaceConfig()
    fabric: dict[str, Any] = Field(default_factory=dict)
    skeleton: str = "coco17"
    codec: Codec = Codec()
    data: DataConfig = DataConfig()
    augment: Augment = Augment()
    search: LoopConfig = LoopConfig()
    controller: ControllerConfig = ControllerConfig()
    latency: LatencyConfig = LatencyConfig()

    @model_validator(mode="after")
    def _tolerances_of_the_skeleton(self) -> Self:
        self.__dict__["codec"] = with_tolerances(self.codec, self.skeleton)  # the model is frozen
        return self

    @model_validator(mode="after")
    def _reads_photographs(self) -> Self:
        if self.data.crops is not None:
            raise ValueError("data.crops is for training; a search reads photographs (data.sources, data.pack)")
        return self

    @model_validator(mode="after")
    def _both_levels_have_data(self) -> "SearchConfig":
        loop = self.search
        if self.branches_only:
            if loop.arch_share > 0:
                raise ValueError(
                    "search.arch_share: autopose.weights leaves no cells to learn from that part of the images; "
                    "set it to 0"
                )
            return self
        if loop.strategy == "bilevel" and loop.gradient != "sync" and loop.arch_share == 0:
            raise ValueError(
                "search.arch_share = 0 leaves the architecture nothing to learn from; only 'sync' needs none"
            )
        return self

    @model_validator(mode="after")
    def _sync_has_no_order(self) -> "SearchConfig":
        if self.search.gradient == "sync" and self.search.arch_first:
            raise ValueError("search.arch_first: with search.gradient = 'sync' both are updated in the same step")
        return self

    @model_validator(mode="after")
    def _every_candidate_has_an_iteration(self) -> "SearchConfig":
        loop = self.search
        iterations = loop.epochs * loop.iterations
        if loop.strategy == "random" and loop.random_sharing == "separate" and iterations < loop.candidates:
            raise ValueError(
                f"search.random_sharing = 'separate' shares {iterations} iterations among {loop.candidates} "
                "candidates; give each at least one (search.iterations, search.candidates)"
            )
        return self

    @model_validator(mode="after")
    def _latency_can_be_predicted(self) -> "SearchConfig":
        if self.space == "fabric" and self.latency.table is not None:
            raise ValueError("latency.table: the fabric space cannot predict latency; leave it out")
        return self

    @model_validator(mode="after")
    def _fabric_has_the_joints(self) -> "SearchConfig":
        name = self.fabric.get("skeleton", COCO17.name)
        known = SKELETONS.get(str(name))  # what is none is refused by the space, with the names that there are
        if self.space == "fabric" and known is not None and known != open_skeleton(self.skeleton):
            raise ValueError(
                f"fabric.skeleton = {name!r}: the search learns the joints of skeleton = {self.skeleton!r}; body parts "
                "have to be of the same. Set both alike"
            )
        return self

    @model_validator(mode="after")
    def _branches_fit_the_crop(self) -> "SearchConfig":
        width, height = self.codec.input_size_wh
        coarsest = AutoPoseGenotype.strides[-1]
        if width % coarsest or height % coarsest:  # a fabric's pyramid ends at the same stride
            raise ValueError(
                f"codec.input_size_wh = [{width}, {height}]: both sides must be multiples of {coarsest}, the stride of "
                "the coarsest branch"
            )
        if width == height == coarsest:  # a batch of one, such as the last of the reward's, would be a single value
            raise ValueError(
                f"codec.input_size_wh = [{width}, {height}]: one cell of the coarsest branch, which batch "
                f"normalisation cannot learn from; make a side {2 * coarsest} or more"
            )
        return self

    @property
    def branches_only(self) -> bool:
        """Return whether the cells are a trained network's, and only branches are searched."""
        return self.space == "autopose" and self.autopose.weights is not None

    def space_settings(self) -> dict[str, Any]:
        """Return the section of the chosen space."""
        return self.autopose.model_dump() if self.space == "autopose" else dict(self.fabric)
