"""Which entries, in which order, and in what two recipes differ.

A *field* is a column of an entry (`COLUMNS`), a metric (``macro_f1``, ``macro_f1_low``, ``macro_f1_high``) or a knob
by its dotted name (``model.backbone``).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from ..errors import RecipeError
from ..metrics import LOWER_IS_BETTER, METRICS
from ..notation import parse_yaml
from ..recipe import list_knobs
from .entries import Entry

HEADLINE = "macro_f1"
COLUMNS = (
    "name", "kind", "status", "error", "started", "seconds", "data", "data_hash", "preset", "low", "high",
    "chance_prior", "optimism", "trustworthy", "trust_reason", "unit", "n_images", "n_cases", "n_seeds", "device",
)  # fmt: skip
NUMBERS = frozenset({"seconds", "chance_prior", "optimism", "n_images", "n_cases", "n_seeds"})
SHORT = {"low": f"{HEADLINE}_low", "high": f"{HEADLINE}_high"}  # of the interval of the headline metric
ABSENT = "(not in this recipe)"

CONDITION = re.compile(r"\s*([^\s=!<>~]+)\s*(==|!=|<=|>=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda found, wanted: found < wanted,
    "<=": lambda found, wanted: found <= wanted,
    ">": lambda found, wanted: found > wanted,
    ">=": lambda found, wanted: found >= wanted,
}


def filter_entries(entries: Sequence[Entry], conditions: Iterable[str]) -> tuple[Entry, ...]:
    """The entries that meet all conditions, in their order.

    A condition is ``FIELD OPERATOR VALUE`` with one of ``= != < <= > >= ~`` (``~``: the text contains VALUE, whatever
    the case): ``status=finished``, ``model.backbone=mobilenetv2_100``, ``macro_f1>0.5``, ``data~glas``. An entry that
    lacks the field meets only ``!=`` and ``=null``.

    Raises:
        RecipeError: with everything that is wrong with the conditions; unknown fields name the nearest.
    """
    fields = list_fields(entries)
    tests: list[tuple[str, Callable[[Any], bool]]] = []
    problems = []
    for condition in conditions:
        try:
            tests.append(_read_condition(condition, fields))
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError("\n".join(problems))
    return tuple(entry for entry in entries if all(test(read_field(entry, field)) for field, test in tests))


def sort_entries(entries: Sequence[Entry], by: str, *, ascending: bool | None = None) -> tuple[Entry, ...]:
    """The entries in the order of a field; those that lack it come last, equals keep their order.

    Args:
        entries: in any order.
        by: the field.
        ascending: None puts the best score first, and everything else in ascending order.

    Raises:
        RecipeError: unknown field; the message names the nearest.
    """
    check_field(by, list_fields(entries))
    rising = _rises(by) if ascending is None else ascending
    known = [entry for entry in entries if read_field(entry, by) is not None]
    lacking = [entry for entry in entries if read_field(entry, by) is None]
    known.sort(key=lambda entry: _rank(read_field(entry, by)), reverse=not rising)
    return (*known, *lacking)


def diff_recipes(a: Entry, b: Entry) -> dict[str, tuple[Any, Any]]:
    """The knobs in which two recipes differ, with both values; `ABSENT` where a recipe does not have the knob."""
    knobs = dict.fromkeys((*a.recipe, *b.recipe))
    pairs = {knob: (a.recipe.get(knob, ABSENT), b.recipe.get(knob, ABSENT)) for knob in knobs}
    return {knob: (one, other) for knob, (one, other) in pairs.items() if one != other}


def list_fields(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Every field that can be asked for: columns, metrics and their bounds, knobs of today's and of these recipes."""
    names = dict.fromkeys(COLUMNS)
    metrics = dict.fromkeys(entry.name for entry in METRICS)
    knobs = dict.fromkeys(list_knobs())
    for entry in entries:
        metrics.update(dict.fromkeys(entry.metrics))
        knobs.update(dict.fromkeys(entry.recipe))
    bounds = [f"{name}{bound}" for name in metrics for bound in ("", "_low", "_high")]
    return tuple(names | dict.fromkeys(bounds) | knobs)


def read_field(entry: Entry, field: str) -> Any:
    """Value of a field; None where the entry lacks it."""
    field = SHORT.get(field, field)
    if field in COLUMNS:
        value = getattr(entry, field)
        return None if value == "" else value
    for ending, key in (("_low", "low"), ("_high", "high"), ("", "value")):
        if field.endswith(ending) and (metric := entry.metrics.get(field.removesuffix(ending))):
            return metric[key]
    return entry.recipe.get(field)


