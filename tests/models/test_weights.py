"""Weights: files, folders and the hub against what they hold; a hub that is away; files that would run code."""

from __future__ import annotations

import argparse
import http.server
import json
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from smalti import recipe
from smalti.errors import WeightsError
from smalti.models import (
    Backbone,
    build_backbone,
    describe_missing_weights,
    find_weights,
    hash_weights,
)

SMALL = "test_resnet"
WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that looks up the name of another machine fails, whatever was done with the error."""
    asked: list[object] = []
    look_up = socket.getaddrinfo

    def refuse(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in {"127.0.0.1", "localhost"}:
            return look_up(host, *args, **kwargs)
        asked.append(host)
        raise socket.gaierror(f"{host} is not to be asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not asked


def make_model(backbone: str = SMALL, **knobs: Any) -> recipe.Model:
    return recipe.Model.model_validate({"backbone": backbone, "pretrained": False, **knobs})


def embed(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    module.eval()
    with torch.inference_mode():
        return module(images)


def draw_images(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


# --- weights files ------------------------------------------------------------------------------------------------


@pytest.fixture
def trained() -> Backbone:
    """A backbone whose every tensor differs from any initial one."""
    backbone = build_backbone(make_model(), seed=5)
    with torch.no_grad():
        for tensor in backbone.module.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.1)
    return backbone


def save(state: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_a_weights_file_gives_the_same_features_whatever_head_it_had(
    suffix: str, trained: Backbone, tmp_path: Path
) -> None:
    state = dict(trained.module.state_dict())
    head = {"fc.weight": torch.ones(7, 3), "fc.bias": torch.ones(7)}
    wanted = embed(trained.module, draw_images())
    for name, content in (("plain", state), ("headed", state | head)):
        path = save(content, tmp_path / f"{name}{suffix}")
        model = make_model(pretrained=True, weights=path)  # the file wins over the hub
        assert find_weights(model) == "file"
        found = build_backbone(model, seed=0)
        torch.testing.assert_close(embed(found.module, draw_images()), wanted, rtol=0, atol=0)
        assert hash_weights(found.module) == hash_weights(trained.module)


def test_half_precision_files_and_checkpoints_of_training_scripts_are_taken(trained: Backbone, tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in trained.module.state_dict().items()}
    path = save({"state_dict": half, "epoch": 3}, tmp_path / "half.pt")
    found = build_backbone(make_model(weights=path)).module
    assert all(p.dtype == torch.float32 for p in found.parameters())
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, half[name].to(tensor.dtype)), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conv1.weight": None}, "1 missing. conv1.weight has nothing there, (16, 3, 3, 3) is wanted"),
        ({"strange.weight": torch.ones(2)}, "1 too many. strange.weight has (2,) there, nothing is wanted"),
        (
            {"conv1.weight": torch.ones(2, 2)},
            "1 of another shape. conv1.weight has (2, 2) there, (16, 3, 3, 3) is wanted",
        ),
    ],
)
def test_a_file_that_does_not_fit_names_the_keys(
    change: dict[str, Any], words: str, trained: Backbone, tmp_path: Path
) -> None:
    name = next(k for k in trained.module.state_dict() if k.endswith("weight"))
    changed = {k.replace("conv1.weight", name): v for k, v in change.items()}
    state = {k: v for k, v in {**trained.module.state_dict(), **changed}.items() if v is not None}
    path = save(state, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError) as caught:
        build_backbone(make_model(weights=path))
    assert words.replace("conv1.weight", name) in str(caught.value)
    assert str(path) in str(caught.value)
    assert "Fix: check model.backbone" in str(caught.value)


WRAPS = {
    "parallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "compiled": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "compiled within": lambda state: {k.replace("layer1.", "layer1._orig_mod."): v for k, v in state.items()},
    "several": lambda state: {f"module._orig_mod.model.encoder.{k}": v for k, v in state.items()},
    "model": lambda state: {"model": state, "epoch": 3},
    "net": lambda state: {"net": state, "acc": np.float64(0.5), "args": argparse.Namespace(lr=0.1)},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
    "lightning": lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}, "loops": {"a": {}}},
    "nested": lambda state: {"a": {"b": {"c": {f"backbone.{k}": v for k, v in state.items()}}}},
    "counters lacking": lambda state: {"m": {k: v for k, v in state.items() if "num_batches" not in k}},
    "all half": lambda state: {"m": {k: v.half() for k, v in state.items()}},
    "bfloat16": lambda state: {"m": {k: v.bfloat16() for k, v in state.items()}},
    "double": lambda state: {"m": {k: v.double() for k, v in state.items()}},
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_training_scripts_wrap_around_a_network_is_taken_off_and_said(
    wrap: str, trained: Backbone, tmp_path: Path
) -> None:
    state = {k: v.half().to(v.dtype) if wrap == "all half" else v for k, v in trained.module.state_dict().items()}
    if wrap == "bfloat16":
        state = {k: v.bfloat16().to(v.dtype) for k, v in state.items()}
    content = WRAPS[wrap](state | {"fc.weight": torch.ones(7, 3), "fc.bias": torch.ones(7)})
    flat = all(isinstance(value, torch.Tensor) for value in content.values())
    for suffix in (".pth", ".safetensors") if flat else (".ckpt",):
        path = save(content, tmp_path / f"a{suffix}")
        found = build_backbone(make_model(weights=path))
        held = found.module.state_dict()
        assert all(torch.equal(held[k], v) for k, v in state.items() if "num_batches" not in k)
        assert all(v.dtype == torch.float32 for v in held.values() if v.is_floating_point())
        assert found.note is not None
        label = next(name for name in content).rpartition("layer1")[0].rpartition("conv1")[0]
        for words in (path.name, "2 tensors left out", "fc.weight", label.rstrip(".")):
            assert words in found.note


def shift(state: dict[str, torch.Tensor], by: float) -> dict[str, torch.Tensor]:
    return {k: v + by if v.is_floating_point() else v.clone() for k, v in state.items()}


def test_of_two_networks_the_averaged_one_is_taken_and_the_other_on_request(trained: Backbone, tmp_path: Path) -> None:
    state = dict(trained.module.state_dict())
    teacher = {f"backbone.{k}": v for k, v in state.items()} | {"head.mlp.0.weight": torch.zeros(4, 512)}
    student = shift(teacher, 1)
    for one, other in (("student", "teacher"), ("state_dict", "state_dict_ema"), ("model", "ema"), ("k", "encoder_q")):
        path = save({one: student, other: teacher}, tmp_path / f"{other}.pth")
        found = build_backbone(make_model(weights=path))
        assert hash_weights(found.module) == hash_weights(trained.module)
        assert found.note is not None
        for words in (f"'{other}.backbone'", f"not {one}.backbone", "model.weights_part", "head.mlp.0.weight"):
            assert words in found.note
        asked = build_backbone(make_model(weights=path, weights_part=one)).module.state_dict()
        assert all(torch.equal(asked[k], v) for k, v in shift(state, 1).items())
    path = save({"student": student, "teacher": student}, tmp_path / "alike.pth")
    assert "all alike of student.backbone, teacher.backbone" in str(build_backbone(make_model(weights=path)).note)


def test_several_networks_that_nothing_tells_apart_are_a_question(trained: Backbone, tmp_path: Path) -> None:
    state = dict(trained.module.state_dict())
    flat = {f"{name}.{k}": v for i, name in enumerate(("left", "right")) for k, v in shift(state, i).items()}
    path = save(flat, tmp_path / "two.safetensors")
    with pytest.raises(WeightsError, match=r"2 networks.* left, right\. Fix: --set model\.weights_part=left"):
        build_backbone(make_model(weights=path))
    with pytest.raises(WeightsError, match=r"no network 'middle'.*left, right"):
        build_backbone(make_model(weights=path, weights_part="middle"))
    found = build_backbone(make_model(weights=path, weights_part="left"))
    assert hash_weights(found.module) == hash_weights(trained.module)


@pytest.mark.parametrize(("there", "asked"), [("resnet34", "resnet18"), ("resnet18", "mobilenetv2_100")])
def test_what_does_not_fit_is_told_tensor_by_tensor_with_the_likely_backbone(
    there: str, asked: str, tmp_path: Path
) -> None:
    state = timm.create_model(there, num_classes=5).state_dict()
    path = save({f"module.{k}": v for k, v in state.items()}, tmp_path / "other.pth")
    with pytest.raises(WeightsError) as caught:
        build_backbone(make_model(asked, weights=path))
    assert f"timm's {there}. Fix: --set model.backbone={there}" in str(caught.value)
    assert str(caught.value).count(" there, ") == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.to(torch.int8) if v.is_floating_point() else v, "of int8 there"),
        (lambda v: torch.full_like(v, float("nan")) if v.is_floating_point() else v, "NaN or infinite weights"),
    ],
)
def test_weights_that_are_no_numbers_of_a_network_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor], words: str, trained: Backbone, tmp_path: Path
) -> None:
    state = {k: change(v) for k, v in trained.module.state_dict().items()}
    with pytest.raises(WeightsError, match=words):
        build_backbone(make_model(weights=save(state, tmp_path / "a.safetensors")))


def test_a_pickled_network_is_refused_by_its_class_and_says_how_to_save(trained: Backbone, tmp_path: Path) -> None:
    for content in (trained.module, {"model": trained.module}):
        path = save(content, tmp_path / "whole.pth")
        with pytest.raises(WeightsError, match=r"whole\.pth holds .*timm\.models\..*executed.*Fix:.*state_dict\(\)"):
            build_backbone(make_model(weights=path))


def test_a_file_is_known_by_its_content_and_not_by_its_suffix(trained: Backbone, tmp_path: Path) -> None:
    state = dict(trained.module.state_dict())
    save(state, tmp_path / "a.safetensors").rename(tmp_path / "a.bin")
    save(state, tmp_path / "b.pth").rename(tmp_path / "b.safetensors")
    for name in ("a.bin", "b.safetensors"):
        found = build_backbone(make_model(weights=tmp_path / name))
        assert (hash_weights(found.module), found.note) == (hash_weights(trained.module), None)
    (tmp_path / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1", encoding="utf-8")
    with pytest.raises(WeightsError, match=r"pointer\.pth is no weights file: it begins with b'version https"):
        build_backbone(make_model(weights=tmp_path / "pointer.pth"))
    with pytest.raises(WeightsError, match="is a folder"):
        build_backbone(make_model(weights=tmp_path))


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sentinel,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(how: str, tmp_path: Path) -> None:
    sentinel, path = tmp_path / "ran", tmp_path / "weights.pt"
    content = {"state_dict": {}, "evil": Malicious(sentinel)}
    if how == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))  # the one that torch writes
    with pytest.raises(WeightsError, match=r"weights\.pt.*Fix: .*\.safetensors"):
        build_backbone(make_model(weights=path))
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(Malicious(sentinel)))  # the file was a real danger
    assert sentinel.exists()


@pytest.mark.parametrize("content", [[torch.ones(2)], {"model": {"a": 2}, "epoch": 3}, {"state_dict": 3}, 5])
def test_a_file_of_something_else_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no tensors by name"):
        build_backbone(make_model(weights=save(content, tmp_path / "list.pt")))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"<html>404</html>" * 99])
def test_a_damaged_file_is_refused_by_name(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"damaged\{suffix}"):
        build_backbone(make_model(weights=path))
    with pytest.raises(WeightsError, match=r"no weights file at /.*gone\.pt"):
        build_backbone(make_model(weights=tmp_path / "gone.pt"))


def test_a_cut_file_is_refused_by_name(trained: Backbone, tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pt"):
        path = save(dict(trained.module.state_dict()), tmp_path / f"cut{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(WeightsError, match="cut"):
            build_backbone(make_model(weights=path))


# --- a local folder, the hub and its cache ------------------------------------------------------------------------


def write_folder(module: nn.Module, folder: Path) -> Path:
    """A folder as timm's ``save_for_hf`` writes it, with a normalisation of its own."""
    folder.mkdir()
    config = {
        "architecture": SMALL,
        "num_classes": 4,
        "num_features": 96,
        "pretrained_cfg": {
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "input_size": [3, 96, 96],
            "classifier": "fc",
        },
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    head = {"fc.weight": torch.ones(4, 96), "fc.bias": torch.ones(4)}
    save(dict(module.state_dict()) | head, folder / "model.safetensors")
    return folder


def test_a_local_folder_brings_weights_and_normalisation(trained: Backbone, tmp_path: Path, silent_hub: None) -> None:
    model = make_model(f"local-dir:{write_folder(trained.module, tmp_path / 'mine')}")
    assert find_weights(model) == "folder"
    found = build_backbone(model)
    assert (found.spec.mean, found.spec.std, found.spec.size_px) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 96)
    wanted = embed(trained.module, draw_images())
    torch.testing.assert_close(embed(found.module, draw_images()), wanted, rtol=0, atol=0)


