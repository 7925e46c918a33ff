"""Which entries, in which order, and in what two recipes differ.

A *field* is a column of an entry (`COLUMNS`), a metric (``macro_f1``, ``macro_f1_low``, ``macro_f1_high``) or a knob
by its dotted name (``model.backbone``).
"""

from __future__ import annotations

import difflib
import re
import tokenize
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from ..errors import RecipeError
from ..metrics import LOWER_IS_BETTER, METRICS
from ..notation import say_value
from ..recipe import list_knobs
from ..records.scored import HEADLINE
from .entries import Entry

COLUMNS = (
    "name", "kind", "status", "error", "started", "seconds", "data", "data_name", "data_hash", "preset", "low", "high",
    "chance_prior", "optimism", "trustworthy", "trust_reason", "unit", "n_images", "n_cases", "n_seeds", "device",
)  # fmt: skip
SHORT = {"low": f"{HEADLINE}_low", "high": f"{HEADLINE}_high"}  # of the interval of the headline metric
ABSENT = "(not in this recipe)"
# What Python and pandas say of a condition that is none.
MISUNDERSTOOD = (
    SyntaxError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError, ArithmeticError,
    tokenize.TokenError, re.error,
)  # fmt: skip
EXAMPLE = "\"macro_f1 > 0.5 and model.backbone == 'resnet18'\""


def filter_entries(entries: Sequence[Entry], conditions: Iterable[str]) -> tuple[Entry, ...]:
    """Return the entries that meet all conditions, in their order.

    A condition is an expression of `pandas.DataFrame.query` on fields: ``status == 'finished'``, ``macro_f1 > 0.5``,
    ``model.backbone in ['resnet18', 'resnet34']``, ``data.str.contains('glas')``, ``optimism.isna()``. Lists are text
    as in JSON: ``split.seeds == '[0, 1]'``. Names with dots need no backticks.

    Raises:
        RecipeError: with everything that is wrong with the conditions; unknown fields name the nearest.
    """
    if not entries:
        return ()
    fields = list_fields(entries)
    cells = {name: [_plain(read_field(entry, name)) for entry in entries] for name in fields}
    table = pd.DataFrame(cells, index=range(len(entries)))
    table["trustworthy"] = [cell is True for cell in cells["trustworthy"]]  # a run without a score is not
    dotted = "|".join(re.escape(name) for name in sorted(fields, key=len, reverse=True) if "." in name)
    kept, problems = pd.Series(True, index=table.index), []
    for condition in conditions:
        quoted = re.sub(rf"(?<![\w.`'\"])({dotted})(?![\w`])", r"`\1`", condition)
        try:
            found = table.eval(quoted, engine="python", local_dict={}, global_dict={})
            if isinstance(found, pd.Series) and found.dtype == object:
                found = found.eq(True)  # what is not known is no match
            if not isinstance(found, pd.Series) or found.dtype != bool:
                raise TypeError("it is neither true nor false of a run")
            kept &= found
        except pd.errors.UndefinedVariableError as error:
            name = str(error).split("'")[1]
            whole = re.search(rf"\b{re.escape(name)}[\w.]*", condition)
            problems.append(_explain_unknown(whole[0] if whole else name, fields))
        except MISUNDERSTOOD as error:
            problems.append(
                f"condition '{condition}' was not understood: {error}. Fix: an expression of pandas on columns, "
                f"metrics and knobs, for example {EXAMPLE}; columns: {', '.join(COLUMNS)}"
            )
    if problems:
        raise RecipeError("\n".join(problems))
    return tuple(entry for entry, keep in zip(entries, kept, strict=True) if keep)


