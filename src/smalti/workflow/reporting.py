"""Reports of one run, a ladder, or many runs: a page and an article; of an audit a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..audit import write_findings
from ..errors import DataError, RecipeError
from ..logbook import read_entry, read_logbook, resolve_run
from ..project import RUNS, SILENT, Listener, Project
from ..records import RunFolder
from ..records.layout import AUDIT_SUFFIX, COMPARISON, FINDINGS, LADDER, RUNS_REPORT, SCORES
from .paired import compare_sources
from .prepare.ground import Ground
from .stages import report_run


def report_on(
    sources: Sequence[str | Path] = (),
    *,
    runs: str | Path = RUNS,
    to: str | Path | None = None,
    checklist: str | None = None,
    listener: Listener = SILENT,
) -> Path:
    """Write a report and an article; return the page.

    Args:
        sources: one run or ladder, whose folder takes the report; several runs, which are also compared where they
            can be; or none for all runs of the logbook.
        runs: folder of all runs.
        to: folder of a report about several runs; by default ``RUNS/report``.
        checklist: of one run, a reporting checklist that is answered too and returned in the place of the page.

    Raises:
        RunError: no such run, or nothing to write about.
        RecipeError: no checklist has that name, or it is asked of more than one run.
    """
    from ..report import write_article, write_ladder_report, write_runs_report

    runs = Path(runs)
    if checklist is not None:
        return _answer_checklist(sources, checklist, runs=runs, listener=listener)
    if len(sources) == 1:
        folder = Path(sources[0])
        if (folder / LADDER).is_file() or (runs / folder / LADDER).is_file():
            folder = folder if folder.is_dir() else runs / folder
            page = write_ladder_report(folder)
        else:
            folder = folder if folder.is_dir() else resolve_run(runs, str(sources[0]))
            page = report_run(folder)
        if (folder / LADDER).is_file() or (folder / SCORES).is_file():
            write_article(folder)
        else:
            listener.say(f"{folder} has no scores yet, so there is no article to write")
        return page
    if sources:
        entries = tuple(read_entry(Path(s) if Path(s).is_dir() else resolve_run(runs, str(s))) for s in sources)
    else:
        entries = read_logbook(runs).entries
    folder = Path(to) if to is not None else runs / RUNS_REPORT
    title = f"{len(entries)} runs" if sources else f"All runs of {runs.resolve().name}"
    (folder / COMPARISON).unlink(missing_ok=True)
    if sources:
        try:
            compare_sources(sources, runs=runs, out=folder)
        except DataError as error:
            listener.say(f"the runs are listed but not compared: {error.headline}; 'smalti compare' says more")
    page = write_runs_report(entries, folder=folder, title=title)
    write_article(folder, entries=entries, title=title)
    return page


def _answer_checklist(sources: Sequence[str | Path], name: str, *, runs: Path, listener: Listener) -> Path:
    """Write the report of one run and the checklist that points into it; return the checklist."""
    from ..report import write_checklist

    if len(sources) != 1:
        raise RecipeError("a checklist is answered for one run", fix="smalti report RUN --checklist NAME")
    folder = Path(sources[0]) if Path(sources[0]).is_dir() else resolve_run(runs, str(sources[0]))
    if (folder / LADDER).is_file():
        raise RecipeError(f"{folder} is a ladder, and a checklist is answered for one run", fix="name one of its runs")
    report_on([folder], runs=runs, listener=listener)
    return write_checklist(RunFolder(folder), name)


def report_audit(project: Project, ground: Ground) -> Path:
    """Write findings and report of an audit into ``RUNS/<data folder>.audit``; return the page."""
    from ..report import write_audit_report

    folder = project.runs / f"{ground.whole.root.resolve().name}{AUDIT_SUFFIX}"
    write_findings(folder / FINDINGS, ground.seen)
    return write_audit_report(folder, ground.whole, ground.seen, ground.decisions)
