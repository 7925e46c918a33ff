"""Where the runs of a project are kept; the command line names it without loading a library."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")  # where runs are kept unless another folder is named
ANSWERS_FOLDER = Path("predictions")  # where answers for new images are kept unless another folder is named
