"""The pages of a ladder and of many runs: every number of the JSON, failures included, and nothing naked."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from smalti.errors import RunError
from smalti.metrics import METRICS
from smalti.report import write_ladder_report, write_report, write_runs_report
from smalti.runs import write_atomic, write_json, write_table
from test_report import CLASSES, build_run, parse

SHARES = dict(zip(CLASSES, (0.2, 0.4, 0.28, 0.12), strict=True))
NASTY = r"{whole_50%} & $x_1$ \end{document} #~^<b>naïve</b>"
LONG = "default-with-a-very-long-name_that_nobody_would_break_by_hand_0123456789abcdef0123456789abcdef"
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


def draw_difference(value: float, p: float) -> dict[str, Any]:
    verdict = "cannot tell" if p > 0.05 else "better" if value > 0 else "worse"
    return {**draw_interval(value, 0.052), "p": p / 6, "p_holm": p, "smallest_detectable": 0.0734, "verdict": verdict}


def draw_rung(position: int, name: str, change: str, setting: str, *, on: str | None) -> dict[str, Any]:
    generator = np.random.default_rng(position)
    score = 0.31 + 0.4 * (1 - np.exp(-position / 2)) + float(generator.normal(0, 0.013))
    metrics = {e.name: draw_interval(score + 0.01 * n, 0.081) for n, e in enumerate(METRICS)}
    p, gain = ((0.0004, 0.143), (0.012, 0.112), (0.61, 0.021), (0.04, -0.06))[position % 4]
    return {
        "name": name, "change": change, "settings": [setting], "on": on, "status": "done", "error": None,
        "run": f"demo-{position}", "reused": position == 2, "seconds": 123.4 + position, "peak_memory_gb": 1.21,
        "n_images": 120, "n_cases": 80, "n_seeds": 2, "metrics": metrics, "optimism": 0.031, "trustworthy": True,
        "trust_reason": "80 cases, at least 9 of each class", "notes": [],
        "difference": None if on is None else {e.name: draw_difference(gain, p) for e in METRICS},
        "compared_on": None if on is None else 120,
    }  # fmt: skip


def lose_rung(rung: dict[str, Any], *, status: str, error: str | None) -> None:
    empty = ("metrics", "difference", "n_images", "n_cases", "n_seeds", "optimism", "trustworthy", "compared_on")
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
        rows[2]["notes"] = ["compared on the 118 images that both have"]
        rows[2]["compared_on"] = 118
    best = max((r for r in rows if r["metrics"]), key=lambda r: r["metrics"]["macro_f1"]["value"])
    classes = [f"{NASTY} B&W", "Übergang–Zelle ß", "рак", "中"] if nasty else list(CLASSES)
    folder = runs / "demo-ladder-basics"
    content = {
        "ladder": f"basics {NASTY}" if nasty else "basics", "about": "What carries the score?",
        "data": "/data/images_50%" if nasty else "/data/demo-data", "started": "2026-11-24T04:00:00+00:00",
        "finished": "2026-11-24T05:00:00+00:00", "confidence": 0.95, "alpha": 0.05, "classes": classes,
        "n_images": 120, "n_cases": 80, "shares": dict(zip(classes, SHARES.values(), strict=True)),
        "chance": {"majority": 0.143, "prior": 0.247, "prior_low": 0.174, "prior_high": 0.329},
        "best": best["name"], "rungs": rows,
    }  # fmt: skip
    write_json(folder / "ladder.json", content)
    return folder


def draw_entry(path: Path, position: int, *, data: str = "glas", **changes: Any) -> Any:
    value = 0.5 + 0.03 * position
    fields = {
        "name": path.name, "path": path, "kind": "run", "status": "finished", "error": "",
        "started": f"2026-11-{10 + position:02d}T10:00:00+00:00", "seconds": 61.5, "data": f"/data/{data}",
        "data_hash": f"{data}0f0f", "preset": "quick", "metrics": {"macro_f1": draw_interval(value, 0.07)},
        "recipe": {"preset": "quick", "model.backbone": "resnet18", "train.transfer.lr": 0.001 * (1 + position // 3)},
        "chance_prior": 0.25, "optimism": 0.02, "trustworthy": True, "n_images": 85, "n_cases": 70, "n_seeds": 3,
        "device": "CPU",
    }  # fmt: skip
    return SimpleNamespace(**(fields | changes))


def draw_entries(runs: Path, number: int = 7) -> list[Any]:
    entries = [draw_entry(runs / f"run-{i}", i, data="glas" if i < 5 else "bone_50%") for i in range(number)]
    entries[1].status, entries[1].error, entries[1].metrics = "failed", "train: CUDA out of <memory> at 100 %_", {}
    entries[2].status, entries[2].error, entries[2].metrics = "unfinished", "there is no score yet", {}
    return entries[::-1]


def read_words(path: Path) -> str:
    return " ".join(" ".join(parse(path.read_text(encoding="utf-8")).words).split())
