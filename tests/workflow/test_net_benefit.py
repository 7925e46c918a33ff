"""Operating points of a run: of two classes only, by the unit of its scores, with the class that the recipe names."""

from __future__ import annotations

from pathlib import Path

import pytest

from smalti.recipe import load_recipe
from smalti.records import Operating, RunFolder, Scoring
from smalti.store import write_table
from smalti.workflow.net_benefit import write_operating
from two_classes import CLASSES, draw_tables


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    outer, inner = draw_tables(n_cases=40, images=3)
    write_table(folder.predictions / "out_of_fold.csv", outer)
    write_table(folder.predictions / "inner.csv", inner)
    return folder


def test_cases_are_counted_where_the_scores_count_them(run: RunFolder) -> None:
    recipe = load_recipe(settings=["evaluate.resamples=100"])
    cases = {f"i{case}-{i}": f"c{case}" for case in range(40) for i in range(3)}
    by_case = write_operating(run, recipe, Scoring("case", True, "so"), classes=CLASSES, cases=cases)
    assert by_case is not None
    assert (by_case.unit, by_case.n_units, by_case.n_cases) == ("case", 40, 40)
    assert Operating.read(run.path) == by_case
    by_image = write_operating(run, recipe, Scoring(), classes=CLASSES, cases=None)
    assert by_image is not None
    assert (by_image.unit, by_image.n_units, by_image.n_cases) == ("image", 120, 40)
    assert by_image.positive == "malignant"


def test_the_recipe_names_the_positive_class(run: RunFolder) -> None:
    recipe = load_recipe(settings=["data.positive=benign", "evaluate.resamples=100"])
    found = write_operating(run, recipe, Scoring(), classes=CLASSES, cases=None)
    assert found is not None
    assert (found.positive, found.negative) == CLASSES
    assert found.positive_reason == "named by data.positive"


def test_more_classes_have_no_record(run: RunFolder) -> None:
    assert write_operating(run, load_recipe(), Scoring(), classes=("a", "b", "c"), cases=None) is None
    assert Operating.find(run.path) is None
