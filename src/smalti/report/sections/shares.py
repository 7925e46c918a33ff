"""Return the sections about the plan of a run and the members of a portfolio."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..blocks import Block, Paragraph, Section, Table, format_number, format_range, not_applicable
from ..contents import RunRecord


def members_section(record: RunRecord) -> Section:
    """Return the members, how much each counts, and what each scores alone."""
    if record.members is None:
        return not_applicable("members", "Members", "this run is one recipe, no portfolio (portfolio.members)")
    done = record.members[record.members["status"] == "done"].sort_values("weight", ascending=False)
    rows = [
        (
            str(row.member), format_number(_number(row.weight), 2), format_number(_number(row.macro_f1)),
            format_range(_number(row.low), _number(row.high)), format_number(_number(row.inner_macro_f1)),
            format_number(_number(row.forecast_s), 0), format_number(_number(row.seconds), 0),
        )
        for row in done.itertuples()
    ]  # fmt: skip
    text = (
        "The score of this run is that of all members together. How much each counts was settled in every fold on the "
        "cases that do not score; the share is the mean over the folds. What a member scores alone stands here to be "
        "read, and chose nothing: to pick the highest of these numbers would promise too much."
    )
    header = ("member", "share", "macro-F1 alone", "interval", "inner macro-F1", "forecast, s", "took, s")
    blocks: list[Block] = [Paragraph(text), Table(header, rows, "Members, the one that counts most first")]
    others = record.members[record.members["status"] != "done"]
    if len(others):
        left = [(str(row.member), str(row.status), str(row.reason)) for row in others.itertuples()]
        blocks.append(Table(("member", "", "why"), left, "Not among them", text_columns=3))
    return Section("members", "Members", blocks)


def plan_section(record: RunRecord) -> Section:
    """Return what was derived before training, why, and the forecast cost beside the real one."""
    plan = record.plan
    if plan is None:
        return not_applicable("plan", "Plan", "there is no plan.yaml; 'smalti plan' shows what a run would do")
    rows = [
        (row.what, str(list(row.value) if isinstance(row.value, tuple) else row.value), row.reason, row.source)
        for row in plan.choices
    ]
    (alone, once), (small, large) = plan.expect.interval_width, plan.expect.smallest_difference
    text = (
        f"Before training: with these cases, expect an interval {alone:.2f} to {once:.2f} wide; differences below "
        f"{small:.2f} to {large:.2f} cannot be seen ({plan.expect.reason})."
    )
    blocks: list[Block] = [
        Paragraph(text),
        Table(("what", "value", "why", "source"), rows, "Derived from the data and the machine", text_columns=4),
    ]
    if record.clock is not None:
        cost, took = plan.forecast, record.clock
        blocks.append(
            Paragraph(
                f"Forecast {cost.seconds:.0f} s and {cost.memory_gb:.1f} GB of memory; it took "
                f"{took.seconds:.0f} s and {took.peak_memory_gb:.1f} GB, interruptions left out."
            )
        )
    return Section("plan", "Plan", blocks)


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
