"""Return the sections about the plan of a run, the members of a portfolio, and what was tried beside the labels."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ...records.layout import DRAWN_SHEET
from ...types import SCORE_PREFIX
from ..blocks import (
    Block,
    Paragraph,
    Pictures,
    Section,
    Table,
    count_things,
    format_number,
    format_percent,
    format_range,
    not_applicable,
)
from ..contents import RunRecord
from ..figures.gallery import encode_picture

MOST_ROWS = 60  # of verdicts, and of images
SHEET_PX = 1600


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


def tried_section(record: RunRecord) -> Section:
    """Return what was tried beside the labels in each fold, what the inner cases said, and which images taught."""
    title = "What was tried and kept"
    if record.gate is None or not record.gate.verdicts:
        return not_applicable(
            "tried",
            title,
            "nothing was tried beside the labels (train.pretrain, train.pseudo, train.noise, train.synthesis)",
        )
    verdicts = record.gate.verdicts
    kept = sum(verdict.kept for verdict in verdicts)
    cases = sorted({verdict.n_cases for verdict in verdicts})
    text = (
        f"{kept} of {count_things(len(verdicts), 'verdict')} kept what was tried. Each compares trainings without and "
        f"with it on the same inner cases ({cases[0]} to {cases[-1]} of them), which are held out in turns; outer "
        f"cases have no say. A gain is positive where it helps, with its {format_percent(verdicts[0].confidence)} "
        "interval by case and with the luck of trainings. The last two columns are the chance that the verdict is "
        "wrong, and what it loses by that on average."
    )
    rows = [
        (
            f"{v.part}, seed {v.seed}, fold {v.fold}", "kept" if v.kept else "dropped", v.reason, v.about, v.metric,
            format_number(v.before), format_number(v.after), format_number(v.gain),
            format_range(v.low, v.high, sign="+"),
            f"{format_number(v.macro_f1_before)} / {format_number(v.macro_f1_after)}",
            "–" if v.wrong is None else format_percent(v.wrong), format_number(v.cost, 4),
        )
        for v in verdicts[:MOST_ROWS]
    ]  # fmt: skip
    header = (
        "what", "", "why", "about", "metric", "without", "with", "gain", "interval", "macro-F1 without / with",
        "chance wrong", "cost",
    )  # fmt: skip
    blocks: list[Block] = [Paragraph(text), Table(header, rows, "Verdicts on inner cases", text_columns=5)]
    if record.pseudo is not None:
        blocks += _list_pseudo(record.pseudo)
    sheet = encode_picture(record.folder, DRAWN_SHEET, longest_px=SHEET_PX)
    if sheet:
        text = "Images that were drawn (above) and the real ones that they were drawn over (below); none of them scores"
        blocks.append(Pictures([(sheet, text)], "Some drawn images", width="lone"))
    return Section("tried", title, blocks)


def _list_pseudo(table: pd.DataFrame) -> list[Block]:
    """Return the unlabelled images that were to teach, those of most folds first."""
    scores = table.filter(like=SCORE_PREFIX)
    listed = table.assign(score=scores.max(axis=1)).groupby("image").agg(
        label=("label", lambda labels: labels.mode().iloc[0]), score=("score", "mean"), agree=("agreement", "mean"),
        accepted=("image", "size"), taught=("kept", "sum"),
    )  # fmt: skip
    listed = listed.sort_values(["taught", "accepted", "score"], ascending=False, kind="stable")
    shares = table["label"].value_counts(normalize=True).sort_index()
    text = (
        f"Unlabelled images were accepted {count_things(len(table), 'time')} over all folds, seeds and rounds, as "
        f"{', '.join(f'{name} {format_percent(share)}' for name, share in shares.items())}. Where a round was kept, "
        "scores of these images are of heads that have learned from them, without a label. pseudo.csv lists all."
    )
    rows = [
        (str(image), str(label), format_number(score), format_percent(agree), str(accepted), str(taught))
        for image, (label, score, agree, accepted, taught) in zip(
            listed.index[:MOST_ROWS], listed.head(MOST_ROWS).to_numpy().tolist(), strict=True
        )
    ]
    header = ("image", "label given", "score", "heads that agree", "accepted", "taught")
    caption = f"Unlabelled images that were to teach ({len(listed)}), the {len(rows)} that taught most; means"
    return [Paragraph(text), Table(header, rows, caption, text_columns=2)]


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
