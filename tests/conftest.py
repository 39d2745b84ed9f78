"""What every test shares: one thread, no network, the data folder, and the reasons for skipping."""

import os
import shutil
import socket
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

# Before anything imports torch, OpenMP or matplotlib. One thread: the sums of a test come out the same on every
# machine, and tiny networks run faster so. Sub-processes inherit all of it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import pytest

# A shared machine stalls at times: no example has a deadline. In CI the examples are the same in every run.
hypothesis.settings.register_profile("autopose", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("autopose")


@cache
def gpu_present() -> bool:
    """Tell whether the NVIDIA driver lists a device; asked in another process, so that no context opens in this one."""
    if shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs unless their tests run alone (``pytest -m gpu``).

    What takes a GPU where there is one would do so in all other tests, too, whose results are exact on a CPU alone, and
    whose two processes cannot share a GPU.
    """
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` where no device is, or where they do not run alone."""
    if item.get_closest_marker("gpu"):
        if not gpu_present():
            pytest.skip("needs an NVIDIA GPU")
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "-1":
            pytest.skip("GPUs are hidden from the other tests: pytest -m gpu")


@pytest.fixture(scope="session", autouse=True)
def offline() -> Any:
    """Refuse every connection that would leave this machine: nothing in autopose may download."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if host not in ("localhost", "::1") and not host.startswith("127."):
                raise AssertionError(f"a test tried to reach {host!r}; the suite runs offline")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real images that AUTOPOSE_DATA names."""
    folder = os.environ.get("AUTOPOSE_DATA")
    if not folder:
        pytest.skip("needs real images: AUTOPOSE_DATA names no folder")
    if not Path(folder).is_dir():
        pytest.skip(f"needs real images: AUTOPOSE_DATA={folder} is no folder")
    return Path(folder)
