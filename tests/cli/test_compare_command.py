"""Ladder, comparison and the opening of the seal as a person meets them on the command line."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from pages import without_pages
from smalti import cli
from smalti.logbook import resolve_run
from smalti.logbook.seal import read_seal
from smalti.store import read_table
from textures import CLASSES, FAST, write_lines

SETTINGS = (
    *FAST,
    "train.finetune.epochs=0",
    "train.transfer.epochs=4",
    "evaluate.resamples=100",
    "split.sealed_frac=0.25",
    "audit.checks=[]",
)
SET = [word for setting in SETTINGS for word in ("--set", setting)]
LADDER = """
preset: quick
rungs:
  - {name: tiles, change: "[bold]tiles[/] at full resolution"}
  - {name: shrunk, set: [tile.source=whole]}
  - {name: broken, from: tiles, set: [train.transfer.optimiser=adamww]}
"""
COLUMNS = [f"score_{c}" for c in CLASSES]

Invoke = Callable[..., Any]


def run_command(*words: str | Path) -> Any:
    """One command; wide terminal, so that tables do not wrap."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["smalti", *map(str, words)])
        patch.setattr(cli.console, "out", Console(highlight=False, width=300))
        patch.setattr(cli.console, "err", Console(stderr=True, highlight=False, width=300))
        return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module", autouse=True)
def no_report() -> Iterator[None]:
    with without_pages():
        yield


@pytest.fixture(scope="module")
def climbed(challenge: Path, tmp_path_factory: pytest.TempPathFactory, no_report: None) -> SimpleNamespace:
    """What ``smalti ladder`` says and leaves, with a quarter of the cases sealed; read only."""
    place = tmp_path_factory.mktemp("command")
    file, runs = write_lines(place / "two.yaml", LADDER), place / "runs"
    result = run_command("ladder", challenge, "--ladder", file, "--runs", runs, *SET)
    assert result.exit_code == 1, result.output  # one rung fails
    content = json.loads((runs / "textures-ladder-two" / "ladder.json").read_text(encoding="utf-8"))
    names = {row["name"]: row["run"] for row in content["rungs"]}
    return SimpleNamespace(data=challenge, file=file, runs=runs, result=result, content=content, names=names)


@pytest.fixture
def compare(climbed: SimpleNamespace) -> Invoke:
    return lambda *words: run_command("compare", *words, "--runs", climbed.runs)


@pytest.fixture(scope="module")
def table(climbed: SimpleNamespace) -> pd.DataFrame:
    """Out-of-fold predictions of the first rung."""
    return read_table(climbed.runs / climbed.names["tiles"] / "predictions" / "out_of_fold.csv")


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def score(table: pd.DataFrame) -> float:
    guesses = np.array(CLASSES)[table[COLUMNS].to_numpy().argmax(axis=1)]
    return float(f1_score(table["label"], guesses, average="macro"))


# --- ladder -------------------------------------------------------------------------------------------------------


def test_ladder_shows_every_rung_with_score_difference_and_cost(climbed: SimpleNamespace) -> None:
    rows = {row["name"]: row for row in climbed.content["rungs"]}
    text = climbed.result.stdout
    for name in ("tiles", "shrunk"):
        found = rows[name]["metrics"]["macro_f1"]
        assert re.search(rf"│ {name} .*{found['value']:.3f}", text)
        assert f"{found['low']:.3f} to {found['high']:.3f}" in text
    difference = rows["shrunk"]["difference"]["macro_f1"]
    assert f"{difference['value']:+.3f}" in text
    assert difference["verdict"] in text
    assert "[bold]tiles[/] at full resolution" in text  # brackets of a person are text
    assert re.search(r"│ broken .*failed", text)
    assert re.search(r"failed: +broken", climbed.result.stderr)
    where, then = text.strip().splitlines()[-2:]
    assert re.match(r"result: .*ladder\.json.*textures-ladder-two", where)
    assert re.match(r"next:   open .*textures-ladder-two", then)
    assert f"{climbed.content['n_images']} images, {climbed.content['n_cases']} cases" in text


