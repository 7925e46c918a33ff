"""Sections of the page of many runs: every experiment, failures included, and in what they differ."""

from __future__ import annotations

from ...notation import say_value
from ...records.studies.comparison import Comparison
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
from ..compared import Candidate, drop_unknown
from ..figures.drawing import Drawing
from ..figures.plots import draw_marks
from ..subject import Subject, find_highest
from .results import METHOD_TEXT
from .rungs import (
    SIGN_TEXT,
    explain_pairs,
    format_candidate,
    format_gap,
    link_run,
    list_warnings,
    mark_candidate,
    say_gap,
    say_p,
    say_score,
)

MOST_MARKS = 40


def overview_section(subject: Subject) -> Section:
    """Return how many runs there are, what became of them, the highest score of each data set, and the picture."""
    words = {"done": "finished", "failed": "failed", "unfinished": "unfinished"}
    states = [f"{len(subject.list_by(s))} {word}" for s, word in words.items() if subject.list_by(s)]
    said = [f"{count_things(len(subject.candidates), 'experiment')}: {', '.join(states) or 'none'}."]
    for data, candidates in group_candidates(subject).items():
        best = find_highest(candidates)
        if best is not None:
            said.append(f"Highest on {data}: '{best.name}', {say_score(subject, best)}.")
    if not subject.compared and len(subject.candidates) > 1:
        said.append(
            "Which is better than which these scores do not say: intervals that overlap can hide a difference, and "
            "the highest of many is high by luck too. 'smalti compare' compares in pairs."
        )
    blocks: list[Block] = [Paragraph(" ".join(said), "lead")]
    drawings = draw_runs(subject)
    if drawings:
        caption = (
            f"Scores with {format_percent(subject.confidence)} intervals, one picture for each data set, runs in the "
            f"order of their start from the top. Dashed: what guessing by the shares of the classes scores. {SIGN_TEXT}"
        )
        blocks.append(Panels([(d.to_svg(), d.words) for d in drawings], caption, width="half"))
    if subject.comparison is not None and not subject.comparison.trustworthy:
        blocks.append(Paragraph(f"The comparison cannot be trusted: {subject.comparison.reason}.", "warning"))
    return Section("result", "Result", [*blocks, *(Paragraph(text, "warning") for text in list_warnings(subject))])


