"""``decisions.csv``: what people and rules said about images.

The last row of an image counts, so that a row can undo an earlier one; a last row ``reset`` is no decision.
"""

from __future__ import annotations

import csv
import errno
import functools
import io
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast, get_args

from filelock import BaseFileLock, FileLock, SoftFileLock

from .. import images, store
from ..errors import DataError, Problem, RecipeError
from ..faults import MARKER_SUFFIX
from ..store.leftovers import name_temporary
from ..types import DECISION_COLUMNS, Action, Cohort, Decision, Finding, Repair, Sample
from .bindings import find_bound_cases
from .checks.registered import CHECKS, RELABEL_CHECKS
from .repairs import REPAIRS, plan_repairs

ACTIONS = get_args(Action)
RULE = "rule"  # who decided, when no person did
DECISION_HEADER = f"{','.join(DECISION_COLUMNS)}\n".encode()
LOCK_WAIT_S = 10.0  # for others who write; each holds the lock for milliseconds. The page waits for 15 s
STRONGEST = ("exclude", "repair")  # what a rule does where several proposals are about one image


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """All rows in order, as written; `validate_decisions` says whether they make sense. No file is no decision.

    Raises:
        DataError: the file is no regular file, is not UTF-8, or lacks the column ``image`` or ``action``.
    """
    if not path.exists():
        return ()
    with images.open_file(path) as file:
        return parse_decisions(file.read(), name=path.name)


def parse_decisions(content: bytes, *, name: str) -> tuple[Decision, ...]:
    """The rows of a decisions file from its bytes; ``name`` is for the message.

    Raises:
        DataError: as `read_decisions`.
    """
    try:
        text = content.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError:
        problem = Problem("encoding", name, "the file is not UTF-8.", "save it as CSV UTF-8")
        raise DataError("decisions cannot be read", [problem]) from None
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in ("image", "action") if column not in (reader.fieldnames or ())]
    if missing:
        message = f"the header lacks {', '.join(missing)} (found: {', '.join(reader.fieldnames or ())})."
        fix = f"give it the header {','.join(DECISION_COLUMNS)}, separated by commas"
        raise DataError("decisions cannot be read", [Problem("decisions-header", name, message, fix)])
    # A name may begin or end with spaces, and then they belong to it.
    try:
        cells = [{column: row.get(column) or "" for column in DECISION_COLUMNS} for row in reader]
    except csv.Error as error:  # csv reads no field beyond 131,072 signs
        problem = Problem(
            "decisions-table", f"{name} line {reader.line_num + 1}", f"{error}.", "correct or remove this row"
        )
        raise DataError("decisions cannot be read", [problem]) from None
    rows = ({column: text.strip() if column != "image" else text for column, text in row.items()} for row in cells)
    return tuple(Decision(action=cast(Action, row.pop("action")), **row) for row in rows)


def write_decisions(path: Path, decisions: Iterable[Decision]) -> Path:
    """Write all rows atomically."""
    return store.write_atomic(path, DECISION_HEADER + _format_rows(decisions))


def _format_rows(decisions: Iterable[Decision]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, DECISION_COLUMNS, lineterminator="\n")
    writer.writerows(asdict(decision) for decision in decisions)
    return buffer.getvalue().encode()


def append_decisions(path: Path, decisions: Iterable[Decision]) -> Path:
    """Add rows behind those that are there, all or none; they are on disk when this returns.

    Other processes may append at the same time. The file is written anew and renamed into place, so no reader and no
    power cut meets half a row.
    """
    with hold_decisions(path):
        known = path.read_bytes() if path.is_file() else b""
        # Of rows that were written here, bytes are enough; a file by other hands is read and written in our form.
        if not known.startswith(DECISION_HEADER) or not known.endswith(b"\n") or known.count(b'"') % 2:
            return write_decisions(path, (*read_decisions(path), *decisions))
        return store.write_atomic(path, known + _format_rows(decisions))


