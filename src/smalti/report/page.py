"""Write self-contained HTML pages: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from ..audit import Audit
from ..records import RunFolder
from ..records.layout import EXTERNAL_PAGE, REPORT
from ..records.studies.external import ExternalRecord
from ..records.studies.learning import LearningResult
from ..records.studies.search import SearchResult
from ..store import now_text, reading, write_atomic
from ..types import Cohort, Decision
from . import external_page
from .blocks import Paragraph, Section
from .contents import RunRecord, read_record
from .papers.at_threshold import threshold_section
from .papers.card import card_section
from .papers.licensed import licences_section, used_licences_section
from .sections.audited import findings_section, outcomes_section, suspects_section
from .sections.augmentation import augmentation_section
from .sections.by_case import cases_section, sites_section
from .sections.experiments import (
    differences_section,
    everything_section,
    overview_section,
    pairs_section,
    runs_method_section,
)
from .sections.fitted import calibration_section, seal_section
from .sections.inputs import (
    audit_section,
    curves_section,
    data_section,
    environment_section,
    folds_section,
    recipe_section,
)
from .sections.knobs import curves_of_section, sensitivity_section, studies_section, worth_section
from .sections.looked import looked_section
from .sections.more_cases import answers_section, points_section
from .sections.results import (
    classes_section,
    confusion_section,
    gallery_section,
    headline_section,
    method_section,
    metrics_section,
    submission_section,
)
from .sections.rungs import (
    all_metrics_section,
    failures_section,
    ladder_method_section,
    notes_section,
    rungs_section,
    settings_section,
    steps_section,
)
from .sections.shares import members_section, plan_section, tried_section
from .subject import Subject, gather_runs, read_ladder

if TYPE_CHECKING:
    from ..logbook import Entry

# A new section is one more function here; the template knows blocks, not sections.
SECTIONS: tuple[Callable[[RunRecord], Section], ...] = (
    headline_section,
    cases_section,
    sites_section,
    metrics_section,
    classes_section,
    confusion_section,
    members_section,
    calibration_section,
    threshold_section,
    gallery_section,
    looked_section,
    suspects_section,
    plan_section,
    data_section,
    audit_section,
    folds_section,
    seal_section,
    curves_section,
    augmentation_section,
    tried_section,
    submission_section,
    method_section,
    recipe_section,
    card_section,
    licences_section,
    environment_section,
)
LADDER_SECTIONS: tuple[Callable[[Subject], Section], ...] = (
    rungs_section,
    steps_section,
    failures_section,
    notes_section,
    all_metrics_section,
    ladder_method_section,
    settings_section,
    used_licences_section,
)
RUNS_SECTIONS: tuple[Callable[[Subject], Section], ...] = (
    overview_section,
    pairs_section,
    everything_section,
    failures_section,
    differences_section,
    all_metrics_section,
    runs_method_section,
    used_licences_section,
)


def write_report(run: RunFolder) -> Path:
    """Write ``report.html`` of a run folder and return its path.

    It reads the files of the run folder, the seal beside it, and the pictures of the images with the highest loss. A
    section whose file is missing says "not applicable" and why.

    Raises:
        RunError: a file of the run folder is damaged.
        DataError: the out-of-fold table does not make sense.
    """
    record = read_record(run)
    with reading(run.path, fix="run the command again that made it, which writes its records anew"):
        sections = [write(record) for write in SECTIONS]
    return write_page(run.path, record.name, sections, kind="report")


def write_ladder_report(folder: Path) -> Path:
    """Write ``report.html`` of a ladder folder and return its path.

    Data and environment are those of the first rung's run folder beside it, if there is one.

    Raises:
        RunError: the result of the ladder is missing, or it or a file of a run is damaged.
    """
    subject = read_ladder(folder)
    sections = [write(subject) for write in LADDER_SECTIONS]
    if subject.about:
        first = sections[0]
        sections[0] = Section(first.anchor, first.title, [Paragraph(subject.about), *first.blocks])
    if subject.record is not None:
        sections.insert(5, data_section(subject.record))
    sections.append(environment_section(subject.record))
    return write_page(folder, subject.title, sections, kind="ladder")


def write_runs_report(entries: Sequence[Entry], *, folder: Path, title: str) -> Path:
    """Write ``report.html`` about many runs into ``folder`` and return its path.

    With a comparison in the folder the page also holds the pairs.

    Raises:
        RunError: the comparison is damaged.
    """
    subject = gather_runs(entries, folder=folder, title=title)
    return write_page(folder, title, [write(subject) for write in RUNS_SECTIONS], kind="logbook")


def write_tune_report(folder: Path) -> Path:
    """Write ``report.html`` of a search folder and return its path.

    Raises:
        RunError: the result of the search is missing or damaged.
    """
    result = SearchResult.read(folder)
    sections = [write(result) for write in (worth_section, sensitivity_section, curves_of_section, studies_section)]
    if result.about:
        first = sections[0]
        sections[0] = Section(first.anchor, first.title, [Paragraph(result.about), *first.blocks])
    return write_page(folder, folder.name, sections, kind="search")


def write_learn_report(folder: Path) -> Path:
    """Write ``report.html`` of a learning curve's folder and return its path.

    Raises:
        RunError: the result of the curve is missing or damaged.
    """
    result = LearningResult.read(folder)
    sections = [answers_section(result), points_section(result)]
    return write_page(folder, folder.name, sections, kind="learning curve")


def write_audit_report(folder: Path, cohort: Cohort, audit: Audit, decisions: Sequence[Decision]) -> Path:
    """Write ``report.html`` of an audit into ``folder`` and return its path; small pictures are inside it."""
    codes = sorted({f.code for f in audit.findings})
    sections = [outcomes_section(cohort, audit, decisions), *(findings_section(c, cohort, audit) for c in codes)]
    return write_page(folder, cohort.root.resolve().name, sections, kind="audit")


def write_external_report(folder: Path) -> Path:
    """Write ``external.html`` about the answers in ``folder`` and return its path.

    Raises:
        RunError: the scores of the answers are missing or damaged.
    """
    record = ExternalRecord.read(folder)
    sections = [write(record) for write in external_page.SECTIONS]
    return write_page(folder, record.model, sections, kind="external cohort", file=EXTERNAL_PAGE)


def write_page(folder: Path, name: str, sections: Sequence[Section], *, kind: str, file: str = REPORT) -> Path:
    """Write a page of sections into a folder and return its path."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smalti.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    template = environment.get_template("page.html")
    page = template.render(name=name, kind=kind, written=now_text(), sections=sections)
    return write_atomic(folder / file, page)
