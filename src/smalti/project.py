"""Where a project is: its data folder and the folder of its runs."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")  # where runs are kept unless another folder is named
