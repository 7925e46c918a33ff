"""``decisions.csv``: what people and rules said about images.

The last row of an image counts, so that a row can undo an earlier one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast, get_args

from .. import runs
from ..errors import DataError, Problem
from ..types import DECISION_COLUMNS, Action, Cohort, Decision, Finding, Sample
from .checks import CHECKS

ACTIONS = get_args(Action)
RULE = "rule"  # who decided, when no person did


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """All rows in order, as written; `validate_decisions` says whether they make sense. No file is no decision.

    Raises:
        DataError: the file is not UTF-8, or lacks the column ``image`` or ``action``.
    """
    if not path.is_file():
        return ()
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        problem = Problem("encoding", path.name, "the file is not UTF-8.", "save it as CSV UTF-8")
        raise DataError("decisions cannot be read", [problem]) from None
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in ("image", "action") if name not in (reader.fieldnames or ())]
    if missing:
        message = f"the header lacks {', '.join(missing)} (found: {', '.join(reader.fieldnames or ())})."
        fix = f"give it the header {','.join(DECISION_COLUMNS)}, separated by commas"
        raise DataError("decisions cannot be read", [Problem("decisions-header", path.name, message, fix)])
    rows = ({name: (row.get(name) or "").strip() for name in DECISION_COLUMNS} for row in reader)
    return tuple(Decision(action=cast(Action, row.pop("action")), **row) for row in rows)


def write_decisions(path: Path, decisions: Iterable[Decision]) -> Path:
    """Write all rows atomically."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, DECISION_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(decision) for decision in decisions)
    return runs.write_atomic(path, buffer.getvalue())


def append_decisions(path: Path, decisions: Iterable[Decision]) -> Path:
    """Add rows behind those that are there."""
    return write_decisions(path, (*read_decisions(path), *decisions))


def settle_decisions(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """Image -> the decision that counts, the last one."""
    return {decision.image: decision for decision in decisions}


def validate_decisions(decisions: Iterable[Decision], *, images: Collection[str], classes: Collection[str]) -> None:
    """Check every row.

    Args:
        decisions: rows of ``decisions.csv``.
        images: names that a decision may be about, also of images that could not be read.
        classes: label names that exist.

    Raises:
        DataError: with every row that names an unknown image, action or label.
    """
    problems = []
    for row, decision in enumerate(decisions, start=2):
        where = f"decisions.csv row {row}"
        if decision.image not in images:
            problems.append(Problem("decision-image", where, f"the data folder has no image '{decision.image}'.",
                                    "write the name as in samples.csv, or remove the row"))  # fmt: skip
        if decision.action not in ACTIONS:
            problems.append(Problem("decision-action", where, f"'{decision.action}' is no action.",
                                    f"one of {', '.join(ACTIONS)}"))  # fmt: skip
        if decision.action == "relabel" and decision.label not in classes:
            problems.append(Problem("decision-label", where, f"'{decision.label}' is no class of this data.",
                                    f"put one of {', '.join(sorted(classes))} in the column label"))  # fmt: skip
    if problems:
        raise DataError(f"{len(problems)} rows of decisions.csv cannot be followed", problems)


def apply_decisions(cohort: Cohort, decisions: Iterable[Decision]) -> Cohort:
    """The cohort without excluded and with relabelled images.

    Excluded images leave the sealed part too. The unlabelled part stays whole, since a submission needs a row for each
    of its images; a note says so. Decisions about images that are not in the cohort do nothing: those that could not
    be read are excluded already.

    Raises:
        DataError: a class has no image left.
    """
    settled = settle_decisions(decisions)
    labelled = tuple(s for s in (_apply(s, settled.get(s.image)) for s in cohort.labelled) if s is not None)
    left = {s.label for s in labelled}
    problems = [
        Problem(
            code="class-emptied",
            file="decisions.csv",
            message=f"every image of class '{name}' is excluded or relabelled.",
            fix=f"keep at least one image of '{name}', or take the class out of the table of labels",
        )
        for name in cohort.classes
        if name not in left
    ]
    if problems:
        raise DataError("decisions leave a class without images", problems)
    ignored = [s.image for s in cohort.unlabelled if s.image in settled and settled[s.image].action != "keep"]
    notes = cohort.notes
    if ignored:
        notes += (f"decisions about {len(ignored)} images of the unlabelled part do nothing, each is predicted: "
                  f"{', '.join(ignored)}",)  # fmt: skip
    excluded = {image for image, decision in settled.items() if decision.action == "exclude"}
    sealed = tuple(s for s in cohort.sealed if s.image not in excluded)
    return replace(cohort, labelled=labelled, sealed=sealed, notes=notes)


def _apply(sample: Sample, decision: Decision | None) -> Sample | None:
    if decision is None or decision.action == "keep":
        return sample
    return None if decision.action == "exclude" else replace(sample, label=decision.label)


def accept_proposals(
    findings: Iterable[Finding], codes: Collection[str], *, decided: Iterable[Decision]
) -> tuple[Decision, ...]:
    """What the rule decides: the proposals of findings with these codes, for images without any decision yet.

    Raises:
        PartError: a code that no check has.
    """
    for code in codes:
        CHECKS.find(code)
    known = {decision.image for decision in decided}
    when = runs.now_text()
    accepted: dict[str, Decision] = {}
    for finding in findings:
        image = finding.images[0]
        if finding.code in codes and finding.proposal == "exclude" and image not in known:
            accepted.setdefault(image, Decision(image, "exclude", finding.message, RULE, when, finding.code))
    return tuple(accepted.values())
