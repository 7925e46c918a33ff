"""What a run folder holds, read once; a file that is not there is None."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..audit import SUSPECTS_NAME, Audit, read_decisions, read_findings
from ..errors import RunError
from ..notation import read_yaml
from ..records import RunFolder
from ..store import read_json, read_table, reading
from ..types import Decision


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The files of a run folder.

    Attributes:
        folder: where they are.
        name: name of the folder.
        recipe: the resolved recipe as YAML text.
        submission: the class that each row says, or finds most probable; None where there is no such table.
        rules, ensemble, sealed, by_case: files in ``predictions``.
        cases: image -> the case that the data names, where there are answers by case.
        seal: what is sealed of the data folder; lies beside the run.
        Others: parsed content of the file of the same name.
    """

    folder: Path
    name: str
    recipe: str | None
    environment: dict[str, Any] | None
    cohort: dict[str, Any] | None
    samples: pd.DataFrame | None
    audit: Audit | None
    suspects: Audit | None
    decisions: tuple[Decision, ...]
    folds: pd.DataFrame | None
    history: pd.DataFrame | None
    out_of_fold: pd.DataFrame | None
    scores: dict[str, Any] | None
    submission: pd.Series | None
    rules: list[dict[str, Any]] | None
    ensemble: list[dict[str, Any]] | None
    sealed: pd.DataFrame | None
    by_case: pd.DataFrame | None
    cases: dict[str, str] | None
    seal: dict[str, Any] | None
    explanation: dict[str, Any] | None
    stain: dict[str, Any] | None
    operations: pd.DataFrame | None
    diverged: pd.DataFrame | None
    members: pd.DataFrame | None
    plan: dict[str, Any] | None
    clock: dict[str, Any] | None

    @property
    def root(self) -> Path | None:
        """The data folder, where known."""
        return Path(self.cohort["root"]) if self.cohort and "root" in self.cohort else None


def read_record(run: RunFolder) -> RunRecord:
    """Read everything the report tells about.

    Raises:
        RunError: a file is damaged.
    """
    path = run.path
    submission = path / "submission.csv"
    findings = path / "findings.json"
    cohort = _read_json(path / "cohort.json")
    return RunRecord(
        folder=path,
        name=path.resolve().name,
        recipe=run.recipe_path.read_text(encoding="utf-8") if run.recipe_path.is_file() else None,
        environment=_read_json(path / "environment.json"),
        cohort=cohort,
        samples=_read_table(path / "samples.csv"),
        audit=read_findings(findings) if findings.is_file() else None,
        suspects=read_findings(path / SUSPECTS_NAME) if (path / SUSPECTS_NAME).is_file() else None,
        decisions=read_decisions(path / "decisions.csv"),
        folds=_read_table(path / "folds.csv"),
        history=_read_table(path / "history.csv"),
        out_of_fold=run.read_out_of_fold() if (run.predictions / "out_of_fold.csv").is_file() else None,
        scores=_read_json(path / "scores.json", "metrics", "per_class", "interval", "n_images"),
        submission=_read_submission(submission, cohort),
        rules=_read_rows(run.predictions / "rules.json"),
        ensemble=_read_rows(run.predictions / "ensemble.json"),
        sealed=_read_table(run.predictions / "sealed.csv"),
        by_case=_read_table(run.predictions / "by_case.csv"),
        cases=run.read_cases(),
        seal=_read_seal(path, cohort),
        explanation=_read_json(path / "explanation.json"),
        stain=_read_json(path / "stain.json"),
        operations=_read_table(path / "operations.csv"),
        diverged=_read_table(path / "diverged.csv"),
        members=_read_table(path / "members.csv"),
        plan=_read_plan(path / "plan.yaml"),
        clock=_read_json(path / "clock.json", "seconds", "peak_memory_gb"),
    )


def _read_seal(path: Path, cohort: dict[str, Any] | None) -> dict[str, Any] | None:
    """The seal under which a run was made; of a run before any seal the one that its data folder has now."""
    if cohort is None or "root" not in cohort:
        return None
    names = cohort.get("seals") or [f"{Path(cohort['root']).name}.seal.json"]
    seal = _read_json(path.resolve().parent / names[0])
    return seal if seal is None or cohort.get("seals") or seal.get("data", cohort["root"]) == cohort["root"] else None


def _read_submission(path: Path, cohort: dict[str, Any] | None) -> pd.Series | None:
    """The class of each row, from its columns of labels, else from its columns of probabilities."""
    if not path.is_file():
        return None
    asked = (cohort or {}).get("submission", {})
    with reading(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=asked.get("delimiter", ","))
        cells = {str(i): table.iloc[:, i].str.strip() for i in range(table.shape[1])}
        labels, probabilities = asked.get("labels", {}), asked.get("probabilities", {})
        if labels:
            names = list(next(iter(labels.values())))
            said = {name: np.all([cells[i] == words[name] for i, words in labels.items()], axis=0) for name in names}
            return pd.DataFrame(said).astype(float).idxmax(axis=1)
        if not probabilities:  # a run of an earlier make
            return table.iloc[:, -1]
        shares = pd.DataFrame({name: cells[i].str.replace(",", ".").astype(float) for i, name in probabilities.items()})
        if len(probabilities) == 1:
            shares["another"] = 1 - shares.iloc[:, 0]
        return shares.idxmax(axis=1)


def _read_plan(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with reading(path, fix="give the run another --name"):
        plan = read_yaml(path, kind="plan", fix="")
        return {key: plan[key] for key in ("choices", "expect", "forecast")}


def _read_rows(path: Path) -> list[dict[str, Any]] | None:
    if not path.is_file():
        return None
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path} is damaged: it holds no list of mappings. Fix: delete it and run the stage again")
    return rows


def _read_json(path: Path, *keys: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with reading(path):
        return dict(read_json(path, *keys))


def _read_table(path: Path) -> pd.DataFrame | None:
    return read_table(path) if path.is_file() else None
