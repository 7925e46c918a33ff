"""Encoders: what their records make, the ways to their weights, and what is said before any work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import save_file
from timm.models import save_for_hf
from typer.testing import CliRunner

from smalti import recipe
from smalti.cli import app, console
from smalti.errors import PartError, WeightsError
from smalti.licences import find_weights as find_licence
from smalti.licences import list_weights
from smalti.models import (
    ENCODERS,
    Encoder,
    backbones,
    build_backbone,
    build_encoder,
    check_weights,
    describe_architecture,
    find_encoder,
    find_weights,
    hash_weights,
    name_encoder,
    read_input_px,
    restore_backbone,
)
from smalti.models.encoders.fetching import create_encoder
from smalti.models.encoders.tokens import take_tokens

RECORDS = [entry.build() for entry in ENCODERS]
BUILT = [encoder for encoder in RECORDS if encoder.architecture]
SMALL = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2, "reg_tokens": 3}
SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu", "mlp_ratio": 2.0, "init_values": 1e-5}


def make_small(encoder: Encoder, **options: Any) -> Encoder:
    """The encoder with a network that is built in a moment; all else stays as it is."""
    return replace(encoder, features=24, size_px=32, options={**encoder.options, **SMALL, **SWIGLU, **options})


@pytest.fixture
def small_virchow(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    encoder = make_small(ENCODERS.build("virchow2"))
    for place in ("smalti.models.backbones", "smalti.models.assembly"):
        monkeypatch.setattr(f"{place}.find_encoder", lambda name: encoder if name == "virchow2" else None)
    return encoder


@pytest.mark.parametrize("encoder", BUILT, ids=lambda encoder: encoder.name)
def test_an_architecture_gives_the_features_that_its_record_says(encoder: Encoder) -> None:
    """On the meta device, with one block, which changes no shape outside it."""
    if "vit" in encoder.architecture and not encoder.by_timm:
        encoder = replace(encoder, options={**encoder.options, "depth": 1})
    with torch.device("meta"):
        network: Any = create_encoder(encoder) if not encoder.by_timm else timm.create_model(
            encoder.architecture, num_classes=0, depth=1
        )  # fmt: skip
        tiles = torch.empty(2, 3, encoder.spec.size_px, encoder.spec.size_px)
        assert network.eval()(tiles).shape == (2, encoder.features)
    if encoder.by_timm:
        config = network.pretrained_cfg
        assert (config["input_size"][-1], config["mean"], config["std"]) == (encoder.size_px, *encoder.colours)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "millions"), [("uni2-h", 681), ("virchow2", 631)])
def test_a_network_is_as_large_as_its_authors_say(name: str, millions: int) -> None:
    with torch.device("meta"):
        found = sum(p.numel() for p in create_encoder(ENCODERS.build(name)).parameters()) / 1e6
    assert found == pytest.approx(millions, rel=0.005)


def test_registers_do_not_count_in_the_mean_of_the_patches() -> None:
    """Class token and mean, against the tokens that timm's network returns without pooling."""
    options = {**SMALL, "mlp_ratio": 2.0, "init_values": 1e-5, "num_classes": 0}
    torch.manual_seed(0)
    plain: Any = timm.create_model("vit_tiny_patch16_224", global_pool="", **options).eval()
    tiles = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        tokens = plain(tiles)
        assert tokens.shape == (2, 1 + 3 + 4, 24)
        wanted = {
            "class": tokens[:, 0],
            "mean": tokens[:, 4:].mean(dim=1),
            "class+mean": torch.cat([tokens[:, 0], tokens[:, 4:].mean(dim=1)], dim=1),
        }
        for embedding, values in wanted.items():
            encoder = Encoder(
                "x", None, embedding=embedding, architecture="vit_tiny_patch16_224",  # type: ignore[arg-type]
                options={key: value for key, value in options.items() if key != "num_classes"},
            )  # fmt: skip
            network = create_encoder(encoder).eval()
            network.load_state_dict(plain.state_dict())
            torch.testing.assert_close(network(tiles), values, rtol=0, atol=0)
    with pytest.raises(PartError, match="no tokens"):
        take_tokens(timm.create_model("test_resnet"), "mean")


def test_names_ids_and_aliases_find_the_same_record() -> None:
    for name in ("uni2-h", "UNI2-h", "uni_v2", "hf-hub:MahmoodLab/UNI2-h"):
        found = find_encoder(name)
        assert found is not None
        assert found.name == "uni2-h"
        assert read_input_px(recipe.Model(backbone=name)) == 224
    assert find_encoder("vit_small_patch14_dinov2") is None
    assert find_encoder("hf-hub:somebody/something") is None
    assert read_input_px(recipe.Model(backbone="dinov2-s")) == 518


def test_each_row_of_an_encoder_has_a_record_and_each_record_a_row() -> None:
    rows = [row for row in list_weights() if row.also]
    assert {row.also[0] for row in rows} == {encoder.name for encoder in RECORDS}
    names = [name.lower() for row in rows for name in row.also]
    assert len(set(names)) == len(names)  # no name means two encoders
    assert find_licence("uni2-h", file="mine.safetensors").commercial == "no"
    assert find_licence("h-optimus-0").commercial == "yes"