def test_a_seal_of_the_ladder_holds_for_all_of_its_rungs(climbed: SimpleNamespace) -> None:
    seal = read_seal(climbed.runs / "textures.seal.json")
    assert seal is not None
    assert seal.runs_before == ()
    for name in ("tiles", "shrunk"):
        samples = read_table(climbed.runs / climbed.names[name] / "samples.csv")
        assert set(samples.loc[samples["part"] == "sealed", "image"]) == set(seal.images)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ladder", "chalenge"], r"no ladder is called 'chalenge'.*Fix.*frozen"),
        (["--set", "split.fold=3"], r"split\.fold.*Did you mean split\.folds"),
        (["--until", "tile"], r"no rung 'tile'.*Fix.*tiles"),
    ],
)
def test_a_slip_ends_with_two_before_anything_is_run(
    words: list[str], message: str, climbed: SimpleNamespace, tmp_path: Path
) -> None:
    result = run_command("ladder", climbed.data, "--ladder", climbed.file, "--runs", tmp_path / "runs", *words)
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.stderr.split()))
    assert "result:" not in result.stdout
    assert not (tmp_path / "runs").exists()


# --- compare ------------------------------------------------------------------------------------------------------


def test_runs_are_compared_by_name_path_and_alias(climbed: SimpleNamespace, compare: Invoke, tmp_path: Path) -> None:
    first, second = climbed.names["tiles"], climbed.names["shrunk"]
    result = compare(first, climbed.runs / second, "best", "--to", tmp_path / "out")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "comparison.json").read_text(), parse_constant=refuse_constant)
    best = resolve_run(climbed.runs, "best").name
    assert content["names"][:2] == [first, second]
    assert content["names"][2] == f"{best} (2)"
    assert [row["against"] for row in content["rows"]] == [None, first, first]
    values = [row["metrics"]["macro_f1"]["value"] for row in content["rows"]]
    tables = [read_table(climbed.runs / n / "predictions" / "out_of_fold.csv") for n in (first, second, best)]
    assert values == pytest.approx([score(t) for t in tables])
    found = content["rows"][1]["difference"]["macro_f1"]
    assert found["value"] == pytest.approx(values[1] - values[0])
    # The ladder compared the same two.
    row = climbed.content["rungs"][1]["difference"]["macro_f1"]
    assert {k: found[k] for k in ("value", "p", "low")} == pytest.approx({k: row[k] for k in ("value", "p", "low")})
    for text in (first, f"{found['value']:+.3f}", found["verdict"], f"p {found['p']:.3f}", "paired by case"):
        assert text in result.stdout
    assert "not to be trusted" in result.stdout
    where, then = result.stdout.strip().splitlines()[-2:]
    assert re.match(r"result: .*comparison\.json", where)
    assert re.match(r"next: +smalti logbook", then)


@pytest.mark.parametrize("columns", [["image", "label", *COLUMNS], ["image", *COLUMNS], ["image", "predicted"]])
def test_tables_of_other_tools_take_what_they_lack_from_the_run(
    columns: list[str], climbed: SimpleNamespace, table: pd.DataFrame, compare: Invoke, tmp_path: Path
) -> None:
    """The same predictions again, without cases, labels, scores: the difference is nothing."""
    guesses = np.array(CLASSES)[table[COLUMNS].to_numpy().argmax(axis=1)]
    table.assign(predicted=guesses)[columns].sample(frac=1, random_state=0).to_csv(tmp_path / "other.csv", index=False)
    result = compare(climbed.names["tiles"], tmp_path / "other.csv", "--to", tmp_path)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=refuse_constant)
    assert content["names"][1] == "other"
    assert content["n_cases"] == table["case"].nunique()
    assert content["rows"][1]["path"] == str(tmp_path / "other.csv")
    found = content["rows"][1]["difference"]["macro_f1"]
    assert (found["value"], found["p"], found["verdict"]) == (0, 1, "no verdict")
    assert "fold" in found["why"]  # which the table lacks
    assert found["smallest_detectable"] is None


