"""The rungs side by side: scores, and each against the rung that it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ..audit import read_decisions, settle_decisions
from ..evaluate import Pair, compare_pairs, correct_choice
from ..logbook.seal import find_seal
from ..project import Project
from ..records.scored import Margin, Unit, UnitScores
from ..records.studies.comparison import Difference, Verdict
from ..records.studies.ladder import ChanceLevels, LadderResult, OwnScore, Rung, RungState
from ..stats import Pool, pool_predictions, score_pool
from ..workflow import find_decisions
from ..workflow.paired import describe_folds
from .definition import Step
from .pick import pick_on_inner
from .scoring import ScoredRung, Trusted, describe_scoring, find_trusted, read_scored, score_on, settle_unit, tell_given

SILENT: Verdict = "no verdict"
EQUAL: Verdict = "practically equal"
VERDICTS: tuple[Verdict, ...] = ("better", "worse", EQUAL, "cannot tell", SILENT)
RARE = (EQUAL, SILENT)  # named only where there is one


def tabulate_ladder(
    project: Project,
    steps: Sequence[Step],
    states: Mapping[str, RungState],
    *,
    name: str,
    about: str,
    started: str,
    finished: str | None,
    margin: float,
) -> LadderResult:
    """Score all rungs on the same images and, where ``finished``, compare them."""
    done = [s.name for s in steps if s.name in states and states[s.name].status == "done"]
    places = {rung: project.runs / str(states[rung].run) for rung in done}
    outcomes = {rung: read_scored(place) for rung, place in places.items()}
    decisions = settle_decisions(read_decisions(find_decisions(project)))
    trusted = find_trusted(list(outcomes.values()), decisions=decisions)
    unit, mixed = settle_unit(outcomes.values())
    scored = {n: score_on(o, trusted.images, unit) for n, o in outcomes.items()} if trusted.images else {}
    rungs = [
        _describe_rung(s, states.get(s.name), outcomes.get(s.name), scored.get(s.name), trusted, unit) for s in steps
    ]
    confidence = steps[0].recipe.evaluate.confidence
    choice = picked = None
    if finished is not None and scored:
        tables = {n: o.tabulate(trusted.images, unit) for n, o in outcomes.items()}
        pools = {n: pool_predictions(tables[n], classes=o.pool.classes) for n, o in outcomes.items()}
        why = _say_silence(trusted, sealed=find_seal(project).is_file())
        rungs = _compare_rungs(rungs, pools, confidence=confidence, margin=margin, why=why)
        choice = correct_choice(pools)
        picked = pick_on_inner(places, outcomes, trusted.images, unit) if len(outcomes) > 1 else None
    last, shares = next(reversed(scored.values()), None), {}
    if last:
        labels = outcomes[next(reversed(scored))].list_labels()
        counts = Counter(labels[image] for image in trusted.images)
        shares = {label: counts[label] / len(trusted.images) for label in last.classes}
    # The highest lower bound of macro-F1; ties to three digits go to the lower rung, which asks for less.
    rivals = [rung for rung in rungs if rung.headline]
    best = max(rivals, key=lambda rung: round((rung.headline and rung.headline.low) or 0.0, 3), default=None)
    return LadderResult(
        ladder=name, about=about, started=started, finished=finished, data=str(project.data.resolve()),
        confidence=confidence, alpha=round(1 - confidence, 10), margin=margin,
        classes=last.classes if last else (), unit=unit,
        n_images=last.n_images if last else None, n_cases=last.n_cases if last else None, shares=shares,
        chance=ChanceLevels.of(last) if last else None, best=best.name if best else None, choice=choice,
        inner_choice=picked, set_aside=dict(trusted.set_aside),
        scoring=(*mixed, *describe_scoring(rungs, trusted)), rungs=tuple(rungs),
    )  # fmt: skip


def _describe_rung(
    step: Step,
    state: RungState | None,
    outcome: ScoredRung | None,
    scores: UnitScores | None,
    trusted: Trusted,
    unit: Unit,
) -> Rung:
    """Return the row of a rung, not compared yet."""
    rung = Rung(
        name=step.name, change=step.change, settings=step.settings, on=step.on, members=step.members,
        status=state.status if state else "waiting",
    )  # fmt: skip
    found: dict[str, object] = {}
    if state:
        found |= {key: getattr(state, key) for key in ("error", "run", "reused", "seconds", "peak_memory_gb")}
    if outcome:
        fields = set(Margin.model_fields)
        if own := outcome.scores.take(unit):
            margin = own.headline.model_dump(include=fields)
            found["own"] = OwnScore(n_images=own.n_images, n_cases=own.n_cases, **margin)
        found["as_given"] = given = tell_given(outcome, trusted, unit)
        if scores:
            found |= {key: getattr(scores, key) for key in ("n_images", "n_cases", "n_seeds", "optimism")}
            found["metrics"] = {n: Margin(**m.model_dump(include=fields)) for n, m in scores.metrics.items()}
            found["trustworthy"], found["trust_reason"] = scores.interval.trustworthy, scores.interval.reason
            if given:
                found["trustworthy"], found["trust_reason"] = False, given.words
        else:
            found["notes"] = ("no image is left that every rung scored and that no decision speaks against",)
    return rung.model_copy(update=found)


def _say_silence(trusted: Trusted, *, sealed: bool) -> str:
    """Return why there is no verdict, and where there can be one; empty where nothing stands against it."""
    if not trusted.influenced:
        return ""
    how = (
        "judge it on the sealed cases, once: 'smalti compare RUN RUN --open-seal'"
        if sealed
        else "only sealed cases could judge it: --set split.sealed_frac=0.2 from the first run on"
    )
    return f"{trusted.influenced} images were set aside or changed with predictions in view; {how}"


def _compare_rungs(
    rungs: Sequence[Rung], pools: Mapping[str, Pool], *, confidence: float, margin: float, why: str
) -> list[Rung]:
    """Return the rungs with the difference of each finished rung from the finished rung that it changes.

    All pairs are one family for Holm's correction. With ``why`` no difference has a verdict.
    """
    scored = {name: score_pool(pool) for name, pool in pools.items()}
    pairs: list[Pair] = []
    more: dict[str, tuple[str, ...]] = {}
    for rung in rungs:
        if rung.name not in pools or rung.on is None:
            continue
        if rung.on not in pools:
            more[rung.name] = (f"{rung.on}, which it changes, has no score",)
            continue
        more[rung.name] = tuple(describe_folds({rung.on: pools[rung.on], rung.name: pools[rung.name]}))
        pairs.append(Pair(rung.name, rung.on, scored[rung.name], scored[rung.on], withheld=why))
    found = compare_pairs(pairs, confidence=confidence, margin=margin)
    differences = {
        pair.name: {metric: Difference(**asdict(d)) for metric, d in one.items()}
        for pair, one in zip(pairs, found, strict=True)
    }
    return [
        rung.model_copy(
            update={"difference": differences.get(rung.name), "notes": (*rung.notes, *more.get(rung.name, ()))}
        )
        for rung in rungs
    ]


def describe_ladder(result: LadderResult) -> list[str]:
    """Return the ladder in a few lines: how large, what is best, what cannot be told."""
    rungs = result.list_scored()
    if not rungs:
        return ["no rung has a score"]
    best = rungs[str(result.best)]
    gaps = [rung.gap for rung in rungs.values() if rung.gap]
    verdicts = [gap.verdict for gap in gaps]
    score, chance = best.headline, result.chance
    assert score is not None
    assert chance is not None
    lines = [
        f"by {result.unit}; {result.n_images} images, {result.n_cases} cases; {result.confidence:.0%} "
        f"intervals by case; chance {chance.prior:.3f}, majority class {chance.majority:.3f}",
        f"highest lower bound: {best.name}, {score.value:.3f} ({score.low:.3f} to {score.high:.3f})",
        "steps: " + ", ".join(f"{verdicts.count(w)} {w}" for w in VERDICTS if w not in RARE or w in verdicts),
    ]
    if EQUAL in verdicts:
        lines.append(f"{EQUAL}: the whole interval lies within {result.margin:g} of zero (margin of the ladder file)")
    lines += dict.fromkeys(f"{SILENT}: {gap.why}" for gap in gaps if gap.why)
    choice = result.choice
    if choice and choice.runs > 1:
        lines.append(
            f"the highest of {choice.runs} scores, {choice.score:.3f}, was chosen by the cases that score it; on "
            f"cases without a say the choice is worth {choice.corrected:.3f}"
        )
    if result.inner_choice and result.inner_choice.words:
        lines.append(result.inner_choice.words)
    if not best.trustworthy:
        lines.append(f"not to be trusted: {best.trust_reason}")
    return lines + list(result.scoring)
