"""The environment of a run: libraries, interpreter, machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from typing import Any

import psutil

LIBRARIES = (
    "smalti", "torch", "torchvision", "timm", "lightning", "numpy", "pandas", "scikit-learn",
    "opencv-python-headless", "Pillow", "tifffile", "imagecodecs", "pydantic", "safetensors", "matplotlib",
)  # fmt: skip


def record_environment() -> dict[str, Any]:
    """Libraries, interpreter and machine, for ``environment.json``."""
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "libraries": versions,
    }
