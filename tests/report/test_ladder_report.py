"""The pages of a ladder and of many runs: every number of the JSON, failures included, and nothing naked."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from smalti.errors import RunError
from smalti.logbook import Entry
from smalti.metrics import METRICS
from smalti.records import Margin
from smalti.records.studies.comparison import Comparison
from smalti.records.studies.ladder import LadderResult
from smalti.report import write_ladder_report, write_report, write_runs_report
from smalti.store import write_atomic, write_json, write_table
from test_report import CLASSES, build_run, parse

pytestmark = pytest.mark.slow

SHARES = dict(zip(CLASSES, (0.2, 0.4, 0.28, 0.12), strict=True))
NASTY = r"{whole_50%} & $x_1$ \end{document} #~^<b>naïve</b>"
LONG = "default-with-a-very-long-name_that_nobody_would_break_by_hand_0123456789abcdef0123456789abcdef"
SCORES = (
    0.3124,
    0.4722,
    0.5653,
    0.5771,
    0.5204,
    0.6011,
    0.6402,
    0.6309,
    0.6833,
    0.5902,
    0.6401,
    0.7217,
    0.7301,
    0.7288,
)
STEPS = (
    ("start", "mask box shrunk to 128 px, everything opened at once", "preset=start"),
    ("tiles", "full-resolution tiles under the mask instead of a shrunk image", "tile.source=tiles"),
    ("transfer", "frozen features first, then fine-tuning", "train.transfer.epochs=60"),
    ("colour", "flips, turns and stain jitter while fine-tuning", "train.finetune.augmentation=flips_colour"),
    ("refit", "learn once more from training and inner cases", "train.refit=true"),
    ("thresholds", "thresholds per class, fitted on inner images", "predict.decision=thresholds"),
    ("average", "mean of the scores of three recipes", "ensemble.members=[a,b,c]"),
)


def draw_interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def draw_margin(value: float, half: float) -> dict[str, Any]:
    return {**draw_interval(value, half), "trustworthy": True, "reason": "many cases"}


def draw_difference(value: float, p: float) -> dict[str, Any]:
    verdict = "cannot tell" if p > 0.05 else "better" if value > 0 else "worse"
    more = {"p": p / 6, "p_holm": p, "smallest_detectable": 0.0734, "verdict": verdict, "why": "", "p_equal": 1.0}
    return {**draw_interval(value, 0.052), **more, "margin": 0.0}


def draw_rung(position: int, name: str, change: str, setting: str, *, on: str | None) -> dict[str, Any]:
    score = SCORES[position]
    gain = score - SCORES[max(position - 1, 0)]
    p = 0.0004 if abs(gain) > 0.1 else 0.012 if abs(gain) > 0.05 else 0.61
    metrics = {e.name: draw_margin(score + 0.01 * n, 0.081) for n, e in enumerate(METRICS)}
    return {
        "name": name, "change": change, "settings": [setting], "on": on, "members": [], "status": "done", "error": None,
        "run": f"demo-{position}", "reused": position == 2, "seconds": 123.4 + position, "peak_memory_gb": 1.21,
        "n_images": 120, "n_cases": 80, "n_seeds": 2, "metrics": metrics, "optimism": 0.031, "trustworthy": True,
        "trust_reason": "80 cases, at least 9 of each class", "notes": [],
        "difference": None if on is None else {e.name: draw_difference(gain, p) for e in METRICS},
        "own": {"n_images": 120, "n_cases": 80, **metrics["macro_f1"]},
    }  # fmt: skip


def lose_rung(rung: dict[str, Any], *, status: str, error: str | None) -> None:
    empty = ("metrics", "difference", "n_images", "n_cases", "n_seeds", "optimism", "trustworthy", "own")
    rung.update(dict.fromkeys((*empty, "seconds", "peak_memory_gb", "trust_reason")), status=status, error=error)


def draw_ladder(runs: Path, *, rungs: int = 6, nasty: bool = False) -> Path:
    """A ladder folder in ``runs``: the fifth rung failed, the last waits (from six rungs up)."""
    rows: list[dict[str, Any]] = []
    for position in range(rungs):
        name, change, setting = STEPS[position % len(STEPS)]
        name = name if position < len(STEPS) else f"{name}-again"
        if nasty:
            name, setting = (f"{NASTY}{position}", f"{LONG}{position}")[position % 2], f"model.weights=/x/{LONG}.pt"
            change = f"{change}: {NASTY} ελλ 中文 \U0001f52c"
        rows.append(draw_rung(position, name, change, setting, on=rows[-1]["name"] if rows else None))
    if rungs >= 6:
        error = f"out of memory: tried 2.00 GiB_at {LONG} {NASTY}" if nasty else "CUDA out of memory: tried 2.00 GiB"
        lose_rung(rows[4], status="failed", error=error)
        lose_rung(rows[-1], status="waiting", error=None)
        rows[5]["on"] = rows[3]["name"]
        rows[2]["notes"] = ["other folds"]
        rows[2]["own"] = {"n_images": 137, "n_cases": 91, **draw_margin(0.6789, 0.05)}
    best = max((r for r in rows if r["metrics"]), key=lambda r: r["metrics"]["macro_f1"]["value"])
    classes = [f"{NASTY} B&W", "Übergang–Zelle ß", "рак", "中"] if nasty else list(CLASSES)
    folder = runs / "demo-ladder-basics"
    content = {
        "ladder": f"basics {NASTY}" if nasty else "basics", "about": "What carries the score?",
        "data": "/data/images_50%" if nasty else "/data/demo-data", "started": "2026-11-24T04:00:00+00:00",
        "finished": "2026-11-24T05:00:00+00:00", "confidence": 0.95, "alpha": 0.05, "margin": 0.0,
        "classes": classes, "unit": "image", "n_images": 120, "n_cases": 80,
        "shares": dict(zip(classes, SHARES.values(), strict=True)),
        "chance": {"majority": 0.143, "prior": 0.247, "prior_low": 0.174, "prior_high": 0.329},
        "best": best["name"], "rungs": rows,
        "choice": {"best": best["name"], "score": 0.5771, "corrected": 0.5432, "runs": 4, "optimism": 0.0339},
        "inner_choice": {"words": f"Chosen on inner images {NASTY}." if nasty else "Chosen on inner images."},
        "set_aside": {"excluded": 17}, "scoring": [f"Sentence about 17 {NASTY}." if nasty else "17 were set aside."],
    }  # fmt: skip
    LadderResult.model_validate(content).write(folder)
    return folder


def draw_entry(path: Path, position: int, *, data: str = "glas", **changes: Any) -> Any:
    value = 0.5 + 0.03 * position
    fields = {
        "name": path.name, "path": path, "kind": "run", "status": "finished", "error": "",
        "started": f"2026-11-{10 + position:02d}T10:00:00+00:00", "seconds": 61.5, "data": f"/data/{data}",
        "data_hash": f"{data}0f0f", "preset": "quick", "metrics": {"macro_f1": Margin(**draw_margin(value, 0.07))},
        "recipe": {"preset": "quick", "model.backbone": "resnet18", "train.transfer.lr": 0.001 * (1 + position // 3)},
        "chance_prior": 0.25, "optimism": 0.02, "trustworthy": True, "n_images": 85, "n_cases": 70, "n_seeds": 3,
        "device": "CPU",
    }  # fmt: skip
    return Entry(**(fields | changes))


def draw_entries(runs: Path, number: int = 7) -> list[Any]:
    entries = [draw_entry(runs / f"run-{i}", i, data="glas" if i < 5 else "bone_50%") for i in range(number)]
    entries[1] = replace(entries[1], status="failed", error="train: CUDA out of <memory> at 100 %_", metrics={})
    entries[2] = replace(entries[2], status="unfinished", error="there is no score yet", metrics={})
    return entries[::-1]


def read_words(path: Path) -> str:
    return " ".join(" ".join(parse(path.read_text(encoding="utf-8")).words).split())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder of six rungs; the run of the first rung is there with all its files."""
    runs = tmp_path_factory.mktemp("ladders") / "runs"
    folder = draw_ladder(runs)
    built = build_run(tmp_path_factory.mktemp("first"))
    shutil.copytree(built.path, runs / "demo-0")
    write_atomic(runs / "demo-0" / "report.html", "<p>the run</p>")
    write_ladder_report(folder)
    return folder