def test_weights_of_a_file_and_of_a_folder_give_the_same_bytes(small_virchow: Encoder, tmp_path: Path) -> None:
    """A file goes through the record; the folder of timm's layout through what it says itself."""
    torch.manual_seed(1)
    trained: Any = create_encoder(small_virchow)
    save_file({k: v.contiguous() for k, v in trained.state_dict().items()}, tmp_path / "model.safetensors")
    built = build_encoder("virchow2", weights=tmp_path / "model.safetensors")
    assert hash_weights(built.module) == hash_weights(trained.to(memory_format=torch.channels_last))
    assert (built.features, built.spec) == (48, small_virchow.spec)
    assert not built.module.training

    options = {k: v for k, v in small_virchow.options.items() if k != "mlp_layer"}
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, **{**options, "act_layer": "gelu"})
    save_for_hf(plain, tmp_path / "mine", model_args={**options, "act_layer": "gelu", "num_classes": 0})
    read = build_encoder(f"local-dir:{tmp_path / 'mine'}")
    tiles = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(read.module(tiles), plain.eval()(tiles))


def test_a_folder_that_gives_tokens_is_refused(tmp_path: Path) -> None:
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="", **SMALL)
    save_for_hf(network, tmp_path, model_args={**SMALL, "global_pool": "", "num_classes": 0})
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["pretrained_cfg"]["input_size"] = [3, 32, 32]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"gives \(1, 8, 24\) for a tile"):
        build_encoder(f"local-dir:{tmp_path}")


@pytest.mark.slow  # other networks are tried for the message
def test_weights_of_another_network_are_refused(small_virchow: Encoder, tmp_path: Path) -> None:
    other = create_encoder(replace(small_virchow, options={**small_virchow.options, "reg_tokens": 0}))
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="1 missing"):
        build_encoder("virchow2", weights=tmp_path / "w.safetensors")


def test_a_model_folder_builds_it_again(small_virchow: Encoder) -> None:
    model = recipe.Model(backbone="virchow2", pretrained=False, embedding="last")
    built = build_backbone(model)
    architecture, options = describe_architecture(built)
    assert architecture == "vit_huge_patch14_224"
    again = restore_backbone(
        model, architecture=architecture, options=json.loads(json.dumps(options)), features=built.features,
        spec=built.spec, weights=built.module.state_dict(),
    )  # fmt: skip
    assert hash_weights(again.module) == hash_weights(built.module)


def refuse(model: recipe.Model) -> str:
    with pytest.raises(WeightsError) as caught:
        check_weights(model)
    return str(caught.value)


def test_a_silent_hub_and_a_closed_gate_are_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "_reach_hub", lambda timeout_s: False)
    said = refuse(name_encoder("uni2-h"))
    for word in ("https://huggingface.co/MahmoodLab/UNI2-h", "CC-BY-NC-ND-4.0", "commercial use: no", "HF_TOKEN",
                 "local-dir:FOLDER", "FOLDER/model.safetensors", "agreement"):  # fmt: skip
        assert word in said
    assert "commercial use: yes" in refuse(name_encoder("h-optimus-0"))

    asked: list[str] = []

    def close(repo_id: str) -> None:
        asked.append(repo_id)
        response = type("Response", (), {"headers": {}, "request": None, "status_code": 403})()
        raise GatedRepoError("gated", response=response)

    monkeypatch.setattr(backbones, "_reach_hub", lambda timeout_s: True)
    monkeypatch.setattr(huggingface_hub, "auth_check", close)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "there is no token here" in refuse(name_encoder("virchow"))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    assert "was not let in" in refuse(name_encoder("virchow"))
    assert asked == ["paige-ai/Virchow"] * 2
    monkeypatch.setattr(huggingface_hub, "auth_check", lambda repo_id: None)
    check_weights(name_encoder("virchow"))
    assert find_weights(name_encoder("virchow")) == "hub"


def test_what_timm_cannot_build_or_load_is_refused_by_name(tmp_path: Path) -> None:
    assert "github.com/lilab-stanford/MUSK" in refuse(name_encoder("musk"))
    assert "names of transformers" in refuse(name_encoder("phikon-v2"))
    assert "no weights file" in refuse(name_encoder("uni", weights=tmp_path / "nothing.bin"))
    with pytest.raises(WeightsError, match="features of tiles"):
        build_encoder("titan")
    for encoder in RECORDS:
        if not encoder.architecture:
            assert encoder.terms.licence in refuse(name_encoder(encoder.name))


def test_a_downloaded_copy_is_taken_without_asking(
    small_virchow: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = create_encoder(small_virchow)
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda hub_id, file: str(tmp_path / file))
    monkeypatch.setattr(backbones, "_reach_hub", lambda timeout_s: pytest.fail("asked"))
    built = build_encoder("virchow2")
    assert built.note is not None
    assert "virchow2 from the hub" in built.note
    assert hash_weights(built.module) == hash_weights(trained.to(memory_format=torch.channels_last).eval())


@pytest.mark.slow
def test_a_run_is_refused_before_its_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "_reach_hub", lambda timeout_s: False)
    done = CliRunner().invoke(
        app, ["run", str(tmp_path / "no-data"), "--set", "model.backbone=uni2-h", "--runs", str(tmp_path / "runs")]
    )
    assert done.exit_code
    assert "MahmoodLab/UNI2-h" in "".join(done.output.split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_parts_lists_encoders_with_licence_and_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "width", 240)
    done = CliRunner().invoke(app, ["parts", "encoders"])
    assert done.exit_code == 0, done.output
    assert f"{len(RECORDS)} rows" in done.output
    line = next(line for line in done.output.splitlines() if "uni2-h" in line)
    for word in ("1536 features", "CC-BY-NC-ND-4.0", "commercial no", "gated"):
        assert word in line
    assert CliRunner().invoke(app, ["parts", "flavours"]).exit_code == 2
