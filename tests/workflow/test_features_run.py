"""The whole way on features: run, ladder, explanation, model, new features."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from smalti.errors import DataError
from smalti.ladder import run_ladder
from smalti.model import answer_folder, export_form, load_model
from smalti.project import Listener
from smalti.records import RunFolder
from smalti.store import read_table
from smalti.workflow import explain_run, run

pytestmark = pytest.mark.slow
FEW = ("split.folds=2", "evaluate.sites=none", "train.transfer.epochs=3")
MEMBERS = """
members:
  - {name: mean, set: [model.head=ridge]}
  - {name: asinh, set: [model.head=lda, model.transform=asinh]}
  - {name: tiles, set: [tile.size_px=64]}
  - {name: spread, set: [model.pooler=mean_spread], needs: [several_tiles]}
"""


def draw_table(folder: Path, rows: int = 40, seed: int = 0) -> Path:
    """Eight measurements of wildly different scales; the first tells the classes."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    label = np.arange(rows) % 2
    values = np.exp(rng.normal(size=(rows, 8)) + np.outer(label, [2] + 7 * [0])) * 10.0 ** np.arange(8)
    table = pd.DataFrame(values, columns=["area", "count", "share", "size", "reach", "mass", "depth", "bend"])
    table.insert(0, "label", np.where(label, "b", "a"))
    table.insert(0, "slide", [f"s{seed}-{i:02d}" for i in range(rows)])
    table.to_csv(folder / "features.csv", index=False)
    return folder


def draw_bags(folder: Path, bags: int = 24, size: int = 5) -> Path:
    """Bags of three to eight tiles with places; one tile of class b is moved."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for i in range(bags):
        values = rng.normal(size=(int(rng.integers(3, 9)), size)).astype(np.float16)
        values[0, 0] += 6 * (i % 2)
        with h5py.File(folder / f"s{i:02d}.h5", "w") as file:
            file.create_dataset("features", data=values)
            file.create_dataset(
                "coords", data=256 * np.stack([np.arange(len(values)), np.full(len(values), i)], axis=1)
            )
            file["coords"].attrs["patch_size_level0"] = 256
            file.attrs["encoder"] = "drawn"
        rows.append((f"s{i:02d}", "ab"[i % 2]))
    pd.DataFrame(rows, columns=["slide", "label"]).to_csv(folder / "labels.csv", index=False)
    return folder


def test_a_table_becomes_a_portfolio_and_a_model_that_answers_elsewhere(tmp_path: Path) -> None:
    data = draw_table(tmp_path / "data")
    (tmp_path / "few.yaml").write_text(MEMBERS, encoding="utf-8")
    settings = (f"portfolio.members={tmp_path / 'few.yaml'}", "split.folds=2")
    path = run(data, "auto", settings=settings, runs=tmp_path / "runs", name="r").path
    members = read_table(path / "members.csv").set_index("member")
    assert list(members["status"]) == ["done", "done", "left out", "left out"]
    assert "features have no pixels" in str(members.loc["tiles", "reason"])
    moved = tmp_path / "moved"
    shutil.copytree(path / "model", moved)
    model = load_model(moved)
    new = draw_table(tmp_path / "new", seed=1)
    found = answer_folder(model, new, tmp_path / "out").table
    assert list(found["image"]) == [f"s1-{i:02d}" for i in range(40)]
    assert (found["refused"] == "").mean() > 0.9
    numbers = pd.read_csv(new / "features.csv")[list(model.record.features.columns)]  # type: ignore[union-attr]
    arrays = list(numbers.to_numpy(dtype=np.float64))
    said = model.predict([arrays[0], arrays[1][None], np.full(8, np.nan)])
    scores = ["score_a", "score_b"]
    assert np.allclose(said[scores].iloc[:2], found[scores].iloc[:2], atol=1e-6)
    assert said["refused"][2].startswith("unreadable")
    assert model.predict([np.zeros((2, 9))])["refused"][0].startswith("encoder")
    numbers.drop(columns="area").to_csv(new / "features.csv", index=False)
    with pytest.raises(DataError, match="lacks 'area'"):
        answer_folder(model, new, tmp_path / "out2")
    assert export_form(path, "torchscript", tmp_path / "script").difference < 1e-4


def test_bags_are_pooled_by_attention_and_explained_tile_by_tile(tmp_path: Path) -> None:
    data = draw_bags(tmp_path / "data")
    settings = ("model.pooler=attention", "model.head=steps", *FEW)
    path = run(data, "quick", settings=settings, runs=tmp_path / "runs", name="r").path
    out_of_fold = RunFolder(path).read_out_of_fold()
    answers = load_model(path).predict([data / "s00.h5", data / "s01.h5"])
    assert len(out_of_fold) == 24
    assert (answers["refused"] == "").all()
    explain_run(path, images=2)
    table = read_table(next(iter(sorted((path / "heatmaps").glob("*.csv")))))
    assert {"x", "y", "evidence: a"} <= set(table)
    drawn = json.loads(next(iter(sorted((path / "heatmaps").glob("*.geojson")))).read_text(encoding="utf-8"))
    assert len(drawn["features"]) == len(table)


def test_a_rung_that_asks_for_pixels_is_a_row_and_no_failure(tmp_path: Path) -> None:
    ladder = tmp_path / "few.yaml"
    ladder.write_text(
        "preset: quick\nset: [split.folds=2]\nrungs:\n  - {name: plain}\n"
        "  - {name: small, set: [tile.size_px=64]}\n  - {name: bent, from: plain, set: [model.transform=asinh]}\n"
        "  - {name: both, from: plain, members: [plain, small]}\n",
        encoding="utf-8",
    )
    said: list[str] = []
    data = draw_table(tmp_path / "data")
    _, result = run_ladder(data, ladder, runs=tmp_path / "runs", listener=Listener(say=said.append))
    assert [rung.status for rung in result.rungs] == ["done", "not applicable", "done", "not applicable"]
    assert "features have no pixels" in str(result.rungs[1].error)
    assert not any("failed" in line for line in said)
