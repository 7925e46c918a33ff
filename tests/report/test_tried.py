"""The section of a report about what was tried beside the labels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from drawn_records import draw_run
from smalti.records import GateRecord, GateVerdict, RunFolder
from smalti.report.blocks import Paragraph, Table
from smalti.report.contents import read_record
from smalti.report.sections.shares import tried_section
from smalti.store import write_table


def draw_verdict(fold: int, *, kept: bool) -> GateVerdict:
    return GateVerdict(
        seed=0, fold=fold, part="pseudo-labels, round 1", metric="log_loss", n_images=40, n_cases=30 + fold,
        n_trainings=10, before=0.5, after=0.41, gain=0.09, low=0.02, high=0.16, confidence=0.95, wrong=0.007,
        cost=0.0003, macro_f1_before=0.8, macro_f1_after=0.84, kept=kept, reason="because", about="12 of 30 accepted",
    )  # fmt: skip


def test_verdicts_and_images_are_shown_with_the_cost_of_being_wrong(tmp_path: Path) -> None:
    path = draw_run(tmp_path, "r", score=None)
    assert isinstance(tried_section(read_record(RunFolder(path))).blocks[0], Paragraph)
    GateRecord(verdicts=(draw_verdict(0, kept=True), draw_verdict(1, kept=False))).write(path)
    rows = [("u1", 0, "A", 0.9, True), ("u1", 1, "A", 0.7, False), ("u2", 1, "B", 0.4, False)]
    table = pd.DataFrame(rows, columns=["image", "fold", "label", "score_A", "kept"])
    write_table(path / "pseudo.csv", table.assign(score_B=1 - table["score_A"], agreement=1.0))
    section = tried_section(read_record(RunFolder(path)))
    said, verdicts, about, images = section.blocks
    assert section.title == "What was tried and kept"
    assert isinstance(said, Paragraph)
    assert said.text.startswith("1 of 2 verdicts kept what was tried.")
    assert "30 to 31 of them" in said.text
    assert isinstance(verdicts, Table)
    assert [(row[0], row[1]) for row in verdicts.rows] == [
        ("pseudo-labels, round 1, seed 0, fold 0", "kept"), ("pseudo-labels, round 1, seed 0, fold 1", "dropped"),
    ]  # fmt: skip
    assert verdicts.rows[0][5:] == (
        "0.500", "0.410", "0.090", "+0.020 to +0.160", "0.800 / 0.840", "0.7\u00a0%", "0.0003",
    )  # fmt: skip
    assert isinstance(about, Paragraph)
    assert "as A 66.7\u00a0%, B 33.3\u00a0%" in about.text
    assert isinstance(images, Table)
    assert list(images.rows) == [
        ("u1", "A", "0.800", "100\u00a0%", "2", "1"), ("u2", "B", "0.600", "100\u00a0%", "1", "0"),
    ]  # fmt: skip
