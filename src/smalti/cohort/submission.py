"""The order and the names that a submission must have, from ``sample_submission.csv``."""

from __future__ import annotations

from dataclasses import replace

from ..errors import show_text
from .folder import Folder, Matcher
from .reading import Draft, Reading
from .tables import IMAGE_NAMES, LABEL_NAMES, Table, pick_column, read_csv

SUBMISSION_FILE = "sample_submission.csv"


def order_by_submission(folder: Folder, reading: Reading) -> None:
    """Put the test drafts in the order of ``sample_submission.csv`` and name them as it does, if it is there."""
    if SUBMISSION_FILE not in folder.files:
        return
    table = read_csv(folder, SUBMISSION_FILE, reading=reading)
    tests = {d.sample.image: d for d in reading.drafts if d.test}
    if table is None:
        return
    reading.tables.add(table.file)
    index = pick_column(table.header, IMAGE_NAMES) or table.header[0]
    others = [column for column in table.header if column != index]
    if not others:
        reading.report(
            "submission-columns",
            SUBMISSION_FILE,
            message=f"has one column only ({index}).",
            fix="give it two: how images are named, and the label",
        )
        return
    reading.submission_columns = (index, pick_column(table.header, LABEL_NAMES, taken=(index,)) or others[0])
    if not tests:
        reading.report(
            "no-test-images",
            SUBMISSION_FILE,
            message="is there, but no images of a test part are.",
            fix="add test_data/, or mark rows as 'test' in a part column",
            warning=True,
        )
        return
    ordered = _match_rows(table, index, tests=tests, reading=reading)
    for name in tests.keys() - ordered.keys():
        reading.report(
            "file-without-row",
            name,
            message=f"is not named in {SUBMISSION_FILE}.",
            fix="add its row there, or move the file out of the test part",
            images=(name,),
        )
    rest = [draft for name, draft in tests.items() if name not in ordered]
    reading.drafts = [d for d in reading.drafts if not d.test] + list(ordered.values()) + rest


def _match_rows(table: Table, index: str, *, tests: dict[str, Draft], reading: Reading) -> dict[str, Draft]:
    matcher = Matcher(tests)
    ordered: dict[str, Draft] = {}
    for row in table.rows:
        text = row.cells[index]
        found = matcher.find(text)
        if len(found) > 1:
            reading.report(
                "ambiguous-row",
                row.where,
                message=f"'{text}' may mean {' or '.join(found[:4])}.",
                fix="write the path of the one that is meant",
                images=tuple(found),
            )
        elif not found:
            reading.report(
                "row-without-file",
                row.where,
                message=f"'{text}' has no image in the test part.",
                fix="copy the file there; without it the submission lacks this row",
                images=(show_text(text),),
            )
        elif found[0] in ordered:
            reading.report(
                "repeated-row",
                row.where,
                message=f"'{text}' is listed twice.",
                fix="delete one of the rows",
                images=(found[0],),
            )
        else:
            draft = tests[found[0]]
            ordered[found[0]] = replace(draft, sample=replace(draft.sample, index=text))
    return ordered
