"""The notebooks under examples/ run from top to bottom."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


REACH = """
import socket
try:
    socket.create_connection(("1.1.1.1", 53), 2)
except OSError:
    pass
else:
    raise SystemExit("there is a network")
"""
OFFLINE = Path(__file__).parents[2] / "examples" / "offline.ipynb"


@pytest.mark.parametrize("notebook", [n for n in NOTEBOOKS if n != OFFLINE], ids=lambda p: p.stem)
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


def test_the_notebook_without_a_network_runs_where_there_is_none(tmp_path: Path) -> None:
    alone = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("not applicable: this system makes no network namespaces")
    cells = nbformat.read(OFFLINE, as_version=4).cells
    code = "\n\n".join(cell.source for cell in cells if cell.cell_type == "code")
    ran = subprocess.run(
        [*alone, sys.executable, "-c", REACH + code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HOME": str(tmp_path / "hub")},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    run = next((tmp_path / "runs").glob("*-auto-*"))
    assert {"submission.csv", "report.html", "model"} <= {p.name for p in run.iterdir()}
    assert "macro-F1" in ran.stdout
    assert "agreement" in ran.stdout
