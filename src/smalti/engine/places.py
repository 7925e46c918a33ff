"""Where units run: the word after ``--on``."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Literal

from ..errors import MissingExtraError, RecipeError

PLACES = "here, processes, processes:N, ray or ray://HOST:PORT"


@dataclass(frozen=True, slots=True)
class Place:
    """Where units run.

    Attributes:
        kind: ``here``: in this process; ``processes``: in several of this machine; ``ray``: on a Ray cluster.
        workers: most processes at a time; None where cores, GPUs and memory alone decide.
        address: of a Ray cluster that is not on this machine; empty otherwise.
    """

    kind: Literal["here", "processes", "ray"]
    workers: int | None = None
    address: str = ""


def parse_place(on: str) -> Place:
    """Parse ``here``, ``processes``, ``processes:N``, ``ray`` or ``ray://HOST:PORT``.

    Raises:
        RecipeError: it is none of these.
        MissingExtraError: Ray is asked for and is not installed.
    """
    if on == "here":
        return Place("here")
    if found := re.fullmatch(r"processes(?::([1-9]\d{0,4}))?", on):
        return Place("processes", int(found[1]) if found[1] else None)
    if on != "ray" and not re.fullmatch(r"ray://[^/\s]+:\d+", on):
        raise RecipeError(f"'{on}' is no place where work can be done", fix=f"--on {PLACES}")
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError(f"--on {on}", "ray")
    return Place("ray", address="" if on == "ray" else on)
