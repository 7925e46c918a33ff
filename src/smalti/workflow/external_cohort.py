"""Scores of a model on a folder of new images that have labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..cohort import Columns, list_fresh
from ..errors import DataError
from ..evaluate import score_external
from ..records import ModelRecord
from ..records.layout import EXTERNAL, EXTERNAL_PAGE
from ..records.studies.external import ExternalRecord
from .listening import SILENT, Listener

if TYPE_CHECKING:
    from ..model import FolderAnswers


def score_answers(
    model: ModelRecord,
    found: FolderAnswers,
    *,
    by: Sequence[str] = (),
    columns: Columns,
    listener: Listener = SILENT,
) -> ExternalRecord | None:
    """Score answers where the folder has labels; write ``external.json`` and ``external.html`` beside them.

    Args:
        model: what answered.
        found: its answers.
        by: columns of the table of the folder, whose values are scored one by one.
        columns: how the folder was read.
        listener: hears why there is no score.

    Raises:
        DataError: the folder has no such column.
    """
    from ..report import write_external_report

    for name in (EXTERNAL, EXTERNAL_PAGE):
        (found.path / name).unlink(missing_ok=True)  # of labels that were there before
    labels = {sample.image: sample.label for sample in found.fresh.samples if sample.label is not None}
    if not labels:
        if by:
            raise DataError(f"no image of {found.fresh.root} has a label", fix="leave --by out, which is about scores")
        return None
    groups = {column: _read_groups(found, column, columns=columns) for column in by}
    try:
        record = score_external(found.table, labels, model, root=str(found.fresh.root), groups=groups)
    except DataError as error:
        listener.say(f"not scored: {error}")
        return None
    record.write(found.path)
    write_external_report(found.path)
    return record


def _read_groups(found: FolderAnswers, column: str, *, columns: Columns) -> dict[str, str]:
    """Return image -> value of a column; the folder is read once more with it in the place of the case."""
    values = {s.image: s.case for s in list_fresh(found.fresh.root, columns=replace(columns, case=column)).samples}
    if columns.case != column and values == {s.image: s.case for s in found.fresh.samples}:
        raise DataError(
            f"column '{column}' of {found.fresh.root} says the same as the cases, or a table of cases hides it",
            fix="name another column with --by",
        )
    return {image: "" if value == image else value for image, value in values.items()}
