"""The audit after training: which labels a finished run contradicts, and what it knows about each image."""

from __future__ import annotations

from pathlib import Path

from ..audit import (
    SUSPECTS_NAME,
    TRACES_NAME,
    Audit,
    find_suspects,
    read_evidence,
    trace_images,
    write_findings,
    write_traces,
)
from ..records import RunFolder
from .staging import stage


def suspect_run(path: str | Path) -> Audit:
    """Look for label suspects in a run folder; write ``suspects.json`` and ``traces.json``.

    Raises:
        RunError: there are no out-of-fold predictions, or a file is damaged.
    """
    folder = RunFolder(Path(path))
    with stage(folder, "suspects"):
        evidence = read_evidence(folder.path)
        findings, outcomes = find_suspects(evidence)
        audit = Audit(tuple(findings), outcomes)
        write_findings(folder.path / SUSPECTS_NAME, audit)
        write_traces(folder.path / TRACES_NAME, trace_images(evidence))
    return audit
