"""Return the sections about what went in: data, audit, folds, learning curves, recipe, environment."""

from __future__ import annotations

from collections import Counter

from ...records import Environment
from ..blocks import Block, Listing, Panels, Paragraph, Section, Table, count_things, format_percent, not_applicable
from ..contents import RunRecord
from ..figures.plots import draw_curves

MOST_ROWS = 200
MOST_NAMES = 20
CURVES = (
    ("train_loss", "loss on the training images"),
    ("inner_loss", "loss on the inner images"),
    ("inner_macro_f1", "macro-F1 on the inner images"),
)


def data_section(record: RunRecord) -> Section:
    """Return what was learned from, and which images were excluded and why."""
    cohort = record.cohort
    if cohort is None:
        return not_applicable("data", "Data", "there is no cohort.json")
    text = (
        f"{count_things(cohort.n_labelled, 'labelled image')} of {count_things(cohort.n_cases, 'case')}, "
        f"{count_things(cohort.n_unlabelled, 'unlabelled image')}; layout '{cohort.layout}', read from {cohort.root}."
    )
    blocks: list[Block] = [Paragraph(text)]
    if cohort.notes:
        blocks.append(Paragraph(f"Reading the folder: {'; '.join(cohort.notes)}.", "note"))
    if record.samples is not None:
        labelled = record.samples[record.samples["label"] != ""]
        classes = []
        for name, images in labelled.groupby("label"):
            share = format_percent(round(len(images) / len(labelled), 2))
            classes.append((str(name), f"{len(images):,}", share, f"{images['case'].nunique():,}"))
        blocks.append(Table(("class", "images", "share", "cases"), classes, "Labelled images"))
    if repaired := cohort.repaired:
        number, names = count_things(len(repaired), "image"), ", ".join(repaired[:MOST_NAMES])
        names += f" and {len(repaired) - MOST_NAMES} more" if len(repaired) > MOST_NAMES else ""
        blocks.append(Paragraph(f"Repaired before tiles were cut, by decision: {number} ({names})."))
    if record.stain is not None:
        text = f"Stain normalised ({record.stain.normalise}) to the training cases of each fold"
        blocks.append(Paragraph(f"{text}: {record.stain.summary}"))
    left_out = cohort.left_out
    if not left_out:
        return Section("data", "Data", [*blocks, Paragraph("No image was left out.")])
    rows = [(row.image, row.reason, row.who) for row in left_out[:MOST_ROWS]]
    caption = f"{count_things(len(left_out), 'image')} left out (decisions.csv)"
    if len(left_out) > MOST_ROWS:
        caption += f"; the first {MOST_ROWS} are shown"
    table = Table(("image", "reason", "decided by"), rows, caption, text_columns=3)
    return Section("data", "Data", [*blocks, table])


def audit_section(record: RunRecord) -> Section:
    """Return findings by code, and what was decided."""
    audit = record.audit
    if audit is None:
        return not_applicable("audit", "Audit", "there is no findings.json")
    rows = []
    for code, outcome in audit.list_outcomes():
        findings = [f for f in audit.findings if f.code == code]
        severity = ", ".join(sorted({f.severity for f in findings})) or "–"
        rows.append((code, str(outcome), severity, findings[0].message if findings else "–"))
    others = Counter(f.code for f in audit.findings if f.code not in audit.outcomes)
    rows += [(code, f"{number} found", "–", "–") for code, number in others.items()]
    blocks: list[Block] = [
        Paragraph("What the audit looked for before training. A finding changes nothing; a decision does."),
        Table(("check", "outcome", "severity", "the first finding"), rows, text_columns=4),
    ]
    actions = Counter((d.action, d.who) for d in record.decisions or ())
    parts = [f"{action} {count_things(number, 'image')} ({who})" for (action, who), number in actions.items()]
    text = (
        f"Decisions: {'; '.join(parts)}. Source files were not changed."
        if parts
        else "No decision was taken: every image was used as it is."
    )
    return Section("audit", "Audit", [*blocks, Paragraph(text)])


def folds_section(record: RunRecord) -> Section:
    """Return images and cases of each class in each outer fold, and whether a case straddles folds."""
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
    held = record.folds.groupby(["seed", "fold", "case"])["role"].nunique()
    leaking = sorted(set(held[held > 1].index.get_level_values("case")))
    if leaking:
        shown = ", ".join(str(case) for case in leaking[:5])
        number = count_things(len(leaking), "case straddles", "cases straddle")
        check = Paragraph(f"{number} the parts of a fold ({shown}): the score cannot be trusted.", "warning")
    else:
        check = Paragraph(
            "Checked here: in every fold and seed, each case is in one part only (learning, inner or held out)."
        )
    return Section("folds", "Folds", [check, table])


def curves_section(record: RunRecord) -> Section:
    """Return losses and inner macro-F1 per epoch, phase by phase."""
    history = record.history
    if history is None or history.empty:
        return not_applicable(
            "curves", "Learning curves", "there is no history.csv with epochs; a solved head has none"
        )
    blocks: list[Block] = [
        Paragraph("Thin blue: each fold and seed. Thick orange: the mean of the folds still training at that epoch.")
    ]
    if record.diverged is not None:
        places = [f"seed {r.seed}, fold {r.fold}, {r.phase}, epoch {r.epoch}" for r in record.diverged.itertuples()]
        text = (
            f"Training diverged (NaN weights): {'; '.join(places)}. The best earlier weights are kept; a refit that "
            "diverged keeps the weights of the epoch before. A lower rate, a warm-up or train.precision=32-true may "
            "prevent it."
        )
        blocks.append(Paragraph(text, "warning"))
    for phase, rows in history.groupby("phase", sort=False):
        present = [(column, title) for column, title in CURVES if rows[column].notna().any()]
        curves = [draw_curves(rows, column=column, title=title) for column, title in present]
        drawings = [(curve.to_svg(), curve.words) for curve in curves]
        epochs = count_things(int(rows["epoch"].nunique()), "epoch")
        blocks.append(Panels(drawings, f"Phase {phase}: up to {epochs}, {rows['seconds'].sum():.0f} s in all"))
    return Section("curves", "Learning curves", blocks)


def recipe_section(record: RunRecord) -> Section:
    """Return the resolved recipe."""
    if record.recipe is None:
        return not_applicable("recipe", "Recipe", "there is no recipe.yaml")
    text = "Every knob as it was used; 'smalti run DATA --recipe recipe.yaml' repeats the run."
    return Section("recipe", "Recipe", [Paragraph(text), Listing(record.recipe)])


def environment_section(record: RunRecord | None) -> Section:
    """Return machine, libraries and hashes."""
    environment = None if record is None else record.environment
    if environment is None:
        return not_applicable("environment", "Environment", "there is no environment.json")
    blocks: list[Block] = [Table(("what", "value"), list_environment(environment), text_columns=2)]
    if environment.command:
        blocks.append(Listing(" ".join(environment.command)))
    return Section("environment", "Environment", blocks)


def list_environment(environment: Environment) -> list[tuple[str, str]]:
    """Return what environment.json says, line by line."""
    keys = ("started", "python", "system", "processor", "cores", "memory_gb")
    rows = [(key.replace("_gb", " (GB)"), str(getattr(environment, key))) for key in keys]
    rows.append(("device", "; ".join(environment.device.values()) or "not recorded"))
    rows += [("weights", environment.weights)] if environment.weights else []
    rows += [(f"hash of {key}", value) for key, value in environment.identity.items()]
    return rows + list(environment.libraries.items())
