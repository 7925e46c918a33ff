"""Sections about what is done with the scores: calibration, fitted rules, members of an ensemble, the sealed part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from ..figures.plots import draw_reliability
from ..record import RunRecord

TITLE = "Calibration"
MOST_ROWS = 200


def write_calibration(record: RunRecord) -> Section:
    """Whether a score of 0.8 is right eight times of ten, and what was fitted to the scores."""
    found = (record.scores or {}).get("calibration")
    counted = "cases" if (record.scores or {}).get("unit") == "case" else "images"
    blocks: list[Block] = []
    if found is None or found.get("ece") is None:
        blocks.append(Paragraph("not applicable: scores.json holds no calibration; 'smalti evaluate' adds it", "note"))
    else:
        words = f"Expected calibration error {found['ece']:.3f}; share that is right against confidence, per bin"
        blocks += [
            Paragraph(_say_calibration(found)),
            Panels(
                [(draw_reliability(found["bins"], words=words).to_svg(), words)],
                f"Blue: each bin of the largest score, larger with more {counted}. Dashed: perfectly calibrated. "
                f"Orange: how far off. Below: {counted} per bin, all seeds.",
                width="half",
            ),
        ]
    blocks += _list_rules(record.rules)
    blocks += _list_ensemble(record.ensemble)
    return Section("calibration", TITLE, blocks)


def _say_calibration(found: Mapping[str, Any]) -> str:
    full = [row for row in found["bins"] if row["images"] and row["confidence"] is not None]
    images = sum(row["images"] for row in full)
    gap = sum(row["images"] * (row["confidence"] - row["accuracy"]) for row in full) / images if images else 0.0
    lean = "about right" if abs(gap) < 0.02 else "too sure of itself" if gap > 0 else "less sure than it could be"
    return (
        f"Expected calibration error {found['ece']:.3f} ({len(found['bins'])} bins of the largest score, "
        f"{count_things(images, 'prediction')}): so far are the scores from the share of predictions that is right, on "
        f"average. On the whole the classifier is {lean} (confidence minus accuracy {gap:+.2f})."
    )


def _list_rules(rules: Sequence[Mapping[str, Any]] | None) -> list[Block]:
    if not rules or not any(_changes_scores(rule) for rule in rules):
        return [Paragraph("No rule was fitted to the scores (predict.calibration, predict.decision).", "note")]
    names = list(dict.fromkeys(name for rule in rules for name in _name_weights(rule)))
    rows = [
        (
            str(rule.get("seed", "–")),
            str(rule.get("fold", "–")),
            str(rule.get("n_inner", "–")),
            format_number(rule.get("temperature")),
            *(format_number(_name_weights(rule).get(name)) for name in names),
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


def _changes_scores(rule: Mapping[str, Any]) -> bool:
    return rule.get("temperature") not in {None, 1.0} or len(set(_name_weights(rule).values())) > 1


def _name_weights(rule: Mapping[str, Any]) -> dict[str, float]:
    weights = rule.get("weights") or {}
    if isinstance(weights, Mapping):
        return {str(name): value for name, value in weights.items()}
    return {f"class {position}": value for position, value in enumerate(weights, 1)}


def _list_ensemble(rows: Sequence[Mapping[str, Any]] | None) -> list[Block]:
    if not rows:
        return []
    columns = list(dict.fromkeys(key for row in rows for key, value in row.items() if value not in (None, "")))
    cells = [tuple(_say_cell(row.get(key)) for key in columns) for row in rows[:MOST_ROWS]]
    text = "The scores are those of an ensemble; how much each member counts was chosen on inner images alone."
    return [Paragraph(text), Table(columns, cells, "Ensemble", text_columns=len(columns))]


def _say_cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "–" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_say_cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_say_cell(item) for item in value)
    return str(value)


def write_seal(record: RunRecord) -> Section:
    """How many cases no run has seen, and what was seen of them since."""
    seal, title = record.seal, "Sealed part"
    if seal is None:
        return not_applicable("seal", title, "no part of this data is sealed (split.sealed_frac)")
    scored = record.sealed is not None
    numbers = f"{count_things(seal.get('n_images', 0), 'image')} of {count_things(seal.get('n_cases', 0), 'case')}"
    text = (
        f"{numbers} are sealed since {seal.get('sealed_at', 'an unknown time')}: no run learns from them or chooses by "
        f"them. {'This run has predicted them without a label.' if scored else 'This run has not predicted them.'}"
    )
    before = [str(name) for name in seal.get("runs_before") or ()]
    if before:
        text += f" Runs that were there before the seal may have seen these cases: {', '.join(before)}."
    openings = seal.get("openings") or []
    if not openings:
        return Section("seal", title, [Paragraph(f"{text} The seal was never opened.")])
    blocks: list[Block] = [Paragraph(f"{text} The seal was opened {count_things(len(openings), 'time')}.")]
    if len(openings) > 1:
        warning = (
            f"The seal was opened {len(openings)} times. Only the scores of the first opening are untouched; whoever "
            "chose after it has chosen upon the later numbers, and they promise too much."
        )
        blocks.append(Paragraph(warning, "warning"))
    return Section("seal", title, [*blocks, _tabulate_openings(openings)])


def _tabulate_openings(openings: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for opening in openings:
        for run in opening.get("runs") or ["–"]:
            metric = ((opening.get("scores") or {}).get(run) or {}).get("macro_f1") or {}
            interval = format_range(metric.get("low"), metric.get("high"))
            rows.append((str(opening.get("time", "–")), str(run), format_number(metric.get("value")), interval))
    return Table(("opened", "run", "macro-F1", "interval"), rows, "Scores on the sealed cases", text_columns=2)