def test_a_local_folder_that_lacks_a_file_is_refused(trained: Backbone, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no config\.json in .*nowhere.*Fix"):
        build_backbone(make_model(f"local-dir:{tmp_path / 'nowhere'}"))
    folder = write_folder(trained.module, tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"could not be built.*model\.weights=FILE"):
        build_backbone(make_model(f"local-dir:{folder}"))


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)


def point_at(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub)
    template = f"{hub}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def closed_hub(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> None:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    point_at(f"http://127.0.0.1:{port}", monkeypatch)


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> Iterator[None]:
    """A server that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        point_at(f"http://127.0.0.1:{server.getsockname()[1]}", monkeypatch)
        yield


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch, empty_cache: None, tmp_path: Path) -> Iterator[None]:
    """A server that answers everything with 404."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the names are those of the library

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        point_at(f"http://127.0.0.1:{server.server_address[1]}", monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("hub", ["closed_hub", "silent_hub"])
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "hf-hub:somebody/something"])
def test_a_hub_that_is_away_is_an_error_that_names_the_file_option(
    hub: str, name: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(hub)
    model = make_model(name, pretrained=True, hub_timeout_s=0.2)
    assert find_weights(model) is None
    with pytest.raises(WeightsError) as caught:
        build_backbone(model)
    message = str(caught.value)
    assert message == str(describe_missing_weights(model))
    for words in (name, huggingface_hub.constants.ENDPOINT, "0.2 s", "--set model.weights=FILE", "pretrained=false"):
        assert words in message


def test_a_hub_that_answers_without_the_weights_is_an_error_that_names_the_file_option(empty_hub: None) -> None:
    model = make_model("mobilenetv3_small_050", pretrained=True)
    assert find_weights(model) == "hub"
    with pytest.raises(WeightsError, match=r"mobilenetv3_small_050.*model\.weights=FILE"):
        build_backbone(model)


def test_from_scratch_asks_nobody(silent_hub: None) -> None:
    model = make_model(hub_timeout_s=600)
    assert find_weights(model) == "none"
    build_backbone(model)


def test_a_downloaded_copy_is_used_when_the_hub_is_away(
    trained: Backbone, tmp_path: Path, silent_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(trained.module, tmp_path / "snapshot")
    asked: list[str] = []

    def find(repository: str, file: str, **_: object) -> object:
        asked.append(repository)
        return str(folder / file) if (folder / file).is_file() else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", find)
    wanted = embed(trained.module, draw_images())
    for name in (SMALL, "hf-hub:somebody/something"):
        model = make_model(name, pretrained=True, hub_timeout_s=600)
        assert find_weights(model) == "cache"
        torch.testing.assert_close(embed(build_backbone(model).module, draw_images()), wanted, rtol=0, atol=0)
    assert set(asked) == {timm.get_pretrained_cfg(SMALL).hf_hub_id, "somebody/something"}


@pytest.mark.parametrize("name", ["mobilnetv2_100", "mobilenetv2_100.bogus", "resnet", ""])
def test_a_backbone_that_timm_lacks_is_refused_before_the_hub_is_asked(name: str, silent_hub: None) -> None:
    for pretrained in (True, False):
        model = make_model(name, pretrained=pretrained, without_weights="scratch", hub_timeout_s=600)
        for act in (find_weights, build_backbone):
            with pytest.raises(WeightsError, match="timm has no"):
                act(model)
    with pytest.raises(WeightsError, match="mobilenetv2_100"):
        build_backbone(make_model("mobilnetv2_100"))


# --- real weights -------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "name", "mean"),
    [
        ("mobilenetv2_100.onnxzoo7_in1k_backbone", "mobilenetv2_100", 0.485),
        ("tf_efficientnet_lite0.modelmaker_flowers5", "tf_efficientnet_lite0", 0.5),
    ],
)
def test_real_weights_files_load_strictly(folder: str, name: str, mean: float) -> None:
    path = WEIGHTS / folder / "model.safetensors"
    if not path.is_file():
        pytest.skip(f"not applicable: no {path.name} of {name} beside the project")
    backbone = build_backbone(make_model(name, weights=path))
    held = safetensors.torch.load_file(path)
    state = backbone.module.state_dict()
    assert all(torch.equal(tensor, held[key].to(tensor.dtype)) for key, tensor in state.items())
    assert backbone.spec.mean[0] == mean
    assert embed(backbone.module, draw_images(2, 128)).shape == (2, 1280)
