"""The command line: parses, calls one function, says where the result is and what to run next.

The order of the imports is that of the commands in ``--help``.
"""

# isort: off
from . import machine, audit, review, encode, run, evaluate, compare, learn, ladder, tune, report, logbook

# isort: on
from .console import app

__all__ = [
    "app", "audit", "compare", "encode", "evaluate", "ladder", "learn", "logbook", "machine", "report", "review", "run",
    "tune",
]  # fmt: skip
