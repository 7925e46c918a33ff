"""Sections of the page of a ladder: what helped, what could not be told apart, what failed."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from ...metrics import LOWER_IS_BETTER
from ...records import Interval
from ...records.layout import LADDER_RECIPE, REPORT
from ...records.studies.comparison import Difference
from ...records.studies.ladder import ChanceLevels
from ..blocks import (
    Block,
    Link,
    Panels,
    Paragraph,
    Section,
    Table,
    count_things,
    format_number,
    format_percent,
    format_range,
)
from ..compared import Candidate
from ..figures.drawing import Drawing
from ..figures.plots import Mark, Verdict, draw_marks
from ..subject import Subject
from .results import METHOD_TEXT, TITLES

SIGN_TEXT = (
    "Triangle up, blue: better than what it is compared with. Triangle down, orange: worse. Grey diamond: practically "
    "equal. Grey circle: cannot be told apart. Square: nothing to compare with. Cross: no score."
)
PAIR_TEXT = (
    "Steps are compared in pairs: both rungs are scored on the same cases, so that what makes a case hard cancels "
    "(Efron & Tibshirani 1993). To the spread over cases (jackknife) that of the networks is added, because two "
    "trainings of one recipe differ by luck (Cameron, Gelbach & Miller 2011); interval and p-value are those of "
    "Student's t for the pair alone. For the verdict the p-values of all steps are corrected for their number (Holm "
    "1979). 'Better' and 'worse' need a corrected p of at most {alpha:g}; {equal}all else is 'cannot tell', and 'no "
    "verdict' where the luck of trainings cannot be measured. 'Cannot tell' is not 'equal': the smallest detectable "
    "difference is the true difference that a comparison like this one would have shown four times out of five (power "
    "80 %). A change that gains less can be real and still stay unseen; more cases make it smaller."
)
TOLD: dict[str, Verdict] = {"better": "better", "worse": "worse", "practically equal": "practically equal"}
EQUAL_TEXT = (
    "'practically equal' means that the whole interval lies within {margin:g} of zero (two one-sided tests, Lakens "
    "2017), also where the rest of the difference is real; "
)


def explain_pairs(subject: Subject) -> str:
    """Return how pairs were compared, with the levels that were asked for."""
    equal = EQUAL_TEXT.format(margin=subject.margin) if subject.margin > 0 else ""
    return PAIR_TEXT.format(alpha=subject.alpha, equal=equal)


def rungs_section(subject: Subject) -> Section:
    """Return the answer in plain words, and the picture."""
    blocks: list[Block] = [Paragraph(" ".join(say_ladder(subject)), "lead")]
    if any(t.score for t in subject.candidates):
        panels = [(drawing.to_svg(), drawing.words) for drawing in draw_ladder(subject)]
        chance = subject.datasets[0].chance
        banded = chance is not None and chance.prior_low is not None
        band = "Grey band: what guessing by the shares of the classes scores." if banded else ""
        caption = f"{SIGN_TEXT} Lines: {format_percent(subject.confidence)} intervals. {band}"
        blocks.append(Panels(panels, caption, width="half"))
    blocks += [Paragraph(text, "warning") for text in list_warnings(subject)]
    blocks += [Paragraph(" ".join(subject.scoring), "note")] if subject.scoring else []
    return Section("result", "Result", blocks)


def say_ladder(subject: Subject) -> list[str]:
    """Return sentences: the best rung, by how much, and how many steps are inside the noise."""
    champion = subject.champion
    if champion is None or champion.score is None:
        said = [f"No rung has come out as the best of {count_things(len(subject.candidates), 'rung')}."]
    else:
        said = [f"The best rung is '{champion.name}': {say_score(subject, champion)}."]
        first, gap = subject.candidates[0], champion.gap
        if gap is not None:
            said.append(f"Against '{champion.on}', the rung it changes, it is {say_gap(gap, subject.confidence)}.")
        if champion is not first and champion.on != first.name and first.score is not None:
            score = f"macro-F1 {first.score.value:.2f} ({format_range(first.score.low, first.score.high, 2)})"
            said.append(f"The bottom rung, '{first.name}', scores {score}; these two were not compared in a pair.")
    if subject.compared:
        counts = {verdict: len(subject.list_verdict(verdict)) for verdict in ("better", "worse")}
        silent = subject.list_verdict("no verdict")
        equal = [t.name for t in subject.list_verdict("practically equal")]
        unsure = [t.name for t in subject.list_verdict("cannot tell")]
        text = (
            f"Of {count_things(len(subject.compared), 'compared step')}, {counts['better']} helped, {counts['worse']} "
            f"hurt, and {len(unsure)} {'is' if len(unsure) == 1 else 'are'} inside the noise"
        )
        if unsure:
            names = ", ".join(f"'{name}'" for name in unsure)
            text += f": {names} cannot be told apart from what {'it changes' if len(unsure) == 1 else 'they change'}"
        if equal:
            names = ", ".join(f"'{name}'" for name in equal)
            text += f"; {names} {'is' if len(equal) == 1 else 'are'} practically equal, within {subject.margin:g}"
        if silent:
            why = "; ".join(dict.fromkeys(t.gap.why for t in silent if t.gap))
            text += f"; no verdict on {len(silent)}: {why}"
        said.append(f"{text}.")
    lost = [
        f"{len(subject.list_by(s))} {s}"
        for s in ("failed", "skipped", "waiting", "not applicable")
        if subject.list_by(s)
    ]
    if lost:
        said.append(f"Without a score: {', '.join(lost)} (below).")
    return said


def say_score(subject: Subject, candidate: Candidate) -> str:
    """Return the score of a candidate in words, with its interval and its chance level."""
    score = candidate.score
    assert score is not None
    chance, guess = find_chance(subject, candidate), "chance level not recorded"
    if chance is not None and chance.prior is not None:
        mostly = f", mostly {format_range(chance.prior_low, chance.prior_high, 2)}"
        guess = f"guessing by the shares of the classes {chance.prior:.2f}"
        guess += "" if chance.prior_low is None else mostly
    numbers = [count_things(n, word) for n, word in ((candidate.n_images, "image"), (candidate.n_cases, "case")) if n]
    parts = [
        " of ".join(numbers),
        count_things(candidate.n_seeds, "seed") if candidate.n_seeds else "",
        guess,
    ]
    interval = f"{format_percent(subject.confidence)} interval {format_range(score.low, score.high, 2)}"
    by = "by case " if candidate.unit == "case" else ""
    return f"macro-F1 {by}{score.value:.2f} ({'; '.join(p for p in (interval, *parts, say_changed(candidate)) if p)})"


def say_changed(candidate: Candidate) -> str:
    """Return what was changed with predictions in view, and the score as given; empty where nothing was."""
    if candidate.as_given is None:
        return ""
    given = candidate.given
    known = given is not None and given.low is not None
    words = f"as given it scores {format_score(given, 2).replace(chr(10), ', ')}" if known else "as given not known"
    return f"not to be trusted: {candidate.as_given.changed}; {words}"


def find_chance(subject: Subject, candidate: Candidate) -> ChanceLevels | None:
    """Return the chance levels of the data of a candidate."""
    known = {dataset.name: dataset.chance for dataset in subject.datasets}
    if subject.kind == "runs" and candidate.chance is not None and known.get(candidate.data) is None:
        return ChanceLevels(majority=None, prior=candidate.chance, prior_low=None, prior_high=None)
    return known.get(candidate.data)


def say_gap(gap: Difference, confidence: float) -> str:
    """Return a difference in words, with its interval, corrected p and verdict."""
    words = "not told apart" if gap.verdict == "cannot tell" else gap.verdict
    return (
        f"{words}: {gap.value:+.2f} ({format_percent(confidence)} interval "
        f"{format_range(gap.low, gap.high, 2, sign='+')}, p {say_p(gap.p_holm)} after Holm, smallest detectable "
        f"difference {format_number(gap.smallest_detectable, 2)})"
    )


def list_warnings(subject: Subject) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    doubted = [t for t in subject.candidates if t.trustworthy is False]
    reasons = dict.fromkeys(t.trust_reason or "too few cases" for t in doubted if not t.as_given)
    said = [f"The intervals cannot be trusted: {'; '.join(reasons)}. Read the scores as a first impression."]
    said = said if reasons else []
    said += [f"'{t.name}' is {say_changed(t)}." for t in doubted if t.as_given]
    choice, worth = subject.choice, ""
    if choice is not None and choice.runs > 1:
        worth = (
            f"The highest of {choice.runs}, '{choice.best}' with {choice.score:.3f}, is worth about "
            f"{choice.corrected:.3f} when it is corrected for having been chosen (bootstrap, Tsamardinos, Greasidou & "
            "Borboudakis 2018). "
        )
    if len([t for t in subject.candidates if t.score]) > 1:
        said.append(
            "The best of several was picked after these scores were seen, on the same folds; its own score promises a "
            f"little too much. {worth}{subject.picked}{' ' if subject.picked else ''}A sealed part, opened once, would "
            "say how much."
        )
    return said


def draw_ladder(subject: Subject) -> list[Drawing]:
    """Draw scores from the bottom rung to the top, and the differences where there are some."""
    chance = subject.datasets[0].chance
    band = None
    if chance is not None and chance.prior_low is not None and chance.prior_high is not None:
        band = (chance.prior_low, chance.prior_high)
    marks = [mark_candidate(t) for t in subject.candidates]
    words = "Scores with intervals, bottom rung first: " + "; ".join(f"{m.name} {m.word}" for m in marks)
    drawings = [draw_marks(marks, name="scores", words=words, label="macro-F1", band=band)]
    gaps = []
    for candidate in (t for t in subject.candidates if t.on):
        gap, missing = candidate.gap, candidate.status if candidate.status != "done" else "not compared"
        mark = Mark(candidate.name, "missing", word=missing)
        if gap is not None:
            verdict = TOLD.get(gap.verdict, "cannot tell")
            mark = Mark(candidate.name, verdict, gap.value, gap.low, gap.high, f"{gap.value:+.3f}")
        gaps.append(mark)
    if any(mark.value is not None for mark in gaps):
        words = "Differences against the rung below: " + "; ".join(f"{m.name} {m.word}" for m in gaps)
        label = "difference of macro-F1 against what it changes"
        drawings.append(draw_marks(gaps, name="differences", words=words, label=label, zero=True))
    return drawings


def mark_candidate(candidate: Candidate, *, chance: bool = False) -> Mark:
    """Return the row of a candidate in the picture of scores."""
    if candidate.score is None:
        return Mark(candidate.name, "missing", word=candidate.status if candidate.status != "done" else "no score")
    verdict: Verdict = TOLD.get(candidate.gap.verdict, "cannot tell") if candidate.gap else "none"
    word = f"{candidate.score.value:.3f}" if verdict == "none" else f"{candidate.score.value:.3f} {verdict}"
    level = candidate.chance if chance else None
    return Mark(candidate.name, verdict, candidate.score.value, candidate.score.low, candidate.score.high, word, level)


def steps_section(subject: Subject) -> Section:
    """Return every rung with its change, score, difference and cost."""
    percent = format_percent(subject.confidence)
    header = (
        "rung and change", f"macro-F1\n{percent} interval", f"difference\n{percent} interval", "verdict", "p (Holm)",
        "smallest\ndetectable", "seconds", "peak GB", "images", "on its own images",
    )  # fmt: skip
    rows = []
    for t in reversed(subject.candidates):
        # What it would score on all images that it predicted, where these are not the images of all rungs.
        own, score, apart = t.own, t.score, "–"
        if own and score and (own.value, own.low, own.high) != (score.value, score.low, score.high):
            apart = f"{format_number(own.value)}\n{count_things(own.n_images, 'image')}"
        rows.append(
            (
                "\n".join(part for part in (t.name, t.change, f"against '{t.on}'" if t.on else "") if part),
                format_candidate(t) if t.score else t.status,
                format_gap(t.gap),
                t.gap.verdict if t.gap else "–",
                say_p(t.gap.p_holm) if t.gap else "–",
                format_number(t.gap.smallest_detectable) if t.gap else "–",
                format_number(t.seconds, 0),
                format_number(t.peak_memory_gb, 1),
                f"{t.n_images:,}" if t.n_images is not None else "–",
                apart,
            )
        )
    caption = "Top rung first, as on a ladder"
    if subject.scoring:
        caption += "; on its own images: macro-F1 that flatters a rung from which hard images were taken"
    table = Table(header, rows, caption)
    return Section("steps", "Step by step", [table])


def format_score(score: Interval | None, digits: int = 3) -> str:
    """Return a score, and its interval on a second line."""
    return "–" if score is None else f"{score.value:.{digits}f}\n{format_range(score.low, score.high, digits)}"


def format_candidate(candidate: Candidate) -> str:
    """Return score and interval of a candidate, and below them the score as given where that is another one."""
    if candidate.as_given is None:
        return format_score(candidate.score)
    return (
        f"{format_score(candidate.score)}\nas given {format_number(candidate.given.value if candidate.given else None)}"
    )


def format_gap(gap: Difference | None) -> str:
    """Return a difference with its sign, and its interval on a second line."""
    return "–" if gap is None else f"{gap.value:+.3f}\n{format_range(gap.low, gap.high, sign='+')}"


def say_p(p: float | None) -> str:
    """Return a p-value; below 0.001 only that."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def failures_section(subject: Subject) -> Section:
    """Return candidates without a score, with the reason."""
    lost = [t for t in subject.candidates if t.status != "done"]
    if not lost:
        return Section("failures", "Failures", [Paragraph("Nothing failed and nothing waits.")])
    unknown = {"waiting": "not begun"}
    rows = [(t.name, t.status, t.error or unknown.get(t.status, "no reason was recorded")) for t in lost]
    text = "These have no score. They are part of the result: what was tried and did not work is told too."
    return Section("failures", "Failures", [Paragraph(text), Table(("name", "status", "error"), rows, text_columns=3)])


