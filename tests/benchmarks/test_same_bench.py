"""What benchmarks/bench_same.py calls equal, on drawn files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCORES = {"finished": "2026-01-01", "metrics": {"macro_f1": {"value": 0.4567, "low": None}}, "run": "data-quick-1a2b3c"}
WORDS = {"message": "a.png has the same mask as 2 other images", "code": "shared-mask"}


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Write two contents to files of one name and compare them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from bench_same import compare_files

    def build(before: Any, after: Any, suffix: str = ".json") -> Any:
        paths = [tmp_path / f"{side}{suffix}" for side in ("before", "after")]
        for path, content in zip(paths, (before, after), strict=True):
            if isinstance(content, np.ndarray):
                np.savez(path, values=content)
            else:
                path.write_text(content if isinstance(content, str) else json.dumps(content))
        return compare_files(*paths)

    return build


def test_the_same_bytes_are_equal_and_other_bytes_without_values_are_not(compare: Callable[..., Any]) -> None:
    assert compare(SCORES, SCORES).state == "bytes"
    assert compare("one", "two", ".png").state == "differ"


@pytest.mark.parametrize(
    "after",
    [
        {**SCORES, "finished": "2027-01-01", "run": "data-quick-4d5e6f"},
        {"metrics": {"macro_f1": {"value": 0.4567}}, "run": "data-quick-1a2b3c", "version": 2},
        {"run": "data-quick-1a2b3c", "scores": [{"name": "macro_f1", "estimate": 0.4567}]},
    ],
)
def test_times_hashes_and_moved_and_added_values_leave_values_equal(after: Any, compare: Callable[..., Any]) -> None:
    assert compare(SCORES, after).state == "values"


def test_a_number_that_is_another_or_gone_differs_and_is_named(compare: Callable[..., Any]) -> None:
    other = {**SCORES, "metrics": {"macro_f1": {"value": 0.45670000001, "low": None}}}
    assert compare(SCORES, other).state == "differ"
    assert "metrics.macro_f1.value" in compare(SCORES, other).detail
    gone = compare(SCORES, {"run": SCORES["run"]})
    assert gone.state == "differ"
    assert "0.4567" in gone.detail


def test_a_sentence_may_be_reworded_but_neither_its_numbers_nor_a_name(compare: Callable[..., Any]) -> None:
    assert compare(WORDS, {**WORDS, "message": "The mask of a.png is also that of 2 images"}).state == "words"
    assert compare(WORDS, {**WORDS, "message": "a.png has the same mask as 3 other images"}).state == "differ"
    assert compare(WORDS, {**WORDS, "code": "doubled-mask"}).state == "differ"


def test_tables_and_arrays_are_compared_by_value(compare: Callable[..., Any]) -> None:
    table = "image,score_a,seconds\na.png,0.5,1.5\n"
    assert compare(table, "score_a,image,seconds\n0.50,a.png,9.0\n", ".csv").state == "values"
    assert compare(table, "image,score_a,seconds\na.png,0.51,1.5\n", ".csv").state == "differ"
    assert compare(np.arange(3.0), np.arange(3.0) + 1e-9, ".npz").state == "differ"
