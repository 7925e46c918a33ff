"""The rungs side by side: scores, and each against the rung that it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..audit import read_decisions, settle_decisions
from ..evaluate import Pair, Unit, compare_pairs, correct_choice, take_unit
from ..logbook.seal import find_seal
from ..stats import Pool, pool_predictions, score_pool
from ..workflow import find_decisions
from ..workflow.comparison import describe_folds, tabulate_differences
from .definition import Step
from .pick import pick_on_inner
from .scoring import Outcome, Trusted, describe_scoring, find_trusted, read_outcome, score_on, settle_unit, tell_given

if TYPE_CHECKING:
    from .climb import State

CHANCE = {"majority": "chance_majority", "prior": "chance_prior", "prior_low": "chance_prior_low",
          "prior_high": "chance_prior_high"}  # fmt: skip
SILENT = "no verdict"
EQUAL = "practically equal"
VERDICTS = ("better", "worse", EQUAL, "cannot tell", SILENT)
RARE = (EQUAL, SILENT)  # named only where there is one
BOUNDS = ("value", "low", "high", "trustworthy")


def tabulate_ladder(
    steps: Sequence[Step], states: Mapping[str, State], *, runs: Path, data: Path, margin: float, compare: bool
) -> dict[str, Any]:
    """The content of ``ladder.json`` but its names and times; without ``compare`` the scores alone."""
    outcomes = {s.name: read_outcome(runs / str(states[s.name].run)) for s in steps if _is_done(s, states)}
    decisions = settle_decisions(read_decisions(find_decisions(data, runs=runs)))
    trusted = find_trusted(list(outcomes.values()), decisions=decisions)
    unit, mixed = settle_unit(outcomes.values())
    scored = {n: score_on(o, trusted.images, unit) for n, o in outcomes.items()} if trusted.images else {}
    rows = [
        _describe_rung(s, states.get(s.name), outcomes.get(s.name), scored.get(s.name), trusted, unit) for s in steps
    ]
    confidence = steps[0].recipe.evaluate.confidence
    choice = pick = None
    if compare and scored:
        tables = {name: outcome.tabulate(trusted.images, unit) for name, outcome in outcomes.items()}
        pools = {name: pool_predictions(tables[name], classes=o.pool.classes) for name, o in outcomes.items()}
        sealed = find_seal(data, runs=runs).is_file()
        _compare_rungs(rows, pools, confidence=confidence, margin=margin, why=_say_silence(trusted, sealed=sealed))
        choice = correct_choice(pools)
        places = {name: runs / str(states[name].run) for name in outcomes}
        pick = pick_on_inner(places, outcomes, trusted.images, unit) if len(outcomes) > 1 else None
    last = next(reversed(scored.values()), None)
    return {
        "data": str(data.resolve()), "confidence": confidence, "alpha": round(1 - confidence, 10),
        "margin": margin,
        "classes": last["classes"] if last else [], "unit": unit,
        "n_images": last["n_images"] if last else None, "n_cases": last["n_cases"] if last else None,
        "shares": _share_labels(outcomes, scored, trusted),
        "chance": {key: last["metrics"]["macro_f1"][value] for key, value in CHANCE.items()} if last else None,
        "best": _choose_best([row for row in rows if row["metrics"]]),
        "choice": asdict(choice) | {"optimism": choice.optimism} if choice else None,
        "inner_choice": pick,
        "set_aside": dict(trusted.set_aside), "scoring": [*mixed, *describe_scoring(rows, trusted)], "rungs": rows,
    }  # fmt: skip


def _share_labels(outcomes: Mapping[str, Outcome], scored: Collection[str], trusted: Trusted) -> dict[str, float]:
    """Share of each class among the images that score every rung."""
    if not scored:
        return {}
    outcome = outcomes[list(scored)[-1]]
    labels = outcome.list_labels()
    counts = Counter(labels[image] for image in trusted.images)
    return {name: counts[name] / len(trusted.images) for name in outcome.pool.classes}


def _is_done(step: Step, states: Mapping[str, State]) -> bool:
    return step.name in states and states[step.name].status == "done"


def _describe_rung(
    step: Step,
    state: State | None,
    outcome: Outcome | None,
    scores: dict[str, Any] | None,
    trusted: Trusted,
    unit: Unit,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": step.name, "change": step.change, "settings": list(step.settings), "on": step.on,
        "members": list(step.members), "status": "waiting" if state is None else state.status,
        "error": state.error if state else None, "run": state.run if state else None,
        "reused": bool(state and state.reused), "seconds": state.seconds if state else None,
        "peak_memory_gb": state.peak_memory_gb if state else None, "difference": None, "notes": [],
    }  # fmt: skip
    for key in ("n_images", "n_cases", "n_seeds", "optimism"):
        row[key] = scores[key] if scores else None
    row["metrics"] = {m: _take_bounds(scores, m) for m in scores["metrics"]} if scores else None
    row["trustworthy"] = scores["interval"]["trustworthy"] if scores else None
    row["trust_reason"] = scores["interval"]["reason"] if scores else None
    row["as_given"] = given = tell_given(outcome, trusted, unit) if outcome else None
    if scores and given:
        row["trustworthy"], row["trust_reason"] = False, given["words"]
    own = take_unit(outcome.scores, unit) if outcome else None
    row["own"] = {k: own[k] for k in ("n_images", "n_cases")} | _take_bounds(own, "macro_f1") if own else None
    if outcome and not scores:
        row["notes"].append("no image is left that every rung scored and that no decision speaks against")
    return row


def _take_bounds(scores: Mapping[str, Any], metric: str) -> dict[str, Any]:
    return {key: scores["metrics"][metric].get(key) for key in BOUNDS}


def _say_silence(trusted: Trusted, *, sealed: bool) -> str:
    """Why there is no verdict, and where there can be one; empty where nothing stands against it."""
    if not trusted.influenced:
        return ""
    how = (
        "judge it on the sealed cases, once: 'smalti compare RUN RUN --open-seal'"
        if sealed
        else "only sealed cases could judge it: --set split.sealed_frac=0.2 from the first run on"
    )
    return f"{trusted.influenced} images were set aside or changed with predictions in view; {how}"


def _compare_rungs(
    rows: list[dict[str, Any]], pools: Mapping[str, Pool], *, confidence: float, margin: float, why: str
) -> None:
    """Fill in the difference of every finished rung from the finished rung that it changes; one family for Holm.

    With ``why`` no difference has a verdict.
    """
    by_name = {row["name"]: row for row in rows if row["name"] in pools}
    scored = {name: score_pool(pool) for name, pool in pools.items()}
    pairs: list[Pair] = []
    for name, row in by_name.items():
        base = row["on"]
        if base is None:
            continue
        if base not in by_name:
            row["notes"].append(f"{base}, which it changes, has no score")
            continue
        row["notes"] += describe_folds({base: pools[base], name: pools[name]})
        pairs.append(Pair(name, base, scored[name], scored[base], withheld=why))
    for pair, found in zip(pairs, compare_pairs(pairs, confidence=confidence, margin=margin), strict=True):
        by_name[pair.name]["difference"] = tabulate_differences(found)


def _choose_best(rivals: Sequence[dict[str, Any]]) -> str | None:
    """Highest lower bound of macro-F1; ties to three digits go to the lower rung, which asks for less."""
    if not rivals:
        return None
    return str(max(rivals, key=lambda row: round(row["metrics"]["macro_f1"]["low"], 3))["name"])


def describe_ladder(result: Mapping[str, Any]) -> list[str]:
    """The ladder in a few lines: how large, what is best, what cannot be told."""
    rows = {row["name"]: row for row in result["rungs"] if row["metrics"]}
    if not rows:
        return ["no rung has a score"]
    best, chance = rows[result["best"]], result["chance"]
    score = best["metrics"]["macro_f1"]
    steps = [row["difference"]["macro_f1"]["verdict"] for row in rows.values() if row["difference"]]
    lines = [
        f"by {result['unit']}; {result['n_images']} images, {result['n_cases']} cases; {result['confidence']:.0%} "
        f"intervals by case; chance {chance['prior']:.3f}, majority class {chance['majority']:.3f}",
        f"highest lower bound: {best['name']}, {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})",
        "steps: " + ", ".join(f"{steps.count(w)} {w}" for w in VERDICTS if w not in RARE or w in steps),
    ]
    if EQUAL in steps:
        lines.append(
            f"{EQUAL}: the whole interval lies within {result['margin']:g} of zero (margin of the ladder file)"
        )
    gaps = [row["difference"]["macro_f1"] for row in rows.values() if row["difference"]]
    lines += dict.fromkeys(f"{SILENT}: {gap['why']}" for gap in gaps if gap["why"])
    choice = result["choice"]
    if choice["runs"] > 1:
        lines.append(
            f"the highest of {choice['runs']} scores, {choice['score']:.3f}, was chosen by the cases that score it; on "
            f"cases without a say the choice is worth {choice['corrected']:.3f}"
        )
    if words := (result["inner_choice"] or {}).get("words"):
        lines.append(words)
    if not best["trustworthy"]:
        lines.append(f"not to be trusted: {best['trust_reason']}")
    return lines + list(result["scoring"])
