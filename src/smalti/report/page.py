"""One self-contained HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from ..audit import Audit
from ..records import RunFolder
from ..store import now_text, read_json, reading, write_atomic
from ..types import Cohort, Decision
from .blocks import Paragraph, Section
from .record import RunRecord, read_record
from .sections.audited import write_findings_of, write_outcomes, write_suspects
from .sections.augmentation import write_augmentation
from .sections.experiments import write_differences, write_everything, write_overview, write_pairs, write_runs_method
from .sections.inputs import write_audit, write_curves, write_data, write_environment, write_folds, write_recipe
from .sections.ladder import (
    write_all_metrics,
    write_climb,
    write_failures,
    write_ladder_method,
    write_notes,
    write_settings,
    write_steps,
)
from .sections.learning import write_answers, write_points
from .sections.looked import write_looked
from .sections.portfolio import write_members, write_plan
from .sections.results import (
    write_classes,
    write_confusion,
    write_gallery,
    write_headline,
    write_method,
    write_metrics,
    write_submission,
)
from .sections.rules import write_calibration, write_seal
from .sections.tuning import write_curves_of, write_sensitivity, write_studies, write_worth
from .sections.units import write_cases
from .study import Study, gather_runs, read_ladder

if TYPE_CHECKING:
    from ..logbook import Entry

# A new section is one more function here; the template knows blocks, not sections.
SECTIONS: tuple[Callable[[RunRecord], Section], ...] = (
    write_headline,
    write_cases,
    write_metrics,
    write_classes,
    write_confusion,
    write_members,
    write_calibration,
    write_gallery,
    write_looked,
    write_suspects,
    write_plan,
    write_data,
    write_audit,
    write_folds,
    write_seal,
    write_curves,
    write_augmentation,
    write_submission,
    write_method,
    write_recipe,
    write_environment,
)
LADDER_SECTIONS: tuple[Callable[[Study], Section], ...] = (
    write_climb,
    write_steps,
    write_failures,
    write_notes,
    write_all_metrics,
    write_ladder_method,
    write_settings,
)
RUNS_SECTIONS: tuple[Callable[[Study], Section], ...] = (
    write_overview,
    write_pairs,
    write_everything,
    write_failures,
    write_differences,
    write_all_metrics,
    write_runs_method,
)


def write_report(run: RunFolder) -> Path:
    """Write ``report.html`` of a run folder and return its path.

    Only files of the run folder are read, the seal beside it, and the pictures of the images with the highest loss. A
    section whose file is missing says "not applicable" and why.

    Raises:
        RunError: a file of the run folder is damaged.
        DataError: the out-of-fold table does not make sense.
    """
    record = read_record(run)
    with reading(run.path, fix="run the command again that made it, which writes its records anew"):
        sections = [write(record) for write in SECTIONS]
    return _write_page(run.path, record.name, sections, kind="report")


def write_ladder_report(folder: Path) -> Path:
    """Write ``report.html`` of a ladder folder and return its path.

    Data and environment are told by the first rung's run folder beside it, where it is there.

    Raises:
        RunError: ladder.json is missing, or it or a run's file is damaged.
    """
    with reading(folder / "ladder.json", fix="run the same 'smalti ladder' again, which writes it anew"):
        study = read_ladder(folder)
        sections = [write(study) for write in LADDER_SECTIONS]
    if study.about:
        first = sections[0]
        sections[0] = Section(first.anchor, first.title, [Paragraph(study.about), *first.blocks])
    if study.record is not None:
        sections.insert(5, write_data(study.record))
    sections.append(write_environment(study.record))
    return _write_page(folder, study.title, sections, kind="ladder")


def write_runs_report(entries: Sequence[Entry], *, folder: Path, title: str) -> Path:
    """Write ``report.html`` about many runs into ``folder`` and return its path.

    With ``comparison.json`` in the folder the page also holds the paired comparison.

    Raises:
        RunError: comparison.json is damaged.
    """
    study = gather_runs(entries, folder=folder, title=title)
    return _write_page(folder, title, [write(study) for write in RUNS_SECTIONS], kind="logbook")


def write_tune_report(folder: Path) -> Path:
    """Write ``report.html`` of a search folder and return its path.

    Raises:
        RunError: tune.json is missing or damaged.
    """
    path = folder / "tune.json"
    with reading(path, fix="run the same 'smalti tune' again, which writes it anew"):
        result = read_json(path, "about")
        sections = [write(result) for write in (write_worth, write_sensitivity, write_curves_of, write_studies)]
    if result["about"]:
        first = sections[0]
        sections[0] = Section(first.anchor, first.title, [Paragraph(result["about"]), *first.blocks])
    return _write_page(folder, folder.name, sections, kind="search")


def write_learn_report(folder: Path) -> Path:
    """Write ``report.html`` of a learning curve's folder and return its path.

    Raises:
        RunError: learn.json is missing or damaged.
    """
    path = folder / "learn.json"
    with reading(path, fix="run the same 'smalti learn' again, which writes it anew"):
        result = read_json(path, "points", "answers")
        sections = [write_answers(result), write_points(result)]
    return _write_page(folder, folder.name, sections, kind="learning curve")


def write_audit_report(folder: Path, cohort: Cohort, audit: Audit, decisions: Sequence[Decision]) -> Path:
    """Write ``report.html`` of an audit into ``folder`` and return its path; small pictures are inside it."""
    codes = sorted({f.code for f in audit.findings})
    sections = [write_outcomes(cohort, audit, decisions), *(write_findings_of(c, cohort, audit) for c in codes)]
    return _write_page(folder, cohort.root.resolve().name, sections, kind="audit")


def _write_page(folder: Path, name: str, sections: Sequence[Section], *, kind: str) -> Path:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smalti.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    template = environment.get_template("page.html")
    page = template.render(name=name, kind=kind, written=now_text(), sections=sections)
    return write_atomic(folder / "report.html", page)
