"""Where training computes in bfloat16: where the device has instructions for it.

A device without them imitates bfloat16 and takes many times as long as in FP32: a CPU with AVX2 alone took twelve times
as long per step (``docs/benchmarks.md``).
"""

import logging
from functools import cache

import torch

from autopose.training.config import Amp

log = logging.getLogger(__name__)

#: Names in ``torch.cpu.get_capabilities``: x86's two sets of instructions, and ARM's.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


@cache
def native_bfloat16(kind: str) -> bool:
    """Return whether the devices of a kind, ``cpu`` or ``cuda``, compute in bfloat16 themselves."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.12
        return bool(torch.cpu._is_avx512_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in _INSTRUCTIONS)


def in_bfloat16(amp: Amp, device: torch.device) -> bool:
    """Return whether the networks of a run compute in bfloat16.

    Args:
        amp: ``bf16``: they do, natively or not; ``auto``: where the device has instructions for it; ``none``: they do
            not.
        device: where they run.
    """
    if amp == "none":
        return False
    native = native_bfloat16(device.type)
    if not native:
        _say_once(amp, device.type)
    return native or amp == "bf16"


def autocast(amp: Amp, device: torch.device) -> torch.autocast:
    """Return the context in which networks compute as :func:`in_bfloat16` says."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(amp, device))


@cache
def _say_once(amp: Amp, kind: str) -> None:
    if amp == "auto":
        log.info("This device (%s) has no bfloat16 instructions: FP32.", kind)
    else:
        log.warning(
            "This device (%s) has no bfloat16 instructions and imitates them, which can take ten times as long as "
            'FP32: give amp = "auto" instead of "bf16".',
            kind,
        )