def test_tells_every_number_of_ladder_json(drawn: Path) -> None:
    words = read_words(drawn / "report.html")
    for rung in json.loads((drawn / "ladder.json").read_text(encoding="utf-8"))["rungs"]:
        assert rung["name"] in words
        assert rung["change"] in words
        assert rung["settings"][0] in words
        for metric in (rung["metrics"] or {}).values():
            assert f"{metric['value']:.3f} {metric['low']:.3f} to {metric['high']:.3f}" in words
        if rung["difference"]:
            gap = rung["difference"]["macro_f1"]
            assert f"{gap['value']:+.3f} {gap['low']:+.3f} to {gap['high']:+.3f} {gap['verdict']}" in words
            assert f"{gap['smallest_detectable']:.3f} {rung['seconds']:.0f} {rung['peak_memory_gb']:.1f}" in words


def test_the_headline_says_what_helped_what_is_noise_and_what_failed(drawn: Path) -> None:
    words = read_words(drawn / "report.html")
    assert (
        "The best rung is 'colour': macro-F1 0.58 (95 % interval 0.50 to 0.66; 120 images of 80 cases; 2 seeds" in words
    )
    assert "guessing by the shares of the classes 0.25, mostly 0.17 to 0.33)" in words
    assert "Against 'transfer', the rung it changes, it is not told apart: +0.01" in words
    assert "Of 3 compared steps, 2 helped, 0 hurt, and 1 is inside the noise: 'colour'" in words
    assert "Without a score: 1 failed, 1 waiting" in words
    assert "The highest of 4, 'colour' with 0.577, is worth about 0.543 when it is corrected" in words
    assert "refit failed CUDA out of memory: tried 2.00 GiB" in words
    assert "thresholds waiting not begun" in words


