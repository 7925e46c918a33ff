"""What is written into a run folder before training begins: cohort, samples, decisions, findings, folds."""

from __future__ import annotations

from ...audit import settle_decisions, write_decisions, write_findings
from ...records import Asked, CohortRecord, LeftOut, RunFolder, Scoring, tabulate_samples
from ...records.layout import DECISIONS, FINDINGS, FOLDS, SAMPLES
from ...store import write_table
from ...types import Split
from .ground import Ground
from .units import record_cases


def record_inputs(
    run_folder: RunFolder,
    ground: Ground,
    splits: tuple[Split, ...],
    *,
    scoring: Scoring,
    notes: tuple[str, ...] = (),
) -> None:
    """Write everything that was decided, before training begins; ``notes`` stand beside those of the cohort."""
    from ...samples import tabulate_folds

    cohort = ground.cohort
    settled = settle_decisions(ground.decisions).values()
    form, asked = cohort.form, Asked(none=cohort.no_submission)
    if form is not None:
        labels = {i: dict(words) for i, words in form.labels.items()}
        asked = Asked(
            sample=form.file, delimiter=form.delimiter, comma=form.comma, labels=labels, probabilities=dict(form.scores)
        )
    record_cases(run_folder, ground, scoring)
    CohortRecord(
        root=str(cohort.root.resolve()),
        layout=cohort.layout,
        classes=cohort.classes,
        n_labelled=len(cohort.labelled),
        n_unlabelled=len(cohort.unlabelled),
        n_sealed=len(cohort.sealed),
        n_cases=len({s.case for s in cohort.labelled}),
        n_sites=len({s.site for s in cohort.labelled} - {""}) or None,
        notes=(*cohort.notes, *notes),
        left_out=tuple(LeftOut(image=d.image, reason=d.reason, who=d.who) for d in settled if d.action == "exclude"),
        repaired=tuple(s.image for s in cohort.samples if s.repair is not None),
        label_by_case=bool(ground.bound),
        seals=tuple(path.name for path in ground.seals),
        submission=asked,
        scoring=scoring,
        encoder=None if cohort.features is None else cohort.features.encoder,
    ).write(run_folder.path)
    write_table(run_folder.path / SAMPLES, tabulate_samples(cohort))
    write_decisions(run_folder.path / DECISIONS, ground.decisions)
    write_findings(run_folder.path / FINDINGS, ground.seen)
    write_table(run_folder.path / FOLDS, tabulate_folds(cohort, splits))
