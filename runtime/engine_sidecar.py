"""The JSON file beside a TensorRT engine: what it is, where it came from, where it runs.

The engine itself stays the raw plan, so that Triton and trtexec load it as it is. An engine without its sidecar, or
with another's, is refused: nothing else says which input size, colours and joints it has.
"""

import hashlib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from autopose.errors import ModelError
from autopose.files import write_atomic
from autopose.manifest import Manifest

Builder = Literal["tensorrt", "tensorrt_rtx"]


class EngineSidecar(BaseModel):
    """Description of an engine.

    Attributes:
        manifest: as in the ONNX graph that it was built from.
        builder: the library that built it and that alone can run it.
        builder_version: of that library.
        onnx_sha256: of the graph it was built from.
        engine_sha256: of the plan, so that a damaged or exchanged file is noticed.
        batches: smallest, typical and largest batch of the optimisation profile.
        targets: compute capabilities that it was built for (``sm89``); empty: those of ``gpu`` alone.
        gpu: name of the GPU it was built on; empty if none was at hand.
        compute_capability: of that GPU, for instance ``8.9``.
        portable: TensorRT's hardware compatibility: runs on every GPU from Ampere on.
        half_share: half-precision convolutions over all convolutions, of the parsed network.
        inspected_share: the same as the engine's inspector sees it; None where no GPU could open the engine.
        rebuild: command that builds it anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    manifest: Manifest
    builder: Builder
    builder_version: str
    onnx_sha256: str
    engine_sha256: str
    batches: tuple[int, int, int]
    targets: tuple[str, ...] = ()
    gpu: str = ""
    compute_capability: str = ""
    portable: bool = False
    half_share: float
    inspected_share: float | None = None
    rebuild: str = ""

    @model_validator(mode="after")
    def _batches_rise(self) -> Self:
        smallest, typical, largest = self.batches
        if not 1 <= smallest <= typical <= largest:
            raise ValueError(f"batches are {self.batches}; expected 1 <= smallest <= typical <= largest")
        return self

    def save(self, engine: Path) -> None:
        """Write the file beside ``engine``."""
        write_atomic(sidecar_path(engine), self.model_dump_json(indent=2) + "\n")


def sidecar_path(engine: Path) -> Path:
    """Return where an engine's sidecar is."""
    return engine.with_name(f"{engine.name}.json")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sidecar(engine: Path) -> EngineSidecar:
    """Read and check the sidecar of an engine.

    Raises:
        ModelError: it is missing or damaged, or the engine is not the one that it describes.
    """
    path = sidecar_path(engine)
    rebuild = f"autopose export MODEL --trt -o {engine}"
    if not path.is_file():
        raise ModelError(
            f"{engine}: its sidecar {path.name} is missing, so its input size, colours and joints are unknown.\n"
            f"Keep both files together, or build it again: {rebuild}"
        )
    try:
        sidecar = EngineSidecar.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "content"
        raise ModelError(
            f"{path}: the sidecar cannot be used: {field}: {first['msg']}. It is damaged or of another version.\n"
            f"Build the engine again: {rebuild}"
        ) from None
    if sha256_of(engine) != sidecar.engine_sha256:
        raise ModelError(
            f"{engine}: is not the engine that {path.name} describes: it is damaged or was replaced.\n"
            f"Build it again: {sidecar.rebuild or rebuild}"
        )
    return sidecar


def require_fit(
    sidecar: EngineSidecar, engine: Path, *, version: str, gpu: str | None = None, capability: str | None = None
) -> None:
    """Refuse an engine that this machine's library or GPU cannot run.

    Args:
        sidecar: of the engine.
        engine: for messages.
        version: of the library here.
        gpu: name of the GPU here; None: not known.
        capability: its compute capability, for instance ``8.9``; None: not known.

    Raises:
        ModelError: naming what differs and the command that rebuilds it.
    """
    rebuild = sidecar.rebuild or f"autopose export MODEL --trt -o {engine}"
    if version != sidecar.builder_version:
        raise ModelError(
            f"{engine}: was built with {sidecar.builder} {sidecar.builder_version}; here is {version}, and an engine "
            f"runs only on the version that built it.\nBuild it again: {rebuild}"
        )
    if capability is None:
        return
    if sidecar.targets:
        here = f"sm{capability.replace('.', '')}"
        if here not in sidecar.targets:
            raise ModelError(
                f"{engine}: was built for {', '.join(sidecar.targets)}; this GPU is {here}.\nBuild it again: {rebuild}"
            )
    elif sidecar.portable:
        if int(capability.partition(".")[0]) < 8:
            raise ModelError(f"{engine}: runs from compute capability 8.0 on; this GPU has {capability}.\n"
                             f"Build it here without --portable: {rebuild}")  # fmt: skip
    elif capability != sidecar.compute_capability or (gpu is not None and gpu != sidecar.gpu):
        raise ModelError(
            f"{engine}: was built on {sidecar.gpu} (compute capability {sidecar.compute_capability}); this GPU is "
            f"{gpu} ({capability}).\nBuild it again: {rebuild}"
        )
