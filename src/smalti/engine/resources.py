"""What this machine can give to units: cores, GPUs, memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

GB = 1024**3
# Of a container: how much of a period its processes may use, and how many bytes.
CPU_QUOTA, MEMORY_LIMIT = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Resources:
    """Cores, identifiers of GPUs as CUDA_VISIBLE_DEVICES takes them, and GB of memory."""

    cpus: int
    gpus: tuple[str, ...]
    memory_gb: float


def measure_resources() -> Resources:
    """Return what this process may use; a container's limits and an allocation's cores count."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # there is no container, or "max"
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cpus = min(cpus, max(1, int(quota) // int(period)))
    with suppress(OSError, ValueError):
        memory = min(memory, int(MEMORY_LIMIT.read_text(encoding="ascii")))
    return Resources(cpus, list_gpus(), memory / GB)


def list_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name for name in map(str.strip, visible.split(",")) if name and name != "-1")
    if (command := shutil.which("nvidia-smi")) is None:
        return ()
    asked = [command, "--query-gpu=index", "--format=csv,noheader"]
    with suppress(OSError, subprocess.TimeoutExpired):
        listed = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
        return tuple(listed.stdout.split()) if listed.returncode == 0 else ()
    return ()
