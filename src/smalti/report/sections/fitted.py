"""Return the sections about what is done with the scores: calibration, rules, an ensemble, the sealed part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...records import HEADLINE, FoldRule
from ..blocks import (
    Block,
    Panels,
    Paragraph,
    Section,
    Table,
    count_things,
    format_number,
    format_range,
    not_applicable,
)
from ..contents import RunRecord
from ..figures.plots import draw_reliability

TITLE = "Calibration"
MOST_ROWS = 200


def calibration_section(record: RunRecord) -> Section:
    """Return whether a score of 0.8 is right eight times of ten, and what was fitted to the scores."""
    counted = "cases" if record.scores is not None and record.scores.unit == "case" else "images"
    blocks: list[Block] = []
    if record.scores is None:
        blocks.append(Paragraph("not applicable: there is no scores.json; 'smalti evaluate' writes it", "note"))
    else:
        found = record.scores.calibration
        full = [
            (row.images, row.confidence - row.accuracy)
            for row in found.bins
            if row.confidence is not None and row.accuracy is not None
        ]
        images = sum(count for count, _ in full)
        gap = sum(count * excess for count, excess in full) / images if images else 0.0
        lean = "about right" if abs(gap) < 0.02 else "too sure of itself" if gap > 0 else "less sure than it could be"
        text = (
            f"Expected calibration error {found.ece:.3f} ({len(found.bins)} bins of the largest score, "
            f"{count_things(images, 'prediction')}): the mean distance of the scores from the share of predictions "
            f"that is right. On the whole the classifier is {lean} (confidence minus accuracy {gap:+.2f})."
        )
        words = f"Expected calibration error {found.ece:.3f}; share that is right against confidence, per bin"
        blocks += [
            Paragraph(text),
            Panels(
                [(draw_reliability(found.bins, words=words).to_svg(), words)],
                f"Blue: each bin of the largest score, larger with more {counted}. Dashed: perfectly calibrated. "
                f"Orange: how far off. Below: {counted} per bin, all seeds.",
                width="half",
            ),
        ]
    blocks += _list_rules(() if record.rules is None else record.rules.rules)
    if record.ensemble is not None and record.ensemble.folds:
        text = "The scores are those of an ensemble; how much each member counts was chosen on inner images alone."
        rows = [dict(fold) for fold in record.ensemble.folds]
        columns = list(dict.fromkeys(key for row in rows for key, value in row.items() if value not in (None, "")))
        cells = [tuple(_say_cell(row.get(key)) for key in columns) for row in rows[:MOST_ROWS]]
        blocks += [Paragraph(text), Table(columns, cells, "Ensemble", text_columns=len(columns))]
    return Section("calibration", TITLE, blocks)


def _list_rules(rules: Sequence[FoldRule]) -> list[Block]:
    if all(rule.plain for rule in rules):
        return [Paragraph("No rule was fitted to the scores (predict.calibration, predict.decision).", "note")]
    names = list(dict.fromkeys(name for rule in rules for name in rule.weights))
    rows = [
        (
            str(rule.seed),
            str(rule.fold),
            str(rule.n_inner),
            format_number(rule.temperature),
            *(format_number(rule.weights.get(name)) for name in names),
        )
        for rule in rules[:MOST_ROWS]
    ]
    text = (
        "Each seed and fold has a rule of its own, fitted on its inner images alone: scores are raised to "
        "1/temperature, multiplied by the weights of the classes, and scaled to sum 1 (Guo et al. 2017 for the "
        "temperature: above 1 makes scores more even)."
    )
    header = ("seed", "fold", "inner images", "temperature", *(f"weight of {name}" for name in names))
    return [Paragraph(text), Table(header, rows, "Fitted rules", text_columns=2)]


def _say_cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_say_cell(item)}" for key, item in value.items())
    return str(value)


def seal_section(record: RunRecord) -> Section:
    """Return how many cases no run has seen, and the openings of the seal."""
    seal, title = record.seal, "Sealed part"
    if seal is None:
        return not_applicable("seal", title, "no part of this data is sealed (split.sealed_frac)")
    scored = record.sealed is not None
    numbers = f"{count_things(seal.n_images, 'image')} of {count_things(seal.n_cases, 'case')}"
    text = (
        f"{numbers} are sealed since {seal.sealed_at}: no run learns from them or chooses by "
        f"them. {'This run has predicted them without a label.' if scored else 'This run has not predicted them.'}"
    )
    if seal.runs_before:
        text += f" Runs that were there before the seal may have seen these cases: {', '.join(seal.runs_before)}."
    openings = seal.openings
    if not openings:
        return Section("seal", title, [Paragraph(f"{text} The seal was never opened.")])
    blocks: list[Block] = [Paragraph(f"{text} The seal was opened {count_things(len(openings), 'time')}.")]
    if len(openings) > 1:
        warning = (
            f"The seal was opened {len(openings)} times. Only the scores of the first opening are untouched; whoever "
            "chose after it has chosen upon the later numbers, and they promise too much."
        )
        blocks.append(Paragraph(warning, "warning"))
    rows = []
    for opening in openings:
        for run in opening.runs or ("–",):
            score = opening.scores.get(run, {}).get(HEADLINE)
            cells = ("–", "–") if score is None else (format_number(score.value), format_range(score.low, score.high))
            rows.append((opening.time, run, *cells))
    table = Table(("opened", "run", "macro-F1", "interval"), rows, "Scores on the sealed cases", text_columns=2)
    return Section("seal", title, [*blocks, table])
