"""A model in forms of other tools: each says what the model says, on its own; what a form cannot hold is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

from formed import RUNS
from smalti import cli, workflow
from smalti.errors import MissingExtraError, PartError, RunError
from smalti.model.forms.build import build_scorer
from smalti.model.forms.export import export_form
from smalti.model.scorer import turn_square
from smalti.models import POOLERS, looks_at_places
from smalti.records.layout import MODEL, MODEL_RECORD, TEST
from smalti.samples import normalise_tiles
from smalti.samples.augment import turn_tile
from smalti.store import read_table
from smalti.types import score_columns

ALONE = """
import sys, torch
tiles = torch.load(sys.argv[2], weights_only=True)
torch.save(torch.jit.load(sys.argv[1])(tiles), sys.argv[3])
assert not {"smalti", "timm"} & set(sys.modules)
"""


def ask(folder: Path, tiles: torch.Tensor, *, member: str | None = None) -> NDArray[np.float32]:
    """The logits of the model itself."""
    with torch.inference_mode():
        logits: NDArray[np.float32] = build_scorer(folder, member=member).scorer(tiles).numpy()
    return logits


@pytest.mark.parametrize("turn", range(8))
def test_symmetries_are_those_of_training(turn: int) -> None:
    tile = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    turned = turn_square(torch.from_numpy(tile).permute(2, 0, 1)[None], turn)[0].permute(1, 2, 0)
    assert np.array_equal(turned.numpy(), turn_tile(tile, turn))


def test_one_pooler_looks_at_places() -> None:
    poolers = {entry.name: POOLERS.build(entry.name, 32, 2).eval() for entry in POOLERS}
    with torch.inference_mode():
        looking = {name for name, pooler in poolers.items() if looks_at_places(pooler, features=32)}
    assert looking == {"set_transformer"}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_module_gives_the_scores_of_the_run(forms: Path, name: str) -> None:
    built = build_scorer(forms / name / MODEL)
    columns = score_columns(built.record.classes)
    wanted = read_table(forms / name / TEST).groupby("image")[columns].mean()
    experiment = workflow.reopen(forms / "plain")
    for image in wanted.index:
        rows = experiment.store.rows(experiment.store.position(image))
        tiles = torch.from_numpy(experiment.store.read_rows(rows.start, rows.stop, masked=False))
        with torch.inference_mode():
            scores = built.scorer(normalise_tiles(tiles, spec=built.spec)[None]).softmax(dim=1)[0].numpy()
        assert np.allclose(scores, wanted.loc[image], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_onnx_runs_in_onnxruntime_for_any_number_of_images_and_tiles(forms: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export_form(forms / "together" / MODEL, "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    for images, count in ((1, 1), (3, 2), (2, 9)):
        tiles = torch.randn(images, count, 3, 64, 64)
        logits = session.run(None, {"tiles": tiles.numpy()})[0]
        assert np.allclose(logits, ask(forms / "together" / MODEL, tiles), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_torchscript_runs_with_torch_alone(forms: Path, tmp_path: Path) -> None:
    export_form(forms / "rich" / MODEL, "torchscript", tmp_path / "out")
    tiles = torch.randn(3, 5, 3, 64, 64)
    torch.save(tiles, tmp_path / "tiles")
    files = [str(tmp_path / name) for name in ("out/model.torchscript.pt", "tiles", "said")]
    subprocess.run([sys.executable, "-I", "-W", "ignore", "-c", ALONE, *files], check=True)
    said = torch.load(tmp_path / "said", weights_only=True)
    assert np.allclose(said.numpy(), ask(forms / "rich" / MODEL, tiles), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_folder_of_wsinfer_is_valid_and_gives_logits(forms: Path, tmp_path: Path) -> None:
    zoo = pytest.importorskip("wsinfer_zoo.client")
    with pytest.raises(PartError, match=r"microns per pixel.*Fix: --mpp"):
        export_form(forms / "together" / MODEL, "wsinfer", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_form(forms / "together" / MODEL, "wsinfer", tmp_path / "out", mpp=0.5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    zoo.validate_config_json(config)
    assert (config["spacing_um_px"], config["num_classes"]) == (0.5, len(config["class_names"]))
    spec = build_scorer(forms / "together" / MODEL).spec
    assert config["transform"][2]["arguments"] == {"mean": list(spec.mean), "std": list(spec.std)}
    tiles = torch.randn(4, 3, 64, 64)
    with pytest.warns(FutureWarning):  # torch calls TorchScript outdated
        network = torch.jit.load(tmp_path / "out" / "torchscript_model.pt")
    with torch.inference_mode():
        logits = network(tiles).numpy()
    assert np.allclose(logits, ask(forms / "together" / MODEL, tiles[:, None]), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_timm_loads_its_folder(forms: Path, tmp_path: Path) -> None:
    with pytest.raises(PartError, match=r"this model is 2\. Fix: --network"):
        export_form(forms / "plain" / MODEL, "hub-folder", tmp_path / "out")
    export_form(forms / "plain" / MODEL, "hub-folder", tmp_path / "out", network="fold1-seed0")
    network = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    built = build_scorer(forms / "plain" / MODEL, network="fold1-seed0")
    tiles = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(network(tiles).log_softmax(dim=1), built.scorer(tiles[:, None]), rtol=0, atol=1e-4)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["label_names"] == list(built.record.classes)


@pytest.mark.slow
def test_a_folder_of_timm_holds_no_views(forms: Path, tmp_path: Path) -> None:
    model = change(forms / "plain" / MODEL, tmp_path / "model", predict={"views": 4})
    with pytest.raises(PartError, match="averages 4 views"):
        export_form(model, "hub-folder", tmp_path / "out", network="fold1-seed0")


@pytest.mark.slow
def test_one_member_alone_says_what_its_own_run_says(forms: Path) -> None:
    tiles = torch.randn(2, 3, 3, 64, 64)
    alone = ask(forms / "together" / MODEL, tiles, member="rich")
    assert np.allclose(alone, ask(forms / "rich" / MODEL, tiles), rtol=0, atol=1e-6)
    with pytest.raises(PartError, match=r"no member 'other'\. Fix: one of plain, rich, together"):
        build_scorer(forms / "together" / MODEL, member="other")


def change(source: Path, target: Path, **sections: dict[str, Any]) -> Path:
    """Copy a model, whose recipes then say something else."""
    shutil.copytree(source, target)
    record = json.loads((target / MODEL_RECORD).read_text())
    for member in record["members"]:
        path = target / member["recipe"]
        recipe = yaml.safe_load(path.read_text())
        for section, knobs in sections.items():
            recipe[section].update(knobs)
        path.write_text(yaml.safe_dump(recipe))
        record["files"][member["recipe"]] = hashlib.sha256(path.read_bytes()).hexdigest()
    (target / MODEL_RECORD).write_text(json.dumps(record))
    return target


@pytest.mark.slow
def test_what_no_form_can_hold_is_named_all_at_once(forms: Path, tmp_path: Path) -> None:
    model = change(
        forms / "plain" / MODEL, tmp_path / "model", stain={"normalise": "macenko"},
        tile={"source": "whole", "outside": "blur"}, model={"coverage_weights": True},
    )  # fmt: skip
    with pytest.raises(PartError) as caught:
        export_form(model, "onnx", tmp_path / "out")
    for word in ("stain.normalise=macenko", "tile.source=whole", "tile.outside=blur", "reads the mask", "Fix: "):
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_folder_that_holds_something_stays(forms: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RunError, match="holds something"):
        export_form(forms / "plain" / MODEL, "torchscript", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_missing_library_names_its_extra(forms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"smalti\[onnx\]"):
        export_form(forms / "plain" / MODEL, "onnx", tmp_path / "out")


@pytest.mark.slow
def test_the_command_writes_a_form_and_refuses_options_of_forms_for_a_folder(forms: Path, tmp_path: Path) -> None:
    runner, run = CliRunner(), str(forms / "plain")
    done = runner.invoke(cli.app, ["export", run, "--to", "torchscript", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "differ by" in done.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.torchscript.pt"]
    wrong = runner.invoke(cli.app, ["export", run, "--to", str(tmp_path / "model"), "--mpp", "0.5"])
    assert wrong.exit_code == 2
    assert "--mpp with --to" in wrong.output
    assert not (tmp_path / "model").exists()
    nothing = runner.invoke(cli.app, ["export", str(tmp_path), "--to", "onnx"])
    assert (nothing.exit_code, "is no run folder and holds no model" in nothing.output) == (2, True)
