"""Where runs are kept, and what they may be called."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import RunError
from ..project import CACHE, Project
from ..records.layout import MEMBER_RUNS, RECIPE

NAME_BYTES = 200  # of a run; file systems allow 255
RESERVED = (CACHE, "report")  # folders beside the runs


def check_place(project: Project) -> None:
    """Check whether runs can be kept in their folder, before anything is read or written.

    Raises:
        RunError: it lies inside the data folder, is no folder, or cannot be written to.
    """
    data, runs = project.data, project.runs
    place, inside = runs.resolve(), data.resolve()
    if place == inside or inside in place.parents:
        raise RunError(
            f"the folder of the runs, {runs}, lies inside the data folder {data}, which is never changed; its figures "
            f"would be read as images",
            fix=f"--runs with a folder elsewhere, for example {inside.parent / 'runs'}",
        )
    there = next(parent for parent in (place, *place.parents) if os.path.lexists(parent))
    if not there.is_dir():
        raise RunError(f"{there} is no folder, so that {runs} can hold no runs", fix="--runs with another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunError(f"{there} cannot be written to", fix="change its permissions, or --runs with another folder")


def locate_run(path: Path) -> tuple[Path, str]:
    """The folder of all runs, and the name of a run in it; a member of a portfolio lies inside its run."""
    folder = path.resolve()  # "." has no name
    inside = folder.parent.name == MEMBER_RUNS and (folder.parent.parent / RECIPE).is_file()
    runs = folder.parents[2] if inside else folder.parent
    return runs, folder.relative_to(runs).as_posix()


def check_name(name: str) -> str:
    """The name, where a run folder can have it.

    Raises:
        RunError: it is a path, hidden, reserved, too long, or holds signs that nobody sees.
    """
    fault = None
    if not name.strip() or name != name.strip():
        fault = "is empty, or begins or ends with a space"
    elif "/" in name or "\\" in name or name.startswith("."):
        fault = "is a path or hidden: the run folder lies in the folder of all runs, which --runs names"
    elif not name.isprintable():
        fault = "holds signs that nobody sees"
    elif name.lower() in RESERVED:
        fault = "is the name of another folder beside the runs"
    elif len(name.encode()) > NAME_BYTES:
        fault = f"has more than {NAME_BYTES} bytes"
    if fault is not None:
        shown = ascii(name if len(name) <= NAME_BYTES else name[:NAME_BYTES])
        raise RunError(f"no run can be called {shown}: it {fault}", fix="--name with letters, digits and -")
    return name
