"""Find the weights that ``--init`` and ``eval`` name: a bundled model, a run folder or a checkpoint file."""

from pathlib import Path

from autopose.checkpoint import Checkpoint, load_checkpoint
from autopose.errors import ModelError
from autopose.genotype import AutoPoseGenotype, Genotype
from autopose.zoo import bundled_weights


def initial_weights(source: str, genotype: Genotype | None = None, joints: int = 17) -> Checkpoint:
    """Read weights to start from.

    Args:
        source: a bundled model, a run folder, a checkpoint, or a PyTorch file (``.pth``, ``.pt``, ``.tar``) with the
            published weights of the genotype's backbone (see :mod:`autopose.models.pretrained`).
        genotype: of the network to be trained. Needed for a PyTorch file; weights of a smaller network of the same
            cells are grown into it (see :mod:`autopose.training.growth`).
        joints: heatmaps of that network.

    Raises:
        ModelError: there are none of that name; an exported graph carries none that can be trained on.
    """
    if genotype is not None and Path(source).suffix in (".pth", ".pt", ".tar"):
        return _with_backbone(Path(source), genotype, joints)
    bundled = bundled_weights()
    if source not in bundled and Path(source).suffix in (".onnx", ".engine"):
        raise ModelError(
            f"{source}: an exported graph cannot be trained on. Give its run folder or checkpoint, or a bundled model "
            f"({', '.join(bundled) or 'none in this installation'})."
        )
    return _grown(load_checkpoint(bundled.get(source, Path(source))), genotype)


def _grown(checkpoint: Checkpoint, genotype: Genotype | None) -> Checkpoint:
    """Return the weights, grown where the network to be trained is a larger one of the same cells."""
    from autopose.training.growth import grow, grows_into

    if not (isinstance(genotype, AutoPoseGenotype) and grows_into(checkpoint.genotype, genotype)):
        return checkpoint
    return grow(checkpoint, genotype)


def _with_backbone(path: Path, genotype: Genotype, joints: int) -> Checkpoint:
    """Return a fresh network of the genotype, its backbone from the file."""
    import torch

    from autopose.models.network import build_network
    from autopose.models.pretrained import load_backbone

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the rest is the same in every run
        network = build_network(genotype, joints)
    load_backbone(network, path)
    return Checkpoint(genotype, network.state_dict(), name=path.name)
