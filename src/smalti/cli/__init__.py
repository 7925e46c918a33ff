"""The command line: parses, calls one function, says where the result is and what to run next."""

from . import evidence, learning, logbook, machine, stages, tuning
from .console import app

__all__ = ["app", "evidence", "learning", "logbook", "machine", "stages", "tuning"]
