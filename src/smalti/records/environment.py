"""``environment.json``: what a run stands on, when it began, and on which machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from typing import ClassVar

import psutil
from pydantic import Field

from .layout import ENVIRONMENT
from .record import Part, Record

LIBRARIES = (
    "smalti", "torch", "torchvision", "timm", "lightning", "numpy", "pandas", "scikit-learn",
    "opencv-python-headless", "Pillow", "tifffile", "imagecodecs", "pydantic", "safetensors", "matplotlib",
    "lightly",
)  # fmt: skip


class Machine(Part):
    """Interpreter, machine and versions of libraries."""

    python: str = ""
    system: str = ""
    processor: str = ""
    cores: int | None = None
    memory_gb: float | None = None
    libraries: dict[str, str] = Field(default_factory=dict)


class Environment(Machine, Record):
    """``environment.json``; its version is that of the whole run folder.

    Attributes:
        identity: hashes of what must be the same when a run goes on: data, decisions, recipe and others.
        training: hash of all that trained weights depend on; empty where nothing is trained.
        started: ISO 8601.
        command: how it was called.
        weights: what was read of a weights file; None without one.
        device: the chip, see `smalti.train.Device`.
    """

    FILE: ClassVar[str] = ENVIRONMENT
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "give this run another --name, or delete the folder"
    OLD: ClassVar[str] = "make the run again with 'smalti run', under another --name"

    identity: dict[str, str]
    training: str
    started: str
    command: tuple[str, ...] = ()
    weights: str | None = None
    device: dict[str, str] = Field(default_factory=dict)


def look_at_machine() -> Machine:
    """Look at interpreter, machine and installed libraries."""
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return Machine(
        python=platform.python_version(),
        system=platform.platform(),
        processor=platform.processor() or platform.machine(),
        cores=psutil.cpu_count(logical=True),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        libraries=versions,
    )
