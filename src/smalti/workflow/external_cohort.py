"""Scores of a model on a folder of new images that have labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import DataError
from ..evaluate import score_external
from ..project import SILENT, Listener
from ..records import ModelRecord
from ..records.layout import EXTERNAL, EXTERNAL_PAGE
from ..records.studies.external import ExternalRecord

if TYPE_CHECKING:
    from ..model import FolderAnswers


def score_answers(
    model: ModelRecord,
    found: FolderAnswers,
    *,
    by: Sequence[str] = (),
    listener: Listener = SILENT,
) -> ExternalRecord | None:
    """Score answers where the folder has labels; write ``external.json`` and ``external.html`` beside them.

    Args:
        model: what answered.
        found: its answers.
        by: columns that were read as subgroups (`Columns.subgroups`); their values and sites are scored one by one.
        listener: hears why there is no score.

    Raises:
        DataError: there are no labels, and subgroups are asked for.
    """
    from ..report import write_external_report

    for name in (EXTERNAL, EXTERNAL_PAGE):
        (found.path / name).unlink(missing_ok=True)  # of labels that were there before
    labels = {sample.image: sample.label for sample in found.fresh.samples if sample.label is not None}
    if not labels:
        if by:
            raise DataError(f"no image of {found.fresh.root} has a label", fix="leave --by out, which is about scores")
        return None
    samples = found.fresh.samples
    groups = {column: {s.image: dict(s.subgroups).get(column, "") for s in samples} for column in by}
    sites = {sample.image: sample.site for sample in samples}
    if any(sites.values()) and sites not in groups.values():
        groups["site"] = sites
    try:
        record = score_external(found.table, labels, model, root=str(found.fresh.root), groups=groups)
    except DataError as error:
        listener.say(f"not scored: {error}")
        return None
    record.write(found.path)
    write_external_report(found.path)
    return record
