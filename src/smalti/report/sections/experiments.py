"""Sections of the page of many runs: every experiment, failures included, and in what they differ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
    not_applicable,
)
from ..figures.drawing import Drawing
from ..figures.plots import draw_marks
from ..study import Study, find_highest, say_value
from ..trials import HEADLINE, Trial, read_gaps, read_given, read_scores
from .ladder import (
    SIGN_TEXT,
    explain_pairs,
    format_gap,
    format_trial,
    list_warnings,
    mark_trial,
    say_gap,
    say_p,
    say_score,
)
from .results import METHOD_TEXT

MOST_MARKS = 40


def write_overview(study: Study) -> Section:
    """How many runs there are, the highest score of each data set, and the picture."""
    blocks: list[Block] = [Paragraph(" ".join(say_runs(study)), "lead")]
    drawings = draw_runs(study)
    if drawings:
        caption = (
            f"Scores with {format_percent(study.confidence)} intervals, one picture for each data set, runs in the "
            f"order of their start from the top. Dashed: what guessing by the shares of the classes scores. {SIGN_TEXT}"
        )
        blocks.append(Panels([(d.to_svg(), d.words) for d in drawings], caption, width="half"))
    if study.comparison is not None and study.comparison.get("trustworthy") is False:
        blocks.append(Paragraph(f"The comparison cannot be trusted: {study.comparison.get('reason')}.", "warning"))
    return Section("result", "Result", [*blocks, *(Paragraph(text, "warning") for text in list_warnings(study))])


def say_runs(study: Study) -> list[str]:
    """Sentences: how many, what became of them, the highest of each data set."""
    names = {"done": "finished", "failed": "failed", "unfinished": "unfinished"}
    states = [f"{len(study.list_by(s))} {word}" for s, word in names.items() if study.list_by(s)]
    said = [f"{count_things(len(study.trials), 'experiment')}: {', '.join(states) or 'none'}."]
    for data, trials in group_trials(study).items():
        best = find_highest(trials)
        if best is not None:
            said.append(f"Highest on {data}: '{best.name}', {say_score(study, best)}.")
    if not study.compared and len(study.trials) > 1:
        said.append(
            "Which is better than which these scores do not say: intervals that overlap can hide a difference, and "
            "the highest of many is high by luck too. 'smalti compare' compares in pairs."
        )
    return said


def group_trials(study: Study) -> dict[str, list[Trial]]:
    """Trials by data set."""
    groups: dict[str, list[Trial]] = {}
    for trial in study.trials:
        groups.setdefault(trial.data, []).append(trial)
    return groups


def draw_runs(study: Study) -> list[Drawing]:
    """One drawing for each data set with a score; the last `MOST_MARKS` runs of each."""
    drawings = []
    for number, (data, trials) in enumerate(group_trials(study).items(), 1):
        if not any(t.score for t in trials):
            continue
        marks = [mark_trial(t, chance=True) for t in reversed(trials[-MOST_MARKS:])]
        dropped = len(trials) - len(marks)
        label = f"macro-F1 on {data}" + (f" (the last {MOST_MARKS} of {len(trials)} runs)" if dropped else "")
        words = f"Scores on {data}: " + "; ".join(f"{m.name} {m.word}" for m in reversed(marks))
        drawings.append(draw_marks(marks, name=f"scores{number}", words=words, label=label))
    return drawings


def write_pairs(study: Study) -> Section:
    """The paired comparison of comparison.json."""
    title, found = "Paired comparison", study.comparison
    if found is None:
        return not_applicable("pairs", title, "there is no comparison.json; 'smalti compare' writes it")
    percent = format_percent(float(found.get("confidence") or study.confidence))
    header = (
        "run", "against", "seeds", f"macro-F1\n{percent} interval", f"difference\n{percent} interval", "verdict",
        "p (Holm)", "smallest\ndetectable",
    )  # fmt: skip
    rows = [_tabulate_pair(row) for row in found.get("rows") or ()]
    numbers = (
        f"{count_things(found.get('n_images') or 0, 'image')} of {count_things(found.get('n_cases') or 0, 'case')}"
    )
    by = ", by case" if found.get("unit") == "case" else ""
    text = f"All are scored on the same {numbers}{by}. {_say_pairs(study)}"
    notes = [Paragraph(str(note), "note") for note in found.get("notes") or ()]
    method = Paragraph(explain_pairs(study), "note")
    return Section("pairs", title, [Paragraph(text), Table(header, rows, text_columns=2), *notes, method])


def _tabulate_pair(row: Mapping[str, Any]) -> tuple[str, ...]:
    gap = read_gaps(row.get("difference")).get(HEADLINE)
    return (
        str(row.get("name")),
        str(row.get("against") or "–"),
        str(row.get("n_seeds") or "–"),
        format_trial(Trial("", scores=read_scores(row.get("metrics")), **read_given(row.get("as_given")))),
        format_gap(gap),
        gap.verdict if gap else "–",
        say_p(gap.p_holm) if gap else "–",
        format_number(gap.smallest_detectable) if gap else "–",
    )


def _say_pairs(study: Study) -> str:
    said = [f"'{t.name}' against '{t.on}': {say_gap(t.gap, study.confidence)}." for t in study.compared if t.gap]
    return " ".join(said[:4]) + (" The others are in the table." if len(said) > 4 else "")


def write_everything(study: Study) -> Section:
    """Every experiment in the order of its start."""
    header = (
        "run", "status", "data", "kind, device", "started", f"macro-F1\n{format_percent(study.confidence)} interval",
        "chance", "optimism", "images", "cases", "seeds", "seconds",
    )  # fmt: skip
    rows = [_tabulate_trial(study, t) for t in study.trials]
    caption = f"{count_things(len(rows), 'experiment')} in the order of their start, failures included"
    return Section("experiments", "All experiments", [Table(header, rows, caption, text_columns=4)])


def _tabulate_trial(study: Study, trial: Trial) -> tuple[str | Link, ...]:
    counts = (trial.n_images, trial.n_cases, trial.n_seeds)
    score = format_trial(trial)
    return (
        link_page(study, trial),
        "finished" if trial.status == "done" else trial.status,
        trial.data,
        ", ".join(part for part in (trial.kind, trial.device) if part),
        trial.started[:16].replace("T", " ") or "–",
        score
        + ("\nby case" if trial.score and trial.unit == "case" else "")
        + ("\nnot to be trusted" if trial.score and trial.trustworthy is False else ""),
        format_number(trial.chance),
        "–" if trial.optimism is None else f"{trial.optimism:+.3f}",
        *("–" if count is None else f"{count:,}" for count in counts),
        format_number(trial.seconds, 0),
    )


def link_page(study: Study, trial: Trial) -> str | Link:
    """The run's own page by its relative address, where there is one."""
    page = find_page(study, trial)
    if page is None:
        return trial.name
    address = Path(os.path.relpath(page, study.folder)).as_posix()
    return Link(trial.name, quote(address))


