"""Whether the prediction tables of members fit together: every problem at once, each with its fix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import Problem
from ...records.layout import INNER, OUT_OF_FOLD, name_prediction
from ...stats.pool import fill_columns, find_faults
from ...types import PREDICTION_COLUMNS, SCORE_PREFIX, score_columns
from .members import KEYS, PARTS, Member, PartName, Table

SHOWN = 3  # names listed per problem


def find_problems(members: Sequence[Member], classes: tuple[str, ...], *, partial: bool) -> Iterator[Problem]:
    """Find everything by which members cannot be combined; ``partial``: inner rows may lack scores."""
    names = [member.name for member in members]
    if not names:
        yield Problem("no-members", "ensemble.members", "it names no run.", "name one or more finished runs")
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Problem("repeated-member", "ensemble.members", f"'{name}' is named twice.", "name it once")
    for part in PARTS:
        file = OUT_OF_FOLD if part == "outer" else name_prediction(part)
        usable = []
        for member in members:
            table, place = getattr(member, part), f"{member.name}/{file}"
            faults = [] if table is None else list(_find_faults(table, classes, part, partial))
            yield from (Problem(code, place, message, fix) for code, message, fix in faults)
            if "missing-column" not in (code for code, _, _ in faults):
                usable.append((member.name, place, table))
        for _, place, table in usable[1:]:
            yield from _compare_tables(usable[0][2], table, name=usable[0][0], place=place)
    # Cases that are inner and outer in the same seed and fold.
    columns = ["seed", "fold", "case"]
    for member in members[:1]:
        whole = set(columns) <= set(member.inner) & set(member.outer)
        if whole and (both := _list_rows(member.inner, columns) & _list_rows(member.outer, columns)):
            said = _quote(f"{case} (seed {seed}, fold {fold})" for seed, fold, case in sorted(both))
            message = f"{len(both)} cases are both inner and outer: {said}."
            yield Problem("leak", f"{member.name}/{INNER}", message, "split by case and train again")


def _find_faults(
    table: Table, classes: tuple[str, ...], part: PartName, partial: bool
) -> Iterator[tuple[str, str, str]]:
    """Yield code, message and fix of each fault of one table by itself; ``partial`` as in `find_problems`."""
    columns = score_columns(classes)
    again = "predict this run again ('smalti predict')"
    if missing := [name for name in (*PREDICTION_COLUMNS, *columns) if name not in table]:
        yield "missing-column", f"there is no column {_quote(missing)}.", again
        return
    if strange := [name for name in table if str(name).startswith(SCORE_PREFIX) and name not in columns]:
        known = f"combine runs with the same classes, here {', '.join(classes)}"
        yield "unknown-class", f"there are scores of other classes: {_quote(strange)}.", known
    if (repeated := table.duplicated(["seed", "image"] if part == "outer" else KEYS)).any():
        yield "repeated-row", f"images occur twice in one place: {_quote(table['image'][repeated])}.", again
    for fault in find_faults(fill_columns(table, classes), classes, unscored=partial and part == "inner"):
        if fault.code != "unknown-label" or part in ("inner", "outer"):
            yield fault.code, f"{fault.message} It concerns {_quote(table['image'][fault.rows])}.", fault.fix


def _compare_tables(first: Table | None, other: Table | None, *, name: str, place: str) -> Iterator[Problem]:
    """Find where a table of another member differs from that of the first member, called ``name``."""
    if first is None or other is None:
        if first is not other:
            message = f"there is {'no' if other is None else 'a'} table here, unlike in '{name}'."
            yield Problem("missing-table", place, message, "predict both runs again ('smalti predict')")
        return
    fix = f"run it again with the data, decisions and split of '{name}', or take one of the two out"
    differ = False
    for what, columns in (("seeds", ["seed"]), ("images", ["image"]), ("folds", KEYS)):
        mine, theirs = _list_rows(other, columns), _list_rows(first, columns)
        if mine != theirs and not (what == "folds" and differ):
            differ = True
            said: list[str] = []
            for verb, rows in (("lacks", theirs - mine), ("has in addition", mine - theirs)):
                texts = (" ".join(f"{c} {v}" for c, v in zip(columns, row, strict=True)) for row in sorted(rows))
                said += [f"{verb} {len(rows)}: {_quote(texts)}"] if rows else []
            message = f"its {what} are not those of '{name}'; it {', and '.join(said)}."
            yield Problem(f"other-{what}", place, message, fix)
    for column in ("case", "label"):
        mine, theirs = (_list_rows(t[~t[column].isin(["", np.nan])], ["image", column]) for t in (other, first))
        if moved := sorted({image for image, _ in mine ^ theirs} & set(first["image"]) & set(other["image"])):
            message = f"{len(moved)} images have another {column} than in '{name}': {_quote(moved)}."
            yield Problem(f"other-{column}s", place, message, fix)


def _list_rows(table: Table, columns: list[str]) -> set[tuple[Any, ...]]:
    return set(zip(*(table[column].tolist() for column in columns), strict=True))


def _quote(names: Iterable[Any]) -> str:
    """Quote the first few names, and say how many more there are."""
    listed = [f"'{name}'" for name in names]
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")
