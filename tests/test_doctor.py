"""Doctor: each thing that can be wrong with a machine is seen, and has a fix."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from smalti import doctor, train
from smalti.recipe import Recipe, load_recipe

PLAIN = ("model.pretrained=false", "train.device=cpu")


def examine(*settings: str, folder: Path = Path("runs")) -> dict[str, doctor.Sign]:
    recipe: Recipe = load_recipe(settings=[*PLAIN, *settings])
    signs = doctor.examine_machine(recipe, folder=folder)
    assert len({sign.name for sign in signs}) == len(signs)
    for sign in signs:
        assert sign.found
        assert (sign.state == "good") == (not sign.fix)
    return {sign.name: sign for sign in signs}


def feign_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, answer: str | None) -> None:
    """A program nvidia-smi on the search path that gives this answer, or fails; None: there is none."""
    if answer is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{f'echo {answer}' if answer else 'exit 9'}\n", encoding="utf-8")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_machine_like_this_one_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    feign_driver(monkeypatch, tmp_path, answer=None)
    signs = examine()
    assert signs["Python"].found == platform.python_version()
    assert signs["torch"].found == importlib.metadata.version("torch")
    assert {sign.state for sign in signs.values()} <= {"good", "note"}
    assert "pytest" not in signs  # of an extra
    assert signs["device"].found.startswith("CPU")


@pytest.mark.parametrize("version", [(3, 10, 4), (3, 14, 0), (2, 7, 18)])
def test_another_python_is_bad(version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=(*version, "final", 0)))
    sign = examine()["Python"]
    assert sign.state == "bad"
    assert sign.found == ".".join(map(str, version))
    assert "3.13" in sign.fix


def test_a_missing_library_is_bad_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks are not asked then: they could not be imported."""
    known = importlib.metadata.version

    def look_up(name: str) -> str:
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", look_up)
    signs = examine()
    assert (signs["timm"].state, signs["timm"].found) == ("bad", "not installed")
    assert signs["timm"].fix.startswith("pip install 'timm")
    assert signs["torch"].state == "good"
    assert not {"device", "GPU", "weights"} & signs.keys()
    assert {"memory", "disk"} <= signs.keys()


@pytest.mark.parametrize(
    ("version", "state"), [("0.0.1", "bad"), ("99.0", "bad"), ("2.4.1", "good"), ("2.9rc1", "good")]
)
def test_a_version_outside_the_range_is_bad(version: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == "numpy" else known(name))
    sign = examine()["numpy"]
    assert (sign.state, sign.found) == (state, version)
    if state == "bad":
        assert "numpy" in sign.fix
        assert "<3" in sign.fix
        assert ">=2.0" in sign.fix


@pytest.mark.parametrize("answer", [None, ""])
def test_no_gpu_is_a_note(answer: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    feign_driver(monkeypatch, tmp_path, answer=answer)
    sign = examine()["GPU"]
    assert sign.state == "note"
    assert "slower" in sign.fix


@pytest.mark.parametrize(("usable", "state"), [(False, "bad"), (True, "good")])
def test_a_gpu_that_torch_does_not_see_is_bad(
    usable: bool, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    feign_driver(monkeypatch, tmp_path, answer="550.54.14")
    monkeypatch.setattr(train, "describe_cuda", lambda: ("built for CUDA 12.4", usable))
    sign = examine()["GPU"]
    assert sign.state == state
    assert "550.54.14" in sign.found
    assert "12.4" in sign.found


def test_a_device_that_is_asked_for_and_not_there_is_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    feign_driver(monkeypatch, tmp_path, answer=None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sign = examine("train.device=cuda")["device"]
    assert sign.state == "bad"
    assert sign.fix == "--set train.device=auto"


@pytest.mark.parametrize(("free_gb", "state"), [(1.0, "note"), (3.9, "note"), (4.1, "good")])
def test_little_memory_is_a_note(free_gb: float, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(available=int(free_gb * 2**30), total=8 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    sign = examine()["memory"]
    assert sign.state == state
    assert f"{free_gb:.1f} GB free of 8.0 GB" in sign.found


@pytest.mark.parametrize(("free_gb", "state"), [(0.5, "note"), (5.5, "good")])
def test_little_disk_is_a_note_about_the_place_that_will_be_used(
    free_gb: float, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The runs folder need not exist yet: the folder that will hold it is looked at."""
    asked: list[Path] = []

    def measure(place: Any) -> Any:
        asked.append(Path(place))
        return SimpleNamespace(free=int(free_gb * 1e9))

    monkeypatch.setattr(doctor.shutil, "disk_usage", measure)
    sign = examine(folder=tmp_path / "not" / "yet" / "runs")["disk"]
    assert sign.state == state
    assert asked == [tmp_path]
    assert str(tmp_path) in sign.found
    assert not sign.fix or "--runs" in sign.fix


def test_weights_that_cannot_be_had_are_bad_with_every_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smalti.models.find_weights", lambda model: None)
    sign = examine("model.pretrained=true", "model.backbone=mobilenetv2_100")["weights"]
    assert sign.state == "bad"
    assert "mobilenetv2_100" in sign.found
    assert "--set model.weights=FILE" in sign.fix
    assert "Fix" not in sign.found
    assert examine("model.pretrained=true", "model.without_weights=scratch")["weights"].state == "note"


def test_a_weights_file_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert examine(f"model.weights={path}")["weights"].state == "bad"
    path.write_bytes(b"")
    assert examine(f"model.weights={path}")["weights"].state == "good"
