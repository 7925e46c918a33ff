"""Return the section about licences: of the code, of the weights that were used, of the images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...licences import Row, count_open, find_data, find_weights, list_code
from ...notation import flatten, parse_yaml
from ...records import Environment
from ...records.layout import MEMBER_RUNS, RECIPE
from ..blocks import Paragraph, Section, Table, count_things
from ..contents import RunRecord

SCRATCH = Row(
    name="none", title="no weights: the network began from scratch", licence="Apache-2.0", source="smalti itself"
)


def licences_section(record: RunRecord) -> Section:
    """Return what was used, under which licence, and what that allows."""
    plain, others = count_open(list_code())
    named = ", ".join(f"{row.name} ({row.licence})" for row in others if row.extra != "dev" and row.version)
    text = (
        f"Code: smalti is under Apache-2.0. {count_things(plain, 'package')} that it can use ask for a notice only"
        f"{f'; more is asked by {named}' if named else ''}. 'smalti doctor --licences' lists all of them."
    )
    rows = [_tabulate("weights", row, came) for row, came in list_used_weights(record)]
    rows.append(_tabulate("images", find_data(read_knobs(record).get("data.licence")), ""))
    table = Table(("what", "licence", "commercial use", "passing on", "known from"), rows, text_columns=5)
    end = "What is unknown is yours to find out before the model or a picture is passed on. This is no legal advice."
    return Section("licences", "Licences", [Paragraph(text), table, Paragraph(end, "note")])


def _tabulate(kind: str, row: Row, came: str) -> tuple[str, ...]:
    about = "; ".join(text for text in (came, row.source, row.doubts) if text)
    return f"{kind}: {row.title or row.name}", row.licence, row.commercial, row.passing_on, about


def list_used_weights(record: RunRecord) -> list[tuple[Row, str]]:
    """Return each kind of weights that a run used, also through its members, and where they came from."""
    knobs = read_knobs(record)
    if record.members is not None:
        done = set(record.members.loc[record.members["status"] == "done", "member"])
        folders = [record.folder / MEMBER_RUNS / str(name) for name in sorted(done)]
    else:
        folders = [record.folder.parent / str(name) for name in knobs.get("ensemble.members") or ()]
    rows: dict[str, tuple[Row, str]] = {}
    for folder in folders or [record.folder]:
        found = knobs if folder == record.folder else _read_knobs_of(folder)
        if "model.backbone" not in found:
            continue
        row = find_weights(str(found["model.backbone"]), file=str(found["model.weights"] or ""))
        if not found["model.pretrained"] and not found["model.weights"]:
            row = SCRATCH
        environment = record.environment if folder == record.folder else Environment.find(folder)
        rows[row.name] = row, (environment.weights or "") if environment else ""
    return list(rows.values())


def say_members(record: RunRecord) -> str:
    """Return a warning that the members of a portfolio have recipes of their own; empty for any other run."""
    return "" if record.members is None else " Members of the portfolio differ; each has its own recipe."


def read_knobs(record: RunRecord) -> Mapping[str, Any]:
    """Return the resolved recipe, knob -> value; empty where there is none."""
    return {} if record.recipe is None else _flatten(record.recipe)


def _read_knobs_of(folder: Path) -> Mapping[str, Any]:
    path = folder / RECIPE
    return _flatten(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _flatten(text: str) -> Mapping[str, Any]:
    content = parse_yaml(text, "the recipe of the run")
    return flatten(content) if isinstance(content, dict) else {}