def notes_section(subject: Subject) -> Section:
    """Return what was noted per rung, and runs that were there already."""
    rows = [(t.name, "; ".join(t.notes)) for t in subject.candidates if t.notes]
    reused = [t.name for t in subject.candidates if t.reused]
    blocks: list[Block] = [Table(("rung", "notes"), rows, text_columns=2)] if rows else [Paragraph("No notes.")]
    if reused:
        blocks.append(Paragraph(f"Taken from runs that were there already: {', '.join(reused)}."))
    return Section("notes", "Notes", blocks)


def all_metrics_section(subject: Subject) -> Section:
    """Return every metric of every candidate, with its interval and its verdict."""
    names = subject.list_metrics()
    header = ("name", *(TITLES.get(n, n) + ("\n(lower is better)" if n in LOWER_IS_BETTER else "") for n in names))
    rows = []
    for candidate in subject.candidates:
        cells = []
        for name in names:
            verdict = f"\n{candidate.gaps[name].verdict}" if name in candidate.gaps else ""
            score = candidate.scores.get(name)
            cells.append(format_score(score) + ("" if score is None or score.trustworthy else " ?") + verdict)
        rows.append((candidate.name, *cells))
    caption = f"Score, {format_percent(subject.confidence)} interval (?: not to be trusted, too few cases or errors), "
    caption += "verdict of the paired comparison"
    return Section("metrics", "All metrics", [Table(header, rows, caption)])