def hold_decisions(path: Path) -> BaseFileLock:
    """Keeps other processes and threads from appending, for a ``with`` block; one thread may hold it several times.

    The lock is a file beside the decisions that stays there, empty; a process that is killed lets go of it. On a file
    system without locks the file itself, which is removed after use, is the lock, under a name of its own.

    Raises:
        filelock.Timeout: another program held it for `LOCK_WAIT_S`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if _has_locks(path.parent):
        return FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_WAIT_S, is_singleton=True)
    return SoftFileLock(path.with_name(f".{path.name}{MARKER_SUFFIX}"), timeout=LOCK_WAIT_S, is_singleton=True)


@functools.cache
def _has_locks(folder: Path) -> bool:
    """Whether the file system keeps locks; some network shares and file systems of clusters do not."""
    if os.name == "nt":
        return True  # its locks are its own, and every file system there has them
    import fcntl

    probe = name_temporary(folder)
    try:
        with probe.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in store.UNKNOWN_REQUEST | {errno.ENOLCK}:
            raise
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def settle_decisions(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """Image -> the decision that counts, the last one; none for an image whose last row is ``reset``."""
    last = {decision.image: decision for decision in decisions}
    return {image: decision for image, decision in last.items() if decision.action != "reset"}


def validate_decisions(
    decisions: Iterable[Decision],
    *,
    images: Collection[str],
    classes: Collection[str],
    bound: Mapping[str, tuple[str, ...]] | None = None,
) -> None:
    """Check every row, and what they come to.

    Args:
        decisions: rows of ``decisions.csv``.
        images: names that a decision may be about, also of images that could not be read.
        classes: label names that exist.
        bound: image -> all images of its case, where these share their label (see `find_bound_cases`).

    Raises:
        DataError: with every row that names an unknown image, action or label, or a finding that nothing repairs, and
            every case that would have two labels.
    """
    decisions, problems = tuple(decisions), list[Problem]()
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
        if decision.action == "repair" and decision.finding not in REPAIRS:
            problems.append(Problem("decision-repair", where, f"nothing repairs '{decision.finding}'.",
                                    f"write {' or '.join(REPAIRS)} in the column finding, or exclude it"))  # fmt: skip
    problems += _find_torn_cases(settle_decisions(decisions), bound or {})
    if problems:
        raise DataError(f"{len(problems)} rows of decisions.csv cannot be followed", problems)


def _find_torn_cases(settled: Mapping[str, Decision], bound: Mapping[str, tuple[str, ...]]) -> list[Problem]:
    """Cases of one label of which only some images get another, or not all the same."""
    problems = []
    for case in dict.fromkeys(bound.values()):
        left = [image for image in case if image not in settled or settled[image].action != "exclude"]
        given = {
            image: settled[image].label for image in left if image in settled and settled[image].action == "relabel"
        }
        if given and (len(given) < len(left) or len(set(given.values())) > 1):
            others = [image for image in left if image not in given] or list(given)[1:]
            problems.append(Problem("decision-case", "decisions.csv",
                                    f"{next(iter(given))} is relabelled and {others[0]} is not alike, but a label "
                                    "belongs to the whole case here and both are of one.",
                                    f"relabel {', '.join(left)} alike ('smalti review' does), or none"))  # fmt: skip
    return problems


def apply_decisions(
    cohort: Cohort,
    decisions: Iterable[Decision],
    *,
    findings: Iterable[Finding] = (),
    bound: Mapping[str, tuple[str, ...]] | None = None,
) -> Cohort:
    """The cohort without excluded, and with relabelled and repaired images.

    Excluded images leave the sealed part too. The unlabelled part stays whole, since a submission needs a row for each
    of its images; a note says so. Repairs are made in all parts: they read no label, and what was painted over has to
    be predicted too. Decisions about images that are not in the cohort do nothing: those that could not be read are
    excluded already.

    Args:
        cohort: before any decision.
        decisions: rows of ``decisions.csv``.
        findings: of the audit of this cohort; a repair needs the finding that its decision names.
        bound: image -> all images of its case, where these share their label; None takes the cases of the cohort.

    Raises:
        DataError: a class has no image left, a repair whose finding is not there, or two labels in a case that has one.
    """
    settled = settle_decisions(decisions)
    if torn := _find_torn_cases(settled, find_bound_cases(cohort) if bound is None else bound):
        raise DataError(f"{len(torn)} cases would have two labels", torn)
    present = {s.image for s in cohort.samples}
    repairs = plan_repairs({image: d for image, d in settled.items() if image in present}, findings)
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
    excluded = {image for image, decision in settled.items() if decision.action == "exclude"}
    sealed = tuple(s for s in cohort.sealed if s.image not in excluded)
    return replace(
        cohort,
        labelled=_repair(labelled, repairs),
        unlabelled=_repair(cohort.unlabelled, repairs),
        sealed=_repair(sealed, repairs),
        notes=cohort.notes + _note_ignored(cohort, settled),
    )


def _apply(sample: Sample, decision: Decision | None) -> Sample | None:
    if decision is None or decision.action in ("keep", "repair"):
        return sample
    return None if decision.action == "exclude" else replace(sample, label=decision.label)


def _repair(samples: Iterable[Sample], repairs: Mapping[str, Repair]) -> tuple[Sample, ...]:
    return tuple(replace(s, repair=repairs.get(s.image)) for s in samples)


def _note_ignored(cohort: Cohort, settled: Mapping[str, Decision]) -> tuple[str, ...]:
    named = [s.image for s in cohort.unlabelled if s.image in settled]
    ignored = [image for image in named if settled[image].action in ("exclude", "relabel")]
    if not ignored:
        return ()
    return (f"decisions about {len(ignored)} images of the unlabelled part do nothing, each is predicted: "
            f"{', '.join(ignored)}",)  # fmt: skip


def accept_proposals(
    findings: Iterable[Finding], codes: Collection[str], *, decided: Iterable[Decision]
) -> tuple[Decision, ...]:
    """What the rule decides: the proposals of findings with these codes, for images without any decision yet.

    An image has one decision: where several findings are about it, excluding it goes before repairing.

    Raises:
        PartError: a code that no check has.
        RecipeError: a code whose findings propose another label.
    """
    findings = tuple(findings)
    check_accepted(codes, findings)
    known = settle_decisions(decided)
    when = store.now_text()
    open_ = [f for f in findings if f.code in codes and f.proposal in STRONGEST and f.images[0] not in known]
    accepted: dict[str, Decision] = {}
    for finding in sorted(open_, key=lambda f: STRONGEST.index(f.proposal)):
        image = finding.images[0]
        accepted.setdefault(image, Decision(image, finding.proposal, finding.message, RULE, when, finding.code))
    return tuple(accepted.values())


def check_accepted(codes: Collection[str], findings: Iterable[Finding] = ()) -> None:
    """Refuse what no rule may accept; without findings, before anything is looked at.

    Raises:
        PartError: a code that no check has.
        RecipeError: a code whose findings propose another label.
    """
    for code in codes:
        CHECKS.find(code)
    relabelling = {*RELABEL_CHECKS, *(f.code for f in findings if f.proposal == "relabel")}
    if refused := [code for code in codes if code in relabelling]:
        raise RecipeError(
            f"{refused[0]} is not accepted: no rule may change labels. What contradicts a label has learned from the "
            "labels that score, and a run on labels that follow it scores its own opinion. Fix: look at the images and "
            "decide ('smalti review DATA --run RUN')"
        )