def sort_entries(entries: Sequence[Entry], by: str, *, ascending: bool | None = None) -> tuple[Entry, ...]:
    """Return the entries in the order of a field; those that lack it come last, equals keep their order.

    Args:
        entries: in any order.
        by: the field.
        ascending: None puts the best score first, and everything else in ascending order.

    Raises:
        RecipeError: unknown field; the message names the nearest.
    """
    check_fields([by], entries)
    name = SHORT.get(by, by).removesuffix("_low").removesuffix("_high")
    is_score = by in SHORT or (by not in COLUMNS and "." not in by)  # neither a column nor a knob, which has a dot
    rising = (not is_score or name in LOWER_IS_BETTER) if ascending is None else ascending

    def rank(entry: Entry) -> tuple[int, float, str]:
        value = read_field(entry, by)  # numbers before text: a knob may be a number here and a word there
        return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, say_value(value))

    known = [entry for entry in entries if read_field(entry, by) is not None]
    lacking = [entry for entry in entries if read_field(entry, by) is None]
    return (*sorted(known, key=rank, reverse=not rising), *lacking)


def diff_recipes(a: Entry, b: Entry) -> dict[str, tuple[Any, Any]]:
    """Return the knobs in which two recipes differ, with both values; `ABSENT` where a recipe lacks the knob."""
    knobs = dict.fromkeys((*a.recipe, *b.recipe))
    pairs = {knob: (a.recipe.get(knob, ABSENT), b.recipe.get(knob, ABSENT)) for knob in knobs}
    return {knob: (one, other) for knob, (one, other) in pairs.items() if one != other}


def list_fields(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return every field: columns, metrics and their bounds, knobs of today's and of these recipes."""
    metrics = dict.fromkeys(entry.name for entry in METRICS)
    knobs = dict.fromkeys(list_knobs())
    for entry in entries:
        metrics.update(dict.fromkeys(entry.metrics))
        knobs.update(dict.fromkeys(entry.recipe))
    bounds = [f"{name}{bound}" for name in metrics for bound in ("", "_low", "_high")]
    return tuple(dict.fromkeys((*COLUMNS, *bounds, *knobs)))


def read_field(entry: Entry, field: str) -> Any:
    """Return the value of a field; None where the entry lacks it."""
    field = SHORT.get(field, field)
    if field in COLUMNS:
        value = getattr(entry, field)
        return None if value == "" else value
    for ending, key in (("_low", "low"), ("_high", "high"), ("", "value")):
        if field.endswith(ending) and (metric := entry.metrics.get(field.removesuffix(ending))):
            return getattr(metric, key)
    return entry.recipe.get(field)


def check_fields(names: Iterable[str], entries: Sequence[Entry]) -> None:
    """Check that names are fields.

    Raises:
        RecipeError: some are not; each names the nearest.
    """
    fields = list_fields(entries)
    if problems := [_explain_unknown(name, fields) for name in names if name not in fields]:
        raise RecipeError("\n".join(problems))


def tabulate_entries(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return one row a run: columns, metrics with bounds, then every knob that one of the recipes has."""
    metrics = dict.fromkeys(name for entry in entries for name in entry.metrics)
    bounds = [f"{name}{bound}" for name in metrics for bound in ("", "_low", "_high")]
    knobs = dict.fromkeys(knob for entry in entries for knob in entry.recipe if knob not in COLUMNS)
    names = [*(name for name in COLUMNS if name not in SHORT), *bounds, *knobs]
    rows = [[_plain(read_field(entry, name)) for name in names] for entry in entries]
    return pd.DataFrame(rows, columns=names)


def _plain(value: Any) -> Any:
    """Return numbers and text as they are; lists and the like as JSON."""
    return value if value is None or isinstance(value, int | float | str) else say_value(value)


def _explain_unknown(field: str, fields: Sequence[str]) -> str:
    ends = [name for name in fields if name.rpartition(".")[2] == field]
    near = ends[:1] or difflib.get_close_matches(field, fields, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'?" if near else f"Columns: {', '.join(COLUMNS)}."
    return f"the logbook has no column, metric or knob '{field}'. {hint} Fix: 'smalti parts --knobs' lists the knobs"
