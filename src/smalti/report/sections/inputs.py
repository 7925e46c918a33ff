"""Sections about what went in: data, audit, folds, learning curves, recipe, environment."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from ..blocks import Block, Listing, Panels, Paragraph, Section, Table, count_things, format_percent, not_applicable
from ..figures.plots import draw_curves
from ..record import RunRecord

MOST_ROWS = 200
MOST_NAMES = 20
CURVES = (
    ("train_loss", "loss on the training images"),
    ("inner_loss", "loss on the inner images"),
    ("inner_macro_f1", "macro-F1 on the inner images"),
)


def write_data(record: RunRecord) -> Section:
    """What was learned from, and what was left out and why."""
    cohort = record.cohort
    if cohort is None:
        return not_applicable("data", "Data", "there is no cohort.json")
    text = (
        f"{count_things(cohort['n_labelled'], 'labelled image')} of {count_things(cohort['n_cases'], 'case')}, "
        f"{count_things(cohort['n_unlabelled'], 'unlabelled image')}; layout '{cohort['layout']}', read from "
        f"{cohort['root']}."
    )
    blocks: list[Block] = [Paragraph(text)]
    if cohort.get("notes"):
        blocks.append(Paragraph(f"Reading the folder: {'; '.join(str(note) for note in cohort['notes'])}.", "note"))
    if record.samples is not None:
        blocks.append(_tabulate_classes(record.samples))
    if repaired := cohort.get("repaired", []):
        number = count_things(len(repaired), "image")
        blocks.append(Paragraph(f"Repaired before tiles were cut, by decision: {number} ({_list_names(repaired)})."))
    if record.stain is not None:
        text = f"Stain normalised ({record.stain['normalise']}) to the training cases of each fold"
        blocks.append(Paragraph(f"{text}: {record.stain['summary']}"))
    left_out = cohort.get("left_out", [])
    if not left_out:
        return Section("data", "Data", [*blocks, Paragraph("No image was left out.")])
    rows = [(str(row["image"]), str(row["reason"]), str(row["who"])) for row in left_out[:MOST_ROWS]]
    caption = f"{count_things(len(left_out), 'image')} left out (decisions.csv)"
    if len(left_out) > MOST_ROWS:
        caption += f"; the first {MOST_ROWS} are shown"
    table = Table(("image", "reason", "decided by"), rows, caption, text_columns=3)
    return Section("data", "Data", [*blocks, table])


def _list_names(images: list[str]) -> str:
    more = f" and {len(images) - MOST_NAMES} more" if len(images) > MOST_NAMES else ""
    return f"{', '.join(images[:MOST_NAMES])}{more}"


def _tabulate_classes(samples: pd.DataFrame) -> Table:
    labelled = samples[samples["label"] != ""]
    rows = [
        (
            str(name),
            f"{len(rows):,}",
            format_percent(round(len(rows) / len(labelled), 2)),
            f"{rows['case'].nunique():,}",
        )
        for name, rows in labelled.groupby("label")
    ]
    return Table(("class", "images", "share", "cases"), rows, "Labelled images")


def write_audit(record: RunRecord) -> Section:
    """Findings by code, and what was decided."""
    audit = record.audit
    if audit is None:
        return not_applicable("audit", "Audit", "there is no findings.json")
    rows = []
    for code, outcome in audit.outcomes.items():
        findings = [f for f in audit.findings if f.code == code]
        severity = ", ".join(sorted({f.severity for f in findings})) or "–"
        rows.append((code, outcome, severity, findings[0].message if findings else "–"))
    others = Counter(f.code for f in audit.findings if f.code not in audit.outcomes)
    rows += [(code, f"{number} found", "–", "–") for code, number in others.items()]
    blocks: list[Block] = [
        Paragraph("What the audit looked for before training. A finding changes nothing; a decision does."),
        Table(("check", "outcome", "severity", "the first finding"), rows, text_columns=4),
    ]
    return Section("audit", "Audit", [*blocks, _tell_decisions(record)])


def _tell_decisions(record: RunRecord) -> Paragraph:
    if not record.decisions:
        return Paragraph("No decision was taken: every image was used as it is.")
    actions = Counter((d.action, d.who) for d in record.decisions)
    parts = [f"{action} {count_things(number, 'image')} ({who})" for (action, who), number in actions.items()]
    return Paragraph(f"Decisions: {'; '.join(parts)}. Source files were not changed.")


def write_folds(record: RunRecord) -> Section:
    """Images and cases of each class in each outer fold, and whether a case straddles folds."""
    if record.folds is None:
        return not_applicable("folds", "Folds", "there is no folds.csv")
    outer = record.folds[record.folds["role"] == "outer"]
    images = outer.pivot_table(index=["seed", "fold"], columns="label", values="image", aggfunc="count", fill_value=0)
    cases = outer.pivot_table(index=["seed", "fold"], columns="label", values="case", aggfunc="nunique", fill_value=0)
    roles = record.folds.pivot_table(
        index=["seed", "fold"], columns="role", values="image", aggfunc="count", fill_value=0
    )
    rows = []
    for key in images.index:
        cells = [f"{images.loc[key, name]} ({cases.loc[key, name]})" for name in images.columns]
        parts = [f"{roles.loc[key, role]}" if role in roles else "0" for role in ("train", "inner", "outer")]
        rows.append((str(key[0]), str(key[1]), *parts, *cells))
    header = ("seed", "fold", "train", "inner", "held out", *(str(name) for name in images.columns))
    caption = "Images per part, then held-out images (cases) per class"
    table = Table(header, rows, caption, text_columns=2)
    return Section("folds", "Folds", [_tell_leaks(record.folds), table])


def _tell_leaks(folds: pd.DataFrame) -> Paragraph:
    roles = folds.groupby(["seed", "fold", "case"])["role"].nunique()
    leaking = sorted(set(roles[roles > 1].index.get_level_values("case")))
    if leaking:
        shown = ", ".join(str(case) for case in leaking[:5])
        number = count_things(len(leaking), "case straddles", "cases straddle")
        text = f"{number} the parts of a fold ({shown}): the score cannot be trusted."
        return Paragraph(text, "warning")
    return Paragraph(
        "Checked here: in every fold and seed, each case is in one part only (learning, inner or held out)."
    )


def write_curves(record: RunRecord) -> Section:
    """Losses and inner macro-F1 per epoch, phase by phase."""
    history = record.history
    if history is None or history.empty:
        return not_applicable(
            "curves", "Learning curves", "there is no history.csv with epochs; a solved head has none"
        )
    blocks: list[Block] = [
        Paragraph("Thin blue: each fold and seed. Thick orange: the mean of the folds still training at that epoch.")
    ]
    if record.diverged is not None:
        blocks.append(_tell_divergence(record.diverged))
    for phase, rows in history.groupby("phase", sort=False):
        present = [(column, title) for column, title in CURVES if rows[column].notna().any()]
        curves = [draw_curves(rows, column=column, title=title) for column, title in present]
        drawings = [(curve.to_svg(), curve.words) for curve in curves]
        epochs = count_things(int(rows["epoch"].nunique()), "epoch")
        blocks.append(Panels(drawings, f"Phase {phase}: up to {epochs}, {rows['seconds'].sum():.0f} s in all"))
    return Section("curves", "Learning curves", blocks)


def _tell_divergence(diverged: pd.DataFrame) -> Paragraph:
    places = [f"seed {r.seed}, fold {r.fold}, {r.phase}, epoch {r.epoch}" for r in diverged.itertuples()]
    text = (
        f"Training diverged (weights that are no numbers any more): {'; '.join(places)}. What was best before is kept; "
        "a refit that diverged leaves the weights of the pass before it. A lower rate, a warm-up or "
        "train.precision=32-true may prevent it."
    )
    return Paragraph(text, "warning")


def write_recipe(record: RunRecord) -> Section:
    """The resolved recipe."""
    if record.recipe is None:
        return not_applicable("recipe", "Recipe", "there is no recipe.yaml")
    text = "Every knob as it was used; 'smalti run DATA --recipe recipe.yaml' repeats the run."
    return Section("recipe", "Recipe", [Paragraph(text), Listing(record.recipe)])


def write_environment(record: RunRecord | None) -> Section:
    """Machine, libraries, hashes."""
    environment = None if record is None else record.environment
    if environment is None:
        return not_applicable("environment", "Environment", "there is no environment.json")
    blocks: list[Block] = [Table(("what", "value"), list_environment(environment), text_columns=2)]
    if environment.get("command"):
        blocks.append(Listing(" ".join(str(word) for word in environment["command"])))
    return Section("environment", "Environment", blocks)


def list_environment(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """What environment.json says, line by line."""
    keys = ("started", "python", "system", "processor", "cores", "memory_gb")
    rows = [(key.replace("_gb", " (GB)"), str(environment[key])) for key in keys if key in environment]
    rows.append(("device", _tell_device(environment)))
    rows += [("weights", str(environment["weights"]))] if environment.get("weights") else []
    rows += [(f"hash of {key}", str(value)) for key, value in environment.get("identity", {}).items()]
    return rows + [(str(name), str(version)) for name, version in environment.get("libraries", {}).items()]


def _tell_device(environment: dict[str, Any]) -> str:
    device = environment.get("device")
    if isinstance(device, dict):
        return "; ".join(str(value) for value in device.values())
    return str(device) if device else "not recorded"
