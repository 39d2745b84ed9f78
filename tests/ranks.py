"""Processes of one group, started as ``torchrun`` would, for tests of training and searching together."""

import os
import socket
import subprocess
import sys


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """Return what ``torchrun`` tells a process."""
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), "RANK": str(rank)}
    return os.environ | group | {"OMP_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run_ranks(world: int, script: str, *arguments: str) -> list[str]:
    """Run a script in several processes and return what each printed; one that does not end is an error, too."""
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env=environment(rank, world, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    printed = []
    try:
        for process in processes:
            out, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
            printed.append(out)
    finally:
        for process in processes:
            process.kill()
    return printed