def check_fields(names: Iterable[str], entries: Sequence[Entry]) -> None:
    """Refuse names that are no fields.

    Raises:
        RecipeError: with all of them; each names the nearest.
    """
    fields = list_fields(entries)
    problems = []
    for name in names:
        try:
            check_field(name, fields)
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError("\n".join(problems))


def tabulate_entries(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row a run: columns, metrics with bounds, then every knob that one of the recipes has."""
    metrics = dict.fromkeys(name for entry in entries for name in entry.metrics)
    bounds = [f"{name}{bound}" for name in metrics for bound in ("", "_low", "_high")]
    knobs = dict.fromkeys(knob for entry in entries for knob in entry.recipe if knob not in COLUMNS)
    names = [*(name for name in COLUMNS if name not in SHORT), *bounds, *knobs]
    rows = [[_plain(read_field(entry, name)) for name in names] for entry in entries]
    return pd.DataFrame(rows, columns=names)


def _plain(value: Any) -> Any:
    """Numbers and text as they are; lists and the like as JSON."""
    return value if value is None or isinstance(value, int | float | str) else say_value(value)


def check_field(field: str, fields: Sequence[str]) -> None:
    """Refuse a field that does not exist.

    Raises:
        RecipeError: the message names the nearest.
    """
    if field in fields:
        return
    ends = [name for name in fields if name.rpartition(".")[2] == field]
    near = ends[:1] or difflib.get_close_matches(field, fields, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else f"Columns: {', '.join(COLUMNS)}."
    raise RecipeError(
        f"the logbook has no column, metric or knob '{field}'. {hint} Fix: 'smalti parts --knobs' lists the knobs"
    )


def say_value(value: Any) -> str:
    """A value in words that a condition understands: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _rises(field: str) -> bool:
    """Whether ascending is the natural order: not for scores, of which the largest is the best."""
    name = SHORT.get(field, field).removesuffix("_low").removesuffix("_high")
    return not _is_score(field) or name in LOWER_IS_BETTER


def _is_score(field: str) -> bool:
    """Whether the field is a metric or one of its bounds: neither a column nor a knob, which has a dot."""
    return field in SHORT or (field not in COLUMNS and "." not in field)


def _rank(value: Any) -> tuple[int, float, str]:
    """Numbers before text, so that a knob may be a number here and a word there."""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, say_value(value))


def _read_condition(condition: str, fields: Sequence[str]) -> tuple[str, Callable[[Any], bool]]:
    found = CONDITION.fullmatch(condition)
    if found is None:
        raise RecipeError(
            f"condition '{condition}' was not understood. Fix: FIELD OPERATOR VALUE with one of = != < <= > >= ~, "
            "for example macro_f1>0.5"
        )
    field, operator, text = found.groups()
    check_field(field, fields)
    if operator == "~":
        return field, lambda value: value is not None and text.lower() in say_value(value).lower()
    if operator in ORDERS:
        if _parse_number(text) is None and (field in NUMBERS or _is_score(field)):
            raise RecipeError(f"condition '{condition}': '{text}' is no number. Fix: for example {field}{operator}0.5")
        return field, _compare(field, ORDERS[operator], text)
    equal = _match(field, text)
    return field, (lambda value: not equal(value)) if operator == "!=" else equal


def _match(field: str, text: str) -> Callable[[Any], bool]:
    """Equality with the words of a value or with what YAML makes of them; a data folder also by its name alone."""
    wanted = _parse_value(text)

    def match(value: Any) -> bool:
        if field == "data" and value is not None and value.rstrip("/").rpartition("/")[2] == text:
            return True
        return value == wanted or (value is not None and say_value(value) == text)

    return match


def _compare(field: str, order: Callable[[Any, Any], bool], text: str) -> Callable[[Any], bool]:
    """Numbers compare as numbers, text (a date, a name) as text; a number and the word of a knob do not compare."""
    number = _parse_number(text)

    def compare(value: Any) -> bool:
        if isinstance(value, int | float):
            return number is not None and order(value, number)
        return isinstance(value, str) and (number is None or field in COLUMNS) and order(value, text)

    return compare


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parse_value(text: str) -> Any:
    number = _parse_number(text)  # first: YAML takes 1e-3 for a text
    if number is not None:
        return number
    try:
        return parse_yaml(text, "value")
    except RecipeError:
        return text
