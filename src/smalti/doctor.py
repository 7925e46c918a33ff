"""Check this machine: what it will do and why, and for each problem the exact fix."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.requirements import Requirement

from .errors import RecipeError, WeightsError
from .packages import INSTALL, check_package, describe_package, find_package, list_packages
from .recipe import Recipe, settle_choices
from .registry import Entry

LEAST_MEMORY_GB = 4.0
LEAST_DISK_GB = 5.0


@dataclass(frozen=True, slots=True)
class Sign:
    """The result of one check: ``good``, ``note`` (works, but) or ``bad`` (must be fixed)."""

    name: str
    state: Literal["good", "note", "bad"]
    found: str
    fix: str = ""


def examine_machine(recipe: Recipe, *, folder: Path = Path("runs")) -> tuple[Sign, ...]:
    """Check interpreter, libraries, device, driver, memory, disk and weights, for a recipe and a runs folder."""
    python = ".".join(map(str, sys.version_info[:3]))
    signs = [Sign("Python", "good", python)]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        signs = [Sign("Python", "bad", python, "install Python 3.11, 3.12 or 3.13 and make a new environment with it")]
    for line in importlib.metadata.requires("smalti") or ():  # the requirements of smalti's own package record
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            fix = f"pip install '{requirement.name}{requirement.specifier}'"
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                signs.append(Sign(requirement.name, "bad", "not installed", fix))
                continue
            fits = requirement.specifier.contains(version, prereleases=True)
            signs.append(Sign(requirement.name, "good" if fits else "bad", version, "" if fits else fix))
    if not any(sign.state == "bad" for sign in signs):
        signs += _examine_device(recipe)
        signs += [_examine_packages(), _examine_weights(recipe)]
    free = psutil.virtual_memory().available / 2**30
    text = f"{free:.1f} GB free of {psutil.virtual_memory().total / 2**30:.1f} GB"
    least = f"close other programs: {LEAST_MEMORY_GB:.0f} GB free is what the demo needs"
    signs.append(Sign("memory", "good", text) if free >= LEAST_MEMORY_GB else Sign("memory", "note", text, least))
    place = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.is_dir())
    free = shutil.disk_usage(place).free / 1e9
    text = f"{free:.0f} GB free at {place}"
    least = f"free {LEAST_DISK_GB:.0f} GB, or give --runs a folder on another disk"
    return (*signs, Sign("disk", "good", text) if free >= LEAST_DISK_GB else Sign("disk", "note", text, least))


def list_parts() -> Iterator[tuple[str, Entry[Any]]]:
    """Yield kind and entry of every registered part, then the names that timm keeps."""
    from .audit import CHECKS, CRITERIA
    from .features.writing import FILE_LAYOUTS
    from .metrics import METRICS
    from .models import DESCRIPTIONS, ENCODERS, FUSIONS, NORMS, POOLERS, TRANSFORMS
    from .predict import CALIBRATIONS, DECISIONS, ENSEMBLES
    from .samples import AUGMENTATIONS
    from .tissue import STAINS
    from .train import DRAWERS, HEADS, LOSSES, PRETRAININGS, SCHEDULES, SEARCHES, list_optimisers

    models = (ENCODERS, DESCRIPTIONS, POOLERS, TRANSFORMS, NORMS, FUSIONS, HEADS)
    samples = (AUGMENTATIONS, SEARCHES, STAINS)
    learning, after = (PRETRAININGS, DRAWERS, LOSSES, SCHEDULES), (CALIBRATIONS, DECISIONS, ENSEMBLES, FILE_LAYOUTS)
    kinds = (METRICS, CHECKS, CRITERIA, *samples, *models, *learning, *after)
    for registry in kinds:
        for entry in registry:
            yield registry.kind, entry
    names = ", ".join(list_optimisers())
    yield "optimiser", Entry("(timm's names)", list_optimisers, names, "timm.optim")
    yield "backbone", Entry("(timm's names)", list_optimisers, "every name of timm.list_models()", "timm.models")


def _examine_device(recipe: Recipe) -> Iterator[Sign]:
    from .train import choose_device, describe_cuda

    driver = ""
    if (command := shutil.which("nvidia-smi")) is not None:
        query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        lines = answer.stdout.strip().splitlines()
        driver = lines[0] if answer.returncode == 0 and lines else ""
    cuda, usable = describe_cuda()
    if driver and not usable:
        fix = "pip install --upgrade torch torchvision (a build for this driver), or update the driver"
        yield Sign("GPU", "bad", f"driver {driver} sees a GPU, torch ({cuda}) does not", fix)
    elif driver:
        yield Sign("GPU", "good", f"driver {driver}, torch {cuda}")
    else:
        yield Sign("GPU", "note", f"nvidia-smi finds no GPU; torch {cuda}", "none needed; fine-tuning is slower")
    try:
        device = choose_device(recipe.train)
    except RecipeError as error:
        yield Sign("device", "bad", error.message, error.fix)
        return
    yield Sign("device", "good", f"{device.name}, {device.precision}: {device.reason}")


def _examine_packages() -> Sign:
    """Check that each installed package with weights holds the file that it was published with."""
    packages = list_packages()
    if not packages:
        return Sign(
            "weights by pip", "note", "no package with weights is installed", f"{INSTALL} brings three networks"
        )
    try:
        for package in packages:
            check_package(package)
    except WeightsError as error:
        return Sign("weights by pip", "bad", error.message, error.fix)
    held = ", ".join(f"{package.backbone} ({describe_package(package)})" for package in packages)
    return Sign("weights by pip", "good", held)


def _examine_weights(recipe: Recipe) -> Sign:
    """Return where a run of the recipe would take its weights from, and why from there."""
    from .models import describe_missing_weights, find_weights

    (settled,), notes = settle_choices([recipe])
    model, why = settled.model, "".join(f"; {note}" for note in notes if note.startswith("backbone"))
    try:
        source = find_weights(model)
    except WeightsError as error:
        return Sign("weights", "bad", error.message, error.fix)
    if source is None:
        missing = describe_missing_weights(model)
        state: Literal["note", "bad"] = "note" if model.without_weights == "scratch" else "bad"
        return Sign("weights", state, missing.message + why, missing.fix)
    if source == "file" and model.weights is not None and not model.weights.is_file():
        return Sign("weights", "bad", f"no file at {model.weights}", "correct --set model.weights=FILE")
    package = find_package(model.backbone)
    texts = {
        "file": f"the file {model.weights}, which comes before packages and the hub",
        "folder": "the folder that its name gives",
        "package": f"package {describe_package(package)}, which comes before the hub" if package is not None else "",
        "cache": "the hub's copy that was downloaded earlier; no package has them",
        "hub": "the hub, which answers; no package has them and no copy was downloaded earlier",
        "described": "measured by hand, which needs none",
        "none": "from scratch, as model.pretrained=false says",
    }
    return Sign("weights", "good", f"{model.backbone}: {texts[source]}{why}")
