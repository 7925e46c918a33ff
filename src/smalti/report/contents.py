"""What a run folder holds, read once; a file that is not there is None."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..audit import Audit, read_decisions, read_findings
from ..records import (
    CohortRecord,
    Ensemble,
    Environment,
    ExplanationRecord,
    GateRecord,
    Operating,
    Plan,
    Rules,
    RunFolder,
    Scores,
    Stains,
    UsedTime,
)
from ..records.layout import (
    BY_CASE,
    DECISIONS,
    DIVERGED,
    FINDINGS,
    FOLDS,
    HISTORY,
    MEMBERS,
    OPERATIONS,
    OUT_OF_FOLD,
    PSEUDO,
    SAMPLES,
    SEAL_SUFFIX,
    SEALED,
    SUBMISSION,
    SUSPECTS,
)
from ..records.studies.seal import Seal
from ..records.studies.sites import SitesRecord
from ..store import find_table, reading
from ..types import Decision


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The files of a run folder; None where one is not there.

    Attributes:
        folder: where they are.
        name: name of the folder.
        recipe: the resolved recipe as YAML text.
        submission: the class that each row says, or finds most probable; None where there is no such table.
        cases: image -> the case that the data names, where there are answers by case.
        seal: what is sealed of the data folder; lies beside the run.
        Others: the file of the same name.
    """

    folder: Path
    name: str
    recipe: str | None
    environment: Environment | None
    cohort: CohortRecord | None
    samples: pd.DataFrame | None
    audit: Audit | None
    suspects: Audit | None
    decisions: tuple[Decision, ...]
    folds: pd.DataFrame | None
    history: pd.DataFrame | None
    out_of_fold: pd.DataFrame | None
    scores: Scores | None
    operating: Operating | None
    submission: pd.Series | None
    rules: Rules | None
    ensemble: Ensemble | None
    sealed: pd.DataFrame | None
    by_case: pd.DataFrame | None
    cases: dict[str, str] | None
    seal: Seal | None
    explanation: ExplanationRecord | None
    stain: Stains | None
    operations: pd.DataFrame | None
    diverged: pd.DataFrame | None
    members: pd.DataFrame | None
    plan: Plan | None
    clock: UsedTime | None
    sites: SitesRecord | None
    gate: GateRecord | None
    pseudo: pd.DataFrame | None

    @property
    def root(self) -> Path | None:
        """The data folder, where known."""
        return None if self.cohort is None else Path(self.cohort.root)


def read_record(run: RunFolder) -> RunRecord:
    """Read everything the report tells about.

    Raises:
        RunError: a file is damaged.
    """
    path = run.path
    cohort, seal = CohortRecord.find(path), None
    if cohort is not None:  # the seal under which it was made; of a run before any seal the one of its data folder
        named = path.resolve().parent / (cohort.seals or (f"{Path(cohort.root).name}{SEAL_SUFFIX}",))[0]
        seal = Seal.read_file(named) if named.is_file() else None
        seal = seal if seal is None or cohort.seals or seal.data == cohort.root else None
    return RunRecord(
        folder=path,
        name=path.resolve().name,
        recipe=run.recipe_path.read_text(encoding="utf-8") if run.recipe_path.is_file() else None,
        environment=Environment.find(path),
        cohort=cohort,
        samples=find_table(path / SAMPLES),
        audit=read_findings(path / FINDINGS) if (path / FINDINGS).is_file() else None,
        suspects=read_findings(path / SUSPECTS) if (path / SUSPECTS).is_file() else None,
        decisions=read_decisions(path / DECISIONS),
        folds=find_table(path / FOLDS),
        history=find_table(path / HISTORY),
        out_of_fold=run.read_out_of_fold() if (path / OUT_OF_FOLD).is_file() else None,
        scores=Scores.find(path),
        operating=Operating.find(path),
        submission=_read_submission(path / SUBMISSION, cohort),
        rules=Rules.find(path),
        ensemble=Ensemble.find(path),
        sealed=find_table(path / SEALED),
        by_case=find_table(path / BY_CASE),
        cases=run.read_cases(),
        seal=seal,
        explanation=ExplanationRecord.find(path),
        stain=Stains.find(path),
        operations=find_table(path / OPERATIONS),
        diverged=find_table(path / DIVERGED),
        members=find_table(path / MEMBERS),
        plan=Plan.find(path),
        clock=UsedTime.find(path),
        sites=SitesRecord.find(path),
        gate=GateRecord.find(path),
        pseudo=find_table(path / PSEUDO),
    )


def _read_submission(path: Path, cohort: CohortRecord | None) -> pd.Series | None:
    """Read the class of each row, from its columns of labels, else from its columns of probabilities."""
    if cohort is None or not path.is_file():
        return None
    asked = cohort.submission
    with reading(path):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=asked.delimiter)
        cells = [table.iloc[:, i].str.strip() for i in range(table.shape[1])]
        if asked.labels:
            names = list(next(iter(asked.labels.values())))
            said = {
                name: np.all([cells[i] == words[name] for i, words in asked.labels.items()], axis=0) for name in names
            }
            return pd.DataFrame(said).astype(float).idxmax(axis=1)
        columns = {name: cells[i].str.replace(",", ".") for i, name in asked.probabilities.items()}
        shares = pd.DataFrame(columns).astype(float)
        if len(columns) == 1:
            shares["another"] = 1 - shares.iloc[:, 0]
        return shares.idxmax(axis=1)
