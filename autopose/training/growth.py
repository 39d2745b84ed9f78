"""Grow a trained network: more channels, more active branches, more modules, the same function at first.

Training hours are dear, and a network that has stopped improving is often only too small. Growing it keeps what it has
learned: widening follows Net2Net (Chen et al., ICLR 2016), with new channels that are random and not read yet instead
of copies; new cells are network morphisms (Wei et al., ICML 2016) that begin as the identity.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import nn

from autopose.checkpoint import Checkpoint
from autopose.errors import ModelError
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.models.cell import Cell, Projection
from autopose.models.heads import ConcatHead
from autopose.models.multiscale import Downsample, MultiScaleModule, Upsample
from autopose.models.network import AutoPoseNetwork, build_network

#: What must be equal: with other operations or another wiring there is no growth, only another network.
SAME = ("op_set", "individual", "aggregation", "fusion", "head", "head_stride", "stem_expansion")


def grows_into(small: Genotype, large: Genotype) -> bool:
    """Return whether ``large`` is another network than ``small`` and holds it: see :func:`grow`."""
    if not (isinstance(small, AutoPoseGenotype) and isinstance(large, AutoPoseGenotype)):
        return False
    if small.fingerprint() == large.fingerprint() or any(getattr(small, f) != getattr(large, f) for f in SAME):
        return False
    widths = zip(
        (*small.channels, small.stem_channels, small.head_channels, small.modules_per_stage),
        (*large.channels, large.stem_channels, large.head_channels, large.modules_per_stage),
        strict=True,
    )
    bits = zip(sum(small.scales, ()), sum(large.scales, ()), strict=True)
    return large.fusion == "cells" and all(a <= b for a, b in widths) and all(a <= b for a, b in bits)


def grow(checkpoint: Checkpoint, genotype: AutoPoseGenotype, *, seed: int = 0) -> Checkpoint:
    """Return the weights of a larger network that computes what the checkpoint's network computes.

    Widths, modules per stage and active branches may grow; the operations stay (:func:`grows_into`). The outputs are
    equal in evaluation mode up to rounding; in training mode up to the difference between a batch's statistics and the
    running averages.

    Args:
        checkpoint: weights of the smaller network.
        genotype: of the larger one.
        seed: of the new weights.

    Raises:
        ModelError: the genotype does not hold the checkpoint's network, or its cells cannot be the identity (every
            node reads its input through a convolution or pooling).
    """
    small = checkpoint.genotype
    if not (isinstance(small, AutoPoseGenotype) and grows_into(small, genotype)):
        raise ModelError(f"{genotype.name!r} does not hold the network {small.name!r}.")
    joints = 17 if small.is_detector else checkpoint.state["head.predict.weight"].shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        source, target = build_network(small, joints), build_network(genotype, joints)
    source.load_state_dict(checkpoint.state)
    assert isinstance(source, AutoPoseNetwork)
    assert isinstance(target, AutoPoseNetwork)
    with torch.no_grad():
        _embed(source.stem, target.stem, small, genotype)
        _embed(source.head, target.head, small, genotype)
        _stages(source, target, small, genotype)
    return replace(checkpoint, genotype=genotype, state=target.state_dict(), metrics={}, sha256="")


def _stages(source: AutoPoseNetwork, target: AutoPoseNetwork, small: AutoPoseGenotype, large: AutoPoseGenotype) -> None:
    """Copy the modules that the smaller network has and make the others the identity."""
    trained = iter(source.stages)
    fresh = iter(target.stages)
    #: The normalisation that each branch's stream came out of: it tells the stream's mean and variance.
    produced = [branch[1] for branch in target.stem.branches]  # type: ignore[index]
    for stage in range(len(large.scales)):
        for repeat in range(large.modules_per_stage if any(large.scales[stage]) else 0):
            new = next(fresh)
            old = next(trained) if any(small.scales[stage]) and repeat < small.modules_per_stage else None
            assert isinstance(new, MultiScaleModule)
            for b in new.active:
                key = str(b)
                if isinstance(old, MultiScaleModule) and b in old.active:
                    for part in ("individual", "resize", "aggregation"):
                        _embed(getattr(old, part)[key], getattr(new, part)[key], small, large)
                else:
                    _become_identity(new, b, produced[b])
            for b in new.active:
                produced[b] = new.aggregation[str(b)].project.norm


def _become_identity(module: MultiScaleModule, branch: int, stream: nn.Module) -> None:
    """Let a branch's cells return its own stream, which came out of the normalisation ``stream``."""
    assert isinstance(stream, nn.BatchNorm2d)
    key = str(branch)
    cells = [*module.individual[key], module.aggregation[key]]  # type: ignore[misc]
    for cell, own in zip(cells, (0, 0, branch), strict=True):
        assert isinstance(cell, Cell)
        project = cell.project
        width = project.weight.shape[0]
        share = torch.tensor(_identity_shares(cell, own), dtype=project.weight.dtype)
        eye = torch.eye(width)
        project.weight.copy_(torch.einsum("oc,n->onc", eye, share).reshape(project.weight.shape))
        norm = project.norm
        norm.running_mean.copy_(stream.bias)  # type: ignore[union-attr]
        norm.running_var.copy_(stream.weight.square())  # type: ignore[union-attr]
        norm.bias.copy_(stream.bias)
        norm.weight.copy_((stream.weight.square() + norm.eps).sqrt())
    for resize in cast(Iterable[nn.Module], module.resize[key]):
        if isinstance(resize, (Upsample, Downsample)):
            last = resize.match if isinstance(resize, Upsample) else resize[-1]
            nn.init.zeros_(last.get_parameter("1.weight"))  # the gradient brings it to life
            nn.init.zeros_(last.get_parameter("1.bias"))


def _identity_shares(cell: Cell, own: int) -> list[float]:
    """Return one factor per node so that the nodes so weighted sum to input ``own`` and no operation's result."""
    terms = [own, *range(cell.inputs, cell.inputs + len(cell.ops))]
    matrix = np.array([[row.get(term, 0) for row in cell.rows] for term in terms], np.float64)
    wanted = np.eye(len(terms))[0]
    shares = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    if not np.allclose(matrix @ shares, wanted, atol=1e-6):
        raise ModelError("These cells cannot be the identity: no sum of nodes gives back the input alone.")
    return [float(share) for share in shares]


def _embed(source: nn.Module, target: nn.Module, small: AutoPoseGenotype, large: AutoPoseGenotype) -> None:
    """Copy a trained part into the same part of a wider network; new channels are not read by the old ones."""
    modules = dict(source.named_modules())
    for name, new in target.named_modules():
        old = modules[name]
        for key, value in new.named_parameters(recurse=False):
            trained = old.get_parameter(key)
            if value.ndim < 2:
                value[: len(trained)] = trained
                continue
            pieces, wider = [trained.shape[1]], [value.shape[1]]  # widths of what the convolution reads
            if isinstance(new, Projection):
                pieces, wider = ([width // new.nodes] * new.nodes for width in (pieces[0], wider[0]))
            elif isinstance(target, ConcatHead):
                pieces, wider = list(small.channels), list(large.channels)
            outputs = len(trained)
            read = list(value[:outputs].split(wider, 1))
            for there, here, width in zip(read, trained.split(pieces, 1), pieces, strict=True):
                there[:, :width] = here
                there[:, width:] = 0
        for key, buffer in new.named_buffers(recurse=False):
            if key in ("running_mean", "running_var"):
                trained = old.get_buffer(key)
                buffer[: len(trained)] = trained
