"""Find the weights that ``--init`` and ``eval`` name: a bundled model, a run folder or a checkpoint file."""

from importlib import resources
from pathlib import Path

from autopose.checkpoint import Checkpoint, load_checkpoint
from autopose.errors import ModelError


def bundled_weights() -> dict[str, Path]:
    """Return the bundled checkpoints by model name."""
    folder = Path(str(resources.files("autopose.zoo")))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def initial_weights(source: str) -> Checkpoint:
    """Read weights to start from.

    Raises:
        ModelError: there are none of that name; an exported graph carries none that can be trained on.
    """
    bundled = bundled_weights()
    if source in bundled:
        return load_checkpoint(bundled[source])
    if Path(source).suffix in (".onnx", ".engine"):
        raise ModelError(
            f"{source}: an exported graph cannot be trained on. Give its run folder or checkpoint, or a bundled model "
            f"({', '.join(bundled) or 'none in this installation'})."
        )
    return load_checkpoint(Path(source))
