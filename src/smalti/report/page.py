"""One self-contained HTML page: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jinja2

from ..runs import RunFolder, now_text, write_atomic
from .blocks import Section
from .inputs import write_audit, write_curves, write_data, write_environment, write_folds, write_recipe
from .record import RunRecord, read_record
from .results import (
    write_classes,
    write_confusion,
    write_gallery,
    write_headline,
    write_method,
    write_metrics,
    write_submission,
)

# A new section is one more function here; the template knows blocks, not sections.
SECTIONS: tuple[Callable[[RunRecord], Section], ...] = (
    write_headline,
    write_metrics,
    write_classes,
    write_confusion,
    write_gallery,
    write_data,
    write_audit,
    write_folds,
    write_curves,
    write_submission,
    write_method,
    write_recipe,
    write_environment,
)


def write_report(run: RunFolder) -> Path:
    """Write ``report.html`` of a run folder and return its path.

    Only files of the run folder are read, and the pictures of the images with the highest loss. A section whose file is
    missing says "not applicable" and why.

    Raises:
        RunError: a file of the run folder is damaged.
        DataError: the out-of-fold table does not make sense.
    """
    record = read_record(run)
    sections = [write(record) for write in SECTIONS]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smalti.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    page = environment.get_template("page.html").render(name=record.name, written=now_text(), sections=sections)
    return write_atomic(run.path / "report.html", page)
