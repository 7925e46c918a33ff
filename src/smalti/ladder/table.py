"""The rungs side by side: scores, and each against the rung that it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluate import (
    Pair,
    Pool,
    Resampled,
    compare_pairs,
    correct_choice,
    find_common,
    keep_images,
    pool_predictions,
    resample_cases,
)
from ..runs import read_json, read_table
from ..workflow.comparison import RESAMPLES, describe_folds, tabulate_differences
from .plan import Step

if TYPE_CHECKING:
    from .climb import State

CHANCE = {"majority": "chance_majority", "prior": "chance_prior", "prior_low": "chance_prior_low",
          "prior_high": "chance_prior_high"}  # fmt: skip


def tabulate_ladder(
    steps: Sequence[Step], states: Mapping[str, State], *, runs: Path, data: Path, compare: bool
) -> dict[str, Any]:
    """The content of ``ladder.json`` but its names and times; without ``compare`` the scores alone."""
    scored = {s.name: read_json(runs / str(states[s.name].run) / "scores.json") for s in steps if _is_done(s, states)}
    rows = [_describe_rung(step, states.get(step.name), scored.get(step.name)) for step in steps]
    rivals = _find_rivals(rows)
    confidence = steps[0].recipe.evaluate.confidence
    choice = None
    if compare:
        pools = {row["name"]: _read_pool(runs / row["run"]) for row in rows if row["status"] == "done"}
        _compare_rungs(rows, pools, confidence=confidence)
        choice = _correct_choice(rivals, pools)
    last = next((scored[s.name] for s in reversed(steps) if s.name in scored), None)
    return {
        "data": str(data.resolve()), "confidence": confidence, "alpha": round(1 - confidence, 10),
        "resamples": RESAMPLES, "classes": last["classes"] if last else [],
        "n_images": last["n_images"] if last else None, "n_cases": last["n_cases"] if last else None,
        "shares": {n: v["support"] / last["n_images"] for n, v in last["per_class"].items()} if last else {},
        "chance": {key: last["metrics"]["macro_f1"][value] for key, value in CHANCE.items()} if last else None,
        "best": _choose_best(rivals), "choice": choice, "rungs": rows,
    }  # fmt: skip


def _is_done(step: Step, states: Mapping[str, State]) -> bool:
    return step.name in states and states[step.name].status == "done"


def _describe_rung(step: Step, state: State | None, scores: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": step.name, "change": step.change, "settings": list(step.settings), "on": step.on,
        "members": list(step.members), "status": "waiting" if state is None else state.status,
        "error": state.error if state else None, "run": state.run if state else None,
        "reused": bool(state and state.reused), "seconds": state.seconds if state else None,
        "peak_memory_gb": state.peak_memory_gb if state else None, "difference": None, "compared_on": None, "notes": [],
    }  # fmt: skip
    for key in ("n_images", "n_cases", "n_seeds", "optimism"):
        row[key] = scores[key] if scores else None
    kept = ("value", "low", "high")
    row["metrics"] = {m: {k: v[k] for k in kept} for m, v in scores["metrics"].items()} if scores else None
    row["trustworthy"] = scores["interval"]["trustworthy"] if scores else None
    row["trust_reason"] = scores["interval"]["reason"] if scores else None
    return row


def _compare_rungs(rows: list[dict[str, Any]], pools: Mapping[str, Pool], *, confidence: float) -> None:
    """Fill in the difference of every finished rung from the finished rung that it changes; one family for Holm."""
    by_name = {row["name"]: row for row in rows if row["name"] in pools}
    known: dict[tuple[str, int], Resampled] = {}
    pairs: list[Pair] = []
    for name, row in by_name.items():
        base = row["on"]
        if base is None:
            continue
        if base not in by_name:
            row["notes"].append(f"{base}, which it changes, has no score")
            continue
        images = find_common([pools[name], pools[base]])
        both = {n: _resample(n, pools[n], images, known) for n in (name, base)}
        row["compared_on"] = len(images)
        row["notes"] += _describe_pair(name, base, pools, images)
        pairs.append(Pair(name, base, both[name], both[base]))
    for pair, found in zip(pairs, compare_pairs(pairs, confidence=confidence), strict=True):
        by_name[pair.name]["difference"] = tabulate_differences(found)


def _resample(name: str, pool: Pool, images: Sequence[str], known: dict[tuple[str, int], Resampled]) -> Resampled:
    """Resampled scores on some images; kept, since most rungs are compared twice on all of theirs."""
    key = (name, hash(tuple(images)))
    if key not in known:
        known[key] = resample_cases(keep_images(pool, images), resamples=RESAMPLES)
    return known[key]


def _describe_pair(name: str, base: str, pools: Mapping[str, Pool], images: Sequence[str]) -> list[str]:
    mine, theirs = len(pools[name].images), len(pools[base].images)
    notes = []
    if len(images) < max(mine, theirs):
        notes.append(f"compared on the {len(images)} images that both scored (here {mine}, {base} {theirs})")
    return notes + describe_folds({base: keep_images(pools[base], images), name: keep_images(pools[name], images)})


def _read_pool(run: Path) -> Pool:
    classes = tuple(read_json(run / "cohort.json")["classes"])
    return pool_predictions(read_table(run / "predictions" / "out_of_fold.csv"), classes=classes)


def _find_rivals(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Finished rungs on as many images as the last of them."""
    done = [row for row in rows if row["status"] == "done"]
    return [row for row in done if row["n_images"] == done[-1]["n_images"]]


def _choose_best(rivals: Sequence[dict[str, Any]]) -> str | None:
    """Highest lower bound of macro-F1; ties to three digits go to the lower rung, which asks for less."""
    if not rivals:
        return None
    return str(max(rivals, key=lambda row: round(row["metrics"]["macro_f1"]["low"], 3))["name"])


def _correct_choice(rivals: Sequence[dict[str, Any]], pools: Mapping[str, Pool]) -> dict[str, Any] | None:
    """What the highest score is worth, given that the cases that score it chose it."""
    images = find_common([pools[row["name"]] for row in rivals]) if rivals else ()
    if not images:
        return None
    choice = correct_choice({row["name"]: keep_images(pools[row["name"]], images) for row in rivals})
    return asdict(choice) | {"optimism": choice.optimism}


def describe_ladder(result: Mapping[str, Any]) -> list[str]:
    """The ladder in a few lines: how large, what is best, what cannot be told."""
    rows = {row["name"]: row for row in result["rungs"] if row["metrics"]}
    if not rows:
        return ["no rung has a score"]
    best, chance = rows[result["best"]], result["chance"]
    score = best["metrics"]["macro_f1"]
    steps = [row["difference"]["macro_f1"]["verdict"] for row in rows.values() if row["difference"]]
    lines = [
        f"{result['n_images']} images, {result['n_cases']} cases; {result['confidence']:.0%} intervals by case; chance "
        f"{chance['prior']:.3f}, majority class {chance['majority']:.3f}",
        f"highest lower bound: {best['name']}, {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})",
        "steps: " + ", ".join(f"{steps.count(word)} {word}" for word in ("better", "worse", "cannot tell")),
    ]
    choice = result["choice"]
    if choice["runs"] > 1:
        lines.append(
            f"the highest of {choice['runs']} scores, {choice['score']:.3f}, was chosen by the cases that score it; on "
            f"cases without a say the choice is worth {choice['corrected']:.3f}"
        )
    if not best["trustworthy"]:
        lines.append(f"not to be trusted: {best['trust_reason']}")
    return lines
