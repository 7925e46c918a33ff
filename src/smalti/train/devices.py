"""Where to compute and in which number format, with the reason."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.strategies import DDPStrategy

from .. import recipe
from ..errors import RecipeError


@dataclass(frozen=True, slots=True)
class Device:
    """What was chosen.

    Attributes:
        accelerator: ``cuda``, ``mps`` or ``cpu``.
        precision: as Fabric names it.
        name: of the chip.
        reason: why this device and precision, for people.
    """

    accelerator: str
    precision: str
    name: str
    reason: str


def choose_device(train: recipe.Train, *, fix: str = "--set train.device=auto") -> Device:
    """Take what the recipe asks for, or the best that is there.

    Args:
        train: the section of the recipe.
        fix: how whoever asks for a device that is not there takes the best instead.

    Raises:
        RecipeError: the recipe asks for a device or a number format that this machine does not have.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    accelerator, where = train.device, f"device {train.device} set in the recipe"
    if train.device == "auto":
        accelerator, where = "cpu", "no CUDA and no Apple device was found"
        if there["mps"]:
            accelerator, where = "mps", "no CUDA device, but Apple's Metal is there"
        if there["cuda"]:
            accelerator, where = "cuda", "a CUDA device is there"
    elif not there[train.device]:
        raise RecipeError(
            f"train.device={train.device}, and torch {torch.__version__} finds no such device on this machine", fix=fix
        )
    if (accelerator, train.precision) == ("cpu", "16-mixed"):  # Fabric would take bfloat16 and say so to nobody
        raise RecipeError("train.precision=16-mixed needs a GPU, and none is used", fix="--set train.precision=auto")
    names = {"cpu": f"CPU, {torch.get_num_threads()} threads", "mps": "Apple Metal"}
    precision, why = "32-true", "float32: on CPUs bfloat16 is faster for some backbones and slower for others"
    if accelerator == "mps":
        why = "float32: mixed precision on Metal changes results between releases"
    if accelerator == "cuda":
        names["cuda"] = str(torch.cuda.get_device_name())
        major, minor = torch.cuda.get_device_capability()
        precision, why = "16-mixed", f"compute capability {major}.{minor} has float16 but no bfloat16 in hardware"
        if major >= 8:
            precision, why = "bf16-mixed", f"compute capability {major}.{minor} multiplies bfloat16 in hardware"
    if train.precision != "auto":
        precision, why = train.precision, "precision set in the recipe"
    return Device(accelerator, precision, names[accelerator], f"{where}; {why}")


def describe_cuda() -> tuple[str, bool]:
    """Return the CUDA version that torch was built with, in words, and whether torch can use a device."""
    version = torch.version.cuda
    return (f"built for CUDA {version}" if version else "built without CUDA"), torch.cuda.is_available()


def make_fabric(device: Device, *, devices: int = 1) -> Fabric:
    """Make a Lightning Fabric with repeatable kernels, on one device, or as one process of several.

    Of several, each is started and has joined its group before (`smalti.train.ranks.spreading`).
    """
    if device.accelerator == "cuda":
        # cuBLAS reads this when the first handle is made; without it matrix products are not repeatable.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        # By default cuDNN rounds what a float32 convolution multiplies to 10 bits (TF32): another score than on a CPU.
        torch.backends.cudnn.allow_tf32 = False
    with warnings.catch_warnings():
        # Fabric warns where a faster device lies idle; a recipe may ask for the slower one.
        warnings.simplefilter("ignore", UserWarning)
        if devices == 1:
            return Fabric(accelerator=device.accelerator, devices=1, precision=device.precision)
        # Stages are closed at first, and what is closed has no gradient to wait for.
        strategy = DDPStrategy(find_unused_parameters=True)
        return Fabric(
            accelerator=device.accelerator, devices=devices, precision=device.precision, strategy=strategy,
            plugins=[LightningEnvironment()],
        )  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread: for products so small that waiting for a second thread costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
