"""The notebooks under examples/ run from top to bottom."""

from __future__ import annotations

import warnings
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # The Jupyter client warns about its own paths and event loops; the notebook's warnings are in its output.
        warnings.simplefilter("ignore")
        from nbclient import NotebookClient

        book = nbformat.read(notebook, as_version=4)
        NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()

    runs = [p.parent for p in tmp_path.glob("runs/*/recipe.yaml")]
    assert len(runs) == 1
    written = {p.name for p in runs[0].iterdir()}
    assert {"report.html", "scores.json", "submission.csv", "folds.csv"} <= written
    assert "macro-F1" in "".join(str(cell.get("outputs")) for cell in book.cells)