def group_candidates(subject: Subject) -> dict[str, list[Candidate]]:
    """Return candidates by data set."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in subject.candidates:
        groups.setdefault(candidate.data, []).append(candidate)
    return groups


def draw_runs(subject: Subject) -> list[Drawing]:
    """Return one drawing for each data set with a score; the last `MOST_MARKS` runs of each."""
    drawings = []
    for number, (data, candidates) in enumerate(group_candidates(subject).items(), 1):
        if not any(t.score for t in candidates):
            continue
        marks = [mark_candidate(t, chance=True) for t in reversed(candidates[-MOST_MARKS:])]
        dropped = len(candidates) - len(marks)
        label = f"macro-F1 on {data}" + (f" (the last {MOST_MARKS} of {len(candidates)} runs)" if dropped else "")
        words = f"Scores on {data}: " + "; ".join(f"{m.name} {m.word}" for m in reversed(marks))
        drawings.append(draw_marks(marks, name=f"scores{number}", words=words, label=label))
    return drawings


def pairs_section(subject: Subject) -> Section:
    """Return the paired comparison."""
    title, found = "Paired comparison", subject.comparison
    if found is None:
        return not_applicable("pairs", title, f"there is no {Comparison.FILE}; 'smalti compare' writes it")
    percent = format_percent(found.confidence)
    header = (
        "run", "against", "seeds", f"macro-F1\n{percent} interval", f"difference\n{percent} interval", "verdict",
        "p (Holm)", "smallest\ndetectable",
    )  # fmt: skip
    rows = [
        (
            row.name,
            row.against or "–",
            str(row.n_seeds),
            format_candidate(Candidate("", scores=drop_unknown(row.metrics), as_given=row.as_given)),
            format_gap(row.gap),
            row.gap.verdict if row.gap else "–",
            say_p(row.gap.p_holm) if row.gap else "–",
            format_number(row.gap.smallest_detectable) if row.gap else "–",
        )
        for row in found.rows
    ]
    numbers = f"{count_things(found.n_images, 'image')} of {count_things(found.n_cases, 'case')}"
    by = ", by case" if found.unit == "case" else ""
    said = [f"'{t.name}' against '{t.on}': {say_gap(t.gap, subject.confidence)}." for t in subject.compared if t.gap]
    more = " The others are in the table." if len(said) > 4 else ""
    text = f"All are scored on the same {numbers}{by}. {' '.join(said[:4])}{more}"
    notes = [Paragraph(note, "note") for note in found.notes]
    method = Paragraph(explain_pairs(subject), "note")
    return Section("pairs", title, [Paragraph(text), Table(header, rows, text_columns=2), *notes, method])


def everything_section(subject: Subject) -> Section:
    """Return every experiment in the order of its start."""
    header = (
        "run", "status", "data", "kind, device", "started", f"macro-F1\n{format_percent(subject.confidence)} interval",
        "chance", "optimism", "images", "cases", "seeds", "seconds",
    )  # fmt: skip
    rows: list[tuple[str | Link, ...]] = []
    for candidate in subject.candidates:
        link = link_run(subject, candidate) if candidate.run else candidate.name
        counts = (candidate.n_images, candidate.n_cases, candidate.n_seeds)
        score = format_candidate(candidate)
        score += "\nby case" if candidate.score and candidate.unit == "case" else ""
        score += "\nnot to be trusted" if candidate.score and candidate.trustworthy is False else ""
        rows.append(
            (
                link,
                "finished" if candidate.status == "done" else candidate.status,
                candidate.data,
                ", ".join(part for part in (candidate.kind, candidate.device) if part),
                candidate.started[:16].replace("T", " ") or "–",
                score,
                format_number(candidate.chance),
                "–" if candidate.optimism is None else f"{candidate.optimism:+.3f}",
                *("–" if count is None else f"{count:,}" for count in counts),
                format_number(candidate.seconds, 0),
            )
        )
    caption = f"{count_things(len(rows), 'experiment')} in the order of their start, failures included"
    return Section("experiments", "All experiments", [Table(header, rows, caption, text_columns=4)])


def differences_section(subject: Subject) -> Section:
    """Return the knobs in which the recipes differ."""
    title = "What differs between the recipes"
    knobs = list(dict.fromkeys(setting.partition("=")[0] for t in subject.candidates for setting in t.settings))
    if not knobs:
        reason = "all recipes are equal" if len(subject.candidates) > 1 else "there is one experiment"
        return not_applicable("differences", title, reason)
    rows = [("most", *("–" if subject.recipe.get(knob) is None else say_value(subject.recipe[knob]) for knob in knobs))]
    for candidate in subject.candidates:
        own = dict(setting.partition("=")[::2] for setting in candidate.settings)
        rows.append((candidate.name, *(own.get(knob, "") for knob in knobs)))
    header = ("run", *(knob.replace(".", ".\u200b") for knob in knobs))
    caption = (
        f"{count_things(len(knobs), 'knob')} with more than one value; the first row is the commonest, a run has a "
        "cell where it differs from it"
    )
    return Section("differences", title, [Table(header, rows, caption, text_columns=len(header))])


def runs_method_section(subject: Subject) -> Section:
    """Return how the scores were obtained."""
    percent = format_percent(subject.confidence)
    text = f"Intervals are at {percent} and speak of other cases like these; each run's own page says more."
    return Section("method", "How the numbers were obtained", [Paragraph(METHOD_TEXT), Paragraph(text)])