def ladder_method_section(subject: Subject) -> Section:
    """Return how scores and differences were obtained."""
    blocks: list[Block] = [Paragraph(METHOD_TEXT), Paragraph(explain_pairs(subject))]
    if subject.scores is not None:
        cover = subject.scores.interval
        blocks.append(Paragraph(f"Intervals of scores: {cover.method}. They cover {cover.covers}."))
    return Section("method", "How the numbers were obtained", blocks)


def settings_section(subject: Subject) -> Section:
    """Return what each rung sets, and its own page."""
    rows: list[tuple[str | Link, ...]] = [
        (t.name, t.on or "–", "\n".join(t.settings) or "the recipe of the ladder file", link_run(subject, t))
        for t in subject.candidates
    ]
    header = ("rung", "on top of", "settings", "run")
    text = f"{LADDER_RECIPE} in this folder has all recipes; every run folder holds its resolved recipe."
    return Section("settings", "Settings and runs", [Paragraph(text), Table(header, rows, text_columns=4)])


def link_run(subject: Subject, candidate: Candidate) -> str | Link:
    """Return a link to the run's own page by its relative address; its name where there is no page."""
    folders = (subject.folder / candidate.run, subject.folder.parent / candidate.run) if candidate.run else ()
    page = next((folder / REPORT for folder in folders if (folder / REPORT).is_file()), None)
    if page is None:
        return candidate.run or "–"
    return Link(candidate.run, quote(Path(os.path.relpath(page, subject.folder)).as_posix()))
