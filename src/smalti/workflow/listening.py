"""Who hears what a command is doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _ignore_text(text: str) -> None:
    """Nobody listens."""


def _ignore_progress(stage: str, done: int, total: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Hears what a command is doing: ``say`` one line, ``tell`` progress of a named stage."""

    say: Callable[[str], None] = _ignore_text
    tell: Callable[[str, int, int], None] = _ignore_progress

    def follow(self, stage: str) -> Callable[[int, int], None]:
        """A progress callback for one stage."""
        return lambda done, total: self.tell(stage, done, total)


SILENT = Listener()