def find_page(study: Study, trial: Trial) -> Path | None:
    """Where the page of a run is; None where there is none."""
    folders = (study.folder / trial.run, study.folder.parent / trial.run) if trial.run else ()
    return next((folder / "report.html" for folder in folders if (folder / "report.html").is_file()), None)


def write_differences(study: Study) -> Section:
    """The knobs in which the recipes differ."""
    title = "What differs between the recipes"
    knobs = list(dict.fromkeys(setting.partition("=")[0] for t in study.trials for setting in t.settings))
    if not knobs:
        reason = "all recipes are equal" if len(study.trials) > 1 else "there is one experiment"
        return not_applicable("differences", title, reason)
    rows = [("most", *(_say_knob(study.recipe.get(knob)) for knob in knobs))]
    for trial in study.trials:
        own = dict(setting.partition("=")[::2] for setting in trial.settings)
        rows.append((trial.name, *(own.get(knob, "") for knob in knobs)))
    header = ("run", *(knob.replace(".", ".\u200b") for knob in knobs))
    caption = (
        f"{count_things(len(knobs), 'knob')} with more than one value; the first row is the commonest, a run has a "
        "cell where it differs from it"
    )
    return Section("differences", title, [Table(header, rows, caption, text_columns=len(header))])


def _say_knob(value: Any) -> str:
    return "–" if value is None else say_value(value)


def write_runs_method(study: Study) -> Section:
    """How the scores were obtained."""
    percent = format_percent(study.confidence)
    text = f"Intervals are at {percent} and speak of other cases like these; each run's own page says more."
    return Section("method", "How the numbers were obtained", [Paragraph(METHOD_TEXT), Paragraph(text)])
