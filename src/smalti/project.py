"""The context of a command: a data folder, the folder of its runs, and who hears what is done.

The command line names `RUNS` in its options, so that nothing here loads a library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import RunError

RUNS = Path("runs")  # where runs are kept unless another folder is named
HERE = "here"  # where units of work run unless another place is named: in this process
CACHE = "cache"  # in the folder of all runs


@dataclass(frozen=True, slots=True)
class Listener:
    """Hears what a command is doing: ``say`` one line, ``tell`` progress of a named stage; by default nobody does."""

    say: Callable[[str], None] = lambda text: None
    tell: Callable[[str, int, int], None] = lambda stage, done, total: None

    def follow(self, stage: str) -> Callable[[int, int], None]:
        """Return a progress callback for one stage."""
        return lambda done, total: self.tell(stage, done, total)


SILENT = Listener()


@dataclass(frozen=True, slots=True)
class Project:
    """A data folder, and the folder of its runs with what lies beside them: cache, decisions, seals.

    What stands in the folder of the runs takes a project; what only says something takes a listener.

    Attributes:
        data: the data folder; it is never changed.
        runs: folder of all runs.
        decisions: the file that acts; None looks for it beside the runs (see `smalti.workflow.find_decisions`).
        listener: hears what is done.
        on: where units of work run, as `smalti.engine.parse_place` has it.
    """

    data: Path
    runs: Path = RUNS
    decisions: Path | None = None
    listener: Listener = SILENT
    on: str = HERE

    @property
    def cache(self) -> Path:
        """Folder of everything that can be made again."""
        return self.runs / CACHE

    @property
    def name(self) -> str:
        """Last name of the data folder; names of runs, ladders and searches begin with it."""
        return self.data.resolve().name

    def check_data(self) -> None:
        """Check that the data folder is there.

        Raises:
            RunError: it is not.
        """
        if not self.data.is_dir():
            raise RunError(f"no data folder at {self.data}", fix="check the path, or 'smalti demo' to draw one")


ANSWERS_FOLDER = Path("predictions")  # where answers for new images are kept unless another folder is named