def test_the_score_on_own_images_stands_beside_the_one_on_the_images_of_all(drawn: Path) -> None:
    words = read_words(drawn / "report.html")
    assert "17 were set aside." in words
    assert "120 0.679 137 images" in words
    assert words.count("137 images") == 1
    assert "flatters" in words


def test_links_lead_to_the_pages_of_runs_that_are_there(drawn: Path) -> None:
    tags = parse((drawn / "report.html").read_text(encoding="utf-8")).tags
    links = [str(attrs["href"]) for tag, attrs in tags if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert links == ["../demo-0/report.html"]
    assert (drawn / links[0]).is_file()


def test_the_picture_marks_verdicts_by_shape_and_colour(drawn: Path) -> None:
    page = (drawn / "report.html").read_text(encoding="utf-8")
    labels = [str(attrs["aria-label"]) for _, attrs in parse(page).tags if attrs.get("role") == "img"]
    assert len(labels) == 2
    assert "start 0.312; tiles 0.472 better; transfer 0.565 better; colour 0.577 cannot tell; refit failed" in labels[0]
    drawing = page[page.index("<svg") : page.index("</svg>")].lower()
    for color in ("#0072b2", "#767676", "#333333"):  # better, cannot tell, nothing to compare with or no score
        assert color in drawing
    assert len(set(re.findall(r'xlink:href="#(m[0-9a-f]+)"', drawing))) >= 4  # as many shapes


def test_a_ladder_without_scores_or_with_one_rung_is_told(tmp_path: Path) -> None:
    one = draw_ladder(tmp_path / "one", rungs=1)
    words = read_words(write_ladder_report(one))
    assert "The best rung is 'start'" in words
    assert "compared step" not in words
    content = json.loads((one / "ladder.json").read_text(encoding="utf-8"))
    content["best"] = None
    lose_rung(content["rungs"][0], status="waiting", error=None)
    write_json(one / "ladder.json", content)
    words = read_words(write_ladder_report(one))
    assert "No rung has come out as the best of 1 rung." in words
    assert "start waiting not begun" in words


def test_a_ladder_without_rungs_is_told(tmp_path: Path) -> None:
    content = json.loads((draw_ladder(tmp_path, rungs=1) / "ladder.json").read_text(encoding="utf-8"))
    nothing = {"ladder": "empty", "rungs": [], "best": None, "choice": None, "inner_choice": None}
    write_json(tmp_path / "empty" / "ladder.json", content | nothing)
    assert "No rung has come out as the best of 0 rungs." in read_words(write_ladder_report(tmp_path / "empty"))


@pytest.mark.parametrize("rungs", [6, 14])
def test_text_of_a_nasty_ladder_is_harmless(tmp_path: Path, rungs: int) -> None:
    page = write_ladder_report(draw_ladder(tmp_path, rungs=rungs, nasty=True)).read_text(encoding="utf-8")
    tags = parse(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe"}
    assert "b" not in {tag for tag, _ in tags}  # NASTY holds one
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(set(ids)) == len(ids)


def test_few_cases_are_said(tmp_path: Path) -> None:
    folder = draw_ladder(tmp_path)
    content = json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    content["rungs"][0] |= {"trustworthy": False, "trust_reason": "there are only 7 cases"}
    write_json(folder / "ladder.json", content)
    assert "The intervals cannot be trusted: there are only 7 cases." in read_words(write_ladder_report(folder))


def test_a_missing_or_damaged_ladder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        write_ladder_report(tmp_path)
    write_atomic(tmp_path / "ladder.json", "{")
    with pytest.raises(RunError, match="damaged"):
        write_ladder_report(tmp_path)


def test_all_runs_are_in_the_table_in_order_of_their_start(tmp_path: Path) -> None:
    words = read_words(write_runs_report(draw_entries(tmp_path), folder=tmp_path, title="Everything"))
    table = words[words.index("7 experiments in the order") :]
    assert [table.index(f"run-{i} ") for i in range(7)] == sorted(table.index(f"run-{i} ") for i in range(7))
    assert "7 experiments: 5 finished, 1 failed, 1 unfinished." in words
    assert "run-1 failed train: CUDA out of <memory> at 100 %_" in words
    assert "run-2 unfinished there is no score yet" in words
    assert "Highest on glas: 'run-4', macro-F1 0.62 (95 % interval 0.55 to 0.69; 85 images of 70 cases; 3 s" in words
    assert "Highest on bone_50%: 'run-6'" in words


def test_only_knobs_that_differ_are_shown(tmp_path: Path) -> None:
    words = read_words(write_runs_report(draw_entries(tmp_path), folder=tmp_path, title="x")).replace("\u200b", "")
    part = words[words.index("1 knob with more than one value") :]
    assert "train.transfer.lr most 0.001 run-0 run-1 run-2 run-3 0.002" in part
    assert "model.backbone" not in part


def test_data_sets_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    entries = [draw_entry(tmp_path / "a", 0, data_hash="aaaa1111"), draw_entry(tmp_path / "b", 1, data_hash="bbbb2222")]
    words = read_words(write_runs_report(entries, folder=tmp_path, title="x"))
    assert "Highest on glas (aaaa11): 'a'" in words
    assert "Highest on glas (bbbb22): 'b'" in words


def draw_comparison(folder: Path, names: list[str]) -> None:
    metrics = {"macro_f1": draw_margin(0.5, 0.05)}
    first = {"name": names[0], "path": "x", "n_seeds": 3, "metrics": metrics}
    rows: list[dict[str, Any]] = [{**first, "against": None, "difference": None, "as_given": None}]
    for name in names[1:]:
        difference = {"macro_f1": draw_difference(0.0312, 0.0314)}
        rows.append({**rows[0], "name": name, "against": names[0], "difference": difference})
    content = {
        "names": names, "classes": CLASSES, "unit": "image", "unit_reason": "", "n_images": 85,
        "n_units": 85, "n_cases": 70, "confidence": 0.9, "alpha": 0.1, "margin": 0.0,
        "trustworthy": False, "reason": "there are only 7 cases", "notes": ["a note"], "rows": rows,
    }  # fmt: skip
    Comparison.model_validate(content).write(folder)


def test_the_comparison_is_told_with_tables_of_other_tools(tmp_path: Path) -> None:
    draw_comparison(tmp_path, ["run-0", "run-3", "other_tool.csv"])
    words = read_words(write_runs_report(draw_entries(tmp_path), folder=tmp_path, title="x"))
    assert "run-3 run-0 3 0.500 0.450 to 0.550 +0.031 -0.021 to +0.083 better 0.031 0.073" in words
    assert "other_tool.csv run-0 3" in words
    assert "The comparison cannot be trusted: there are only 7 cases" in words
    assert "85 images of 70 cases" in words
    assert "corrected p of at most 0.1" in words


def test_no_runs_and_runs_of_nothing_are_told(tmp_path: Path) -> None:
    assert "0 experiments: none." in read_words(write_runs_report([], folder=tmp_path, title="x"))
    bare = draw_entry(
        tmp_path / "bare", 0, metrics={}, recipe={}, status="failed", data="", data_hash="", n_images=None
    )
    assert "bare failed" in read_words(write_runs_report([bare], folder=tmp_path, title="x"))


def test_a_run_tells_calibration_rules_and_ensemble(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    scores = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))
    empty = {"confidence": None, "accuracy": None, "images": 0}
    full = ({"confidence": 0.9, "accuracy": 0.7, "images": 60}, {"confidence": 0.97, "accuracy": 0.77, "images": 60})
    bins = [*[empty] * 13, *full]
    write_json(run.path / "scores.json", scores | {"calibration": {"ece": 0.2, "bins": bins}})
    weights = dict.fromkeys(CLASSES, 1.25)
    rules = [{"seed": 0, "fold": 1, "temperature": 1.731, "weights": weights, "n_inner": 17}]
    write_json(run.predictions / "rules.json", rules)
    blend = {"seed": 0, "fold": 1, "method": "average", "weights": {"run-a": 0.25, "run-b": 0.75}}
    blend |= {"n_inner": 17, "C": None, "temperature": 1.0, "note": ""}
    write_json(run.predictions / "ensemble.json", [blend])
    words = read_words(write_report(run))
    assert "Expected calibration error 0.200 (15 bins of the largest score, 120 predictions)" in words
    assert "too sure of itself (confidence minus accuracy +0.20)" in words
    assert "0 1 17 1.731 1.250 1.250 1.250 1.250" in words
    assert "run-a 0.250, run-b 0.750" in words


def test_the_sealed_part_is_told_and_more_than_one_opening_is_a_warning(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    assert "not applicable: no part of this data is sealed" in read_words(write_report(run))
    opening = {"time": "2026-11-20", "runs": ["a"], "scores": {"a": {"macro_f1": draw_interval(0.6, 0.1)}}}
    seal = {
        "data": str(tmp_path / "data"),
        "share": 0.2,
        "sealed_at": "2026-11-01",
        "images": ["i"],
        "n_images": 24,
        "n_cases": 12,
    }
    path = run.path.parent / "data.seal.json"
    write_json(path, seal)
    words = read_words(write_report(run))
    assert "24 images of 12 cases are sealed since 2026-11-01" in words
    assert "The seal was never opened." in words
    assert "has not predicted them" in words
    write_table(run.predictions / "sealed.csv", read_table_of(run.predictions / "out_of_fold.csv"))
    write_json(path, seal | {"openings": [opening, opening | {"time": "2026-11-21"}]})
    words = read_words(write_report(run))
    assert "has predicted them" in words
    assert "The seal was opened 2 times. Only the scores of the first opening are untouched" in words
    assert "2026-11-20 a 0.600 0.500 to 0.700" in words


def read_table_of(path: Path) -> Any:
    return pd.read_csv(path).head(3)


def test_damaged_rules_are_an_error(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    write_json(run.predictions / "rules.json", {"no": "list"})
    with pytest.raises(RunError, match=r"rules\.json is damaged"):
        write_report(run)