def test_what_does_not_fit_is_refused_with_the_images(
    climbed: SimpleNamespace, table: pd.DataFrame, compare: Invoke, tmp_path: Path
) -> None:
    path = tmp_path / "short.csv"
    lost, wrong = table["image"].iloc[:2], table["image"].iloc[5]
    changed = table[~table["image"].isin(lost)].copy()
    label = changed.loc[changed["image"] == wrong, "label"].item()
    changed.loc[changed["image"] == wrong, "label"] = CLASSES[(CLASSES.index(label) + 1) % 3]
    changed.to_csv(path, index=False)
    result = compare(climbed.names["tiles"], path)
    assert result.exit_code == 2
    for text in (*lost, wrong, "--common", "labels differ"):
        assert text in result.stderr
    assert "result:" not in result.stdout
    table[~table["image"].isin(lost)].to_csv(path, index=False)
    result = compare(climbed.names["tiles"], path, "--common", "--to", tmp_path)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=refuse_constant)
    assert content["n_images"] == len(table) - 2
    assert any("2 images that others lack are left out" in note for note in content["notes"])
    assert content["rows"][0]["metrics"]["macro_f1"]["value"] == pytest.approx(score(table[~table["image"].isin(lost)]))


def test_images_that_only_a_table_has_need_no_label_there(
    climbed: SimpleNamespace, table: pd.DataFrame, compare: Invoke, tmp_path: Path
) -> None:
    """As another tool writes it: the unlabelled images too, and no labels at all."""
    run = climbed.runs / climbed.names["tiles"] / "predictions"
    more = read_table(run / "test.csv").query("fold == 0")
    pd.concat([table, more])[["image", *COLUMNS]].to_csv(tmp_path / "all.csv", index=False)
    result = compare(climbed.names["tiles"], tmp_path / "all.csv", "--common", "--to", tmp_path)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=refuse_constant)
    assert content["n_images"] == len(table)
    assert f"all: {len(more)} images that others lack are left out" in content["notes"]


def test_nothing_to_compare_with_is_an_error(climbed: SimpleNamespace, compare: Invoke, tmp_path: Path) -> None:
    other = write_lines(tmp_path / "o.csv", "image,label,score_x,score_y", "i0,x,0.6,0.4", "i1,y,0.2,0.8")
    far = write_lines(tmp_path / "f.csv", "image,label,score_A,score_B,score_C", "i0,A,1,0,0", "i1,B,0,1,0")
    first = climbed.names["tiles"]
    for words, message in (
        ([first], r"nothing to be compared with.*Fix"),
        ([first, "nowhere"], r"nowhere.*Fix"),
        ([first, tmp_path / "absent.csv"], r"absent\.csv.*Fix"),
        ([first, other], r"x, y.*A, B, C"),
        ([first, far, "--common"], r"no image in common"),
    ):
        result = compare(*words)
        assert result.exit_code == 2, words
        assert re.search(message, " ".join(result.stderr.split()))
        assert "Traceback" not in result.output


# --- the seal -----------------------------------------------------------------------------------------------------


def test_opening_the_seal_is_said_recorded_and_warned_about_when_repeated(
    climbed: SimpleNamespace, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(climbed.runs, tmp_path / "runs"))
    names = [climbed.names["tiles"], climbed.names["shrunk"]]
    for count in (1, 2):
        result = run_command("compare", *names, "--open-seal", "--runs", runs)
        assert result.exit_code == 0, result.output
        seal = read_seal(runs / "textures.seal.json")
        assert seal is not None
        assert len(seal.openings) == count
        assert ("opened 2 times" in " ".join(result.stderr.split())) == (count == 2)
        value = seal.openings[-1].scores[names[0]]["macro_f1"].value
        for text in (*names, f"{value:.3f}", f"{seal.n_images} images, {seal.n_cases} cases", "on the sealed cases"):
            assert text in result.stdout
    single = run_command("compare", names[0], "--open-seal", "--runs", runs)  # one is enough here
    assert single.exit_code == 0, single.output


def test_without_a_seal_there_is_nothing_to_open(climbed: SimpleNamespace, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(climbed.runs, tmp_path / "runs"))
    (runs / "textures.seal.json").unlink()
    result = run_command("compare", climbed.names["tiles"], "--open-seal", "--runs", runs)
    assert result.exit_code == 2
    assert re.search(r"nothing is sealed.*Fix: --set split\.sealed_frac", " ".join(result.stderr.split()))
