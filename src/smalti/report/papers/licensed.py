"""Return the section about licences: of the code, of the weights that were used, of the images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import SmaltiError
from ...licences import Row, count_open, find_data, find_weights, list_code
from ...notation import flatten, parse_yaml
from ...recipe import GIVEN
from ...records import CohortRecord, Environment
from ...records.layout import MEMBER_RUNS, RECIPE
from ..blocks import Paragraph, Section, Table, count_things
from ..contents import RunRecord
from ..subject import Subject

UNSAID = Row(
    name="given", title="encoder of the features: not said by the files", licence="unknown", source="yours to say"
)
SCRATCH = Row(
    name="none", title="no weights: the network began from scratch", licence="Apache-2.0", source="smalti itself"
)


def licences_section(record: RunRecord) -> Section:
    """Return what a run used, under which licence, and what that allows."""
    return _make_section(list_used_weights(record), find_data(read_knobs(record).get("data.licence")))


def used_licences_section(subject: Subject) -> Section:
    """Return what the runs of a ladder, or many runs, used together."""
    weights: list[tuple[Row, str]] = []
    for candidate in subject.candidates:
        with suppress(SmaltiError):  # a damaged run among many has its own row that says so
            found = _collect_weights([subject.folder.parent / candidate.run] if candidate.run else [])
            weights += [pair for pair in found if pair not in weights]
    return _make_section(weights, find_data(subject.recipe.get("data.licence")))


def _make_section(weights: Sequence[tuple[Row, str]], images: Row) -> Section:
    plain, others = count_open(list_code())
    named = ", ".join(f"{row.name} ({row.licence})" for row in others if row.extra != "dev" and row.version)
    text = (
        f"Code: smalti is under Apache-2.0. {count_things(plain, 'package')} that it can use ask for a notice only"
        f"{f'; more is asked by {named}' if named else ''}. 'smalti doctor --licences' lists all of them."
    )
    rows = []
    for kind, row, came in [*(("weights", row, came) for row, came in weights), ("images", images, "")]:
        about = "; ".join(words for words in (came, row.source, row.doubts) if words)
        rows.append((f"{kind}: {row.title or row.name}", row.licence, row.commercial, row.passing_on, about))
    table = Table(("what", "licence", "commercial use", "passing on", "known from"), rows, text_columns=5)
    end = "What is unknown is yours to find out before the model or a picture is passed on. This is no legal advice."
    return Section("licences", "Licences", [Paragraph(text), table, Paragraph(end, "note")])


def list_used_weights(record: RunRecord) -> list[tuple[Row, str]]:
    """Return each kind of weights that a run used, also through its members, and where they came from."""
    folders = [record.folder]
    if record.members is not None:
        done = set(record.members.loc[record.members["status"] == "done", "member"])
        folders = [record.folder / MEMBER_RUNS / str(name) for name in sorted(done)]
    elif members := read_knobs(record).get("ensemble.members"):
        folders = [record.folder.parent / str(name) for name in members]
    return _collect_weights(folders)


def _collect_weights(folders: Iterable[Path]) -> list[tuple[Row, str]]:
    rows: dict[str, tuple[Row, str]] = {}
    for folder in folders:
        path = folder / RECIPE
        knobs = _flatten(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if "model.backbone" not in knobs:
            continue
        if str(knobs["model.backbone"]).startswith(GIVEN):
            cohort = CohortRecord.find(folder)
            encoder = "" if cohort is None else cohort.encoder or ""
            named = (
                find_weights(encoder).model_copy(update={"title": f"encoder of the features: {encoder}"})
                if encoder
                else UNSAID
            )
            rows[named.title] = named, "features that were made elsewhere"
            continue
        row = find_weights(str(knobs["model.backbone"]), file=str(knobs["model.weights"] or ""))
        if not knobs["model.pretrained"] and not knobs["model.weights"]:
            row = SCRATCH
        environment = Environment.find(folder)
        rows[row.title or row.name] = row, (environment.weights or "") if environment else ""
    return list(rows.values())


def say_members(record: RunRecord) -> str:
    """Return a warning that the members of a portfolio have recipes of their own; empty for any other run."""
    return "" if record.members is None else " Members of the portfolio differ; each has its own recipe."


def read_knobs(record: RunRecord) -> Mapping[str, Any]:
    """Return the resolved recipe, knob -> value; empty where there is none."""
    return {} if record.recipe is None else _flatten(record.recipe)


def _flatten(text: str) -> Mapping[str, Any]:
    content = parse_yaml(text, "the recipe of the run")
    return flatten(content) if isinstance(content, dict) else {}
