"""The NVIDIA GPU at hand, asked of the driver itself: no CUDA package is needed to know what is there."""

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR (cuda.h)


@dataclass(frozen=True)
class Gpu:
    """The first GPU.

    Attributes:
        name: as the driver calls it.
        capability: compute capability, for instance ``8.9``.
        driver: newest CUDA version that the driver supports, for instance ``13.0``.
        memory_gib: its memory.
    """

    name: str
    capability: str
    driver: str
    memory_gib: float


@cache
def gpu_here() -> Gpu | None:
    """Return the first GPU, or None without a driver or a device."""
    driver = driver_library()
    if not devices(driver):
        return None
    device, version = ctypes.c_int(0), ctypes.c_int(0)
    name = ctypes.create_string_buffer(256)
    numbers = [ctypes.c_int(0), ctypes.c_int(0)]
    memory = ctypes.c_size_t(0)
    failed = (
        driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetName(name, len(name), device)
        or driver.cuDeviceGetAttribute(ctypes.byref(numbers[0]), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(numbers[1]), _MINOR, device)
        or driver.cuDriverGetVersion(ctypes.byref(version))
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    )
    if failed:
        return None
    return Gpu(
        name.value.decode(errors="replace"),
        f"{numbers[0].value}.{numbers[1].value}",
        f"{version.value // 1000}.{version.value % 1000 // 10}",
        memory.value / 2**30,
    )


def devices(driver: Any) -> int:
    """Return how many GPUs a driver library answers for; none without one."""
    count = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def driver_library() -> Any:
    """Return the CUDA driver library through ctypes, or None."""
    for library in _LIBRARIES:
        try:
            return ctypes.CDLL(library)
        except OSError:
            continue
    return None
