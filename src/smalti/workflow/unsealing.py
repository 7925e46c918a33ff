"""The one look into the sealed part of a data folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..cohort import Columns, inspect_folder
from ..errors import RunError
from ..evaluate import MARGIN, average_cases, check_alike, check_margin, choose_unit
from ..logbook import resolve_run
from ..logbook.seal import add_opening, find_seal, read_seal, write_seal
from ..project import RUNS, Project
from ..records import CohortRecord, Influence, RunFolder, log_event
from ..records.layout import SAMPLES, SEALED
from ..records.scored import HEADLINE, AsGiven
from ..records.studies.comparison import Comparison
from ..records.studies.seal import Seal
from ..stats import Pool, pool_predictions
from ..store import read_table
from ..types import score_columns
from .decisions.influence import describe_given
from .paired import compare_pools
from .prepare.units import read_unit


def open_seal(
    names: Sequence[str | Path], *, runs: str | Path = RUNS, margin: float = MARGIN
) -> tuple[Seal, Comparison]:
    """Score runs on the sealed cases, on which nothing was chosen, and record that it was done.

    Each run's scores are averaged over its folds and seeds, as its submission is. With several runs, the others are
    compared with the first.

    Returns:
        The seal with the new opening, and the comparison on the sealed images.

    Raises:
        RunError: a run without sealed images, runs of different data, or no seal.
        RecipeError: a margin below 0, or of 1 and more; the seal stays closed.
    """
    check_margin(margin)
    folders = [Path(n) if Path(n).is_dir() else resolve_run(Path(runs), str(n)) for n in names]
    roots = {CohortRecord.read(folder).root for folder in folders}
    if len(roots) != 1:
        raise RunError(f"the runs are of different data: {', '.join(sorted(roots))}", fix="open one seal at a time")
    root = Path(roots.pop())
    seals = _find_seals(folders, root)
    columns = Columns(**RunFolder(folders[0]).read_recipe().data.name_columns())
    cohort, _ = inspect_folder(root, columns=columns)
    labels = {} if cohort is None else {s.image: s.label for s in cohort.labelled if s.label is not None}
    pools = {folder.resolve().name: _pool_sealed(folder, labels) for folder in folders}
    check_alike(pools)
    first = next(iter(pools.values()))
    # Cases are counted where all runs count cases and the images of each sealed case share their label.
    read = [read_unit(folder) for folder in folders]
    cases = next((cases for _, cases in read if cases is not None), None)
    by_case = all(scoring.unit == "case" for scoring, _ in read)
    sealed_labels = {image: labels[image] for image in first.images}
    scoring = choose_unit(sealed_labels, cases, asked=None if by_case else "image")
    if scoring.unit == "case":
        pools = {folder.resolve().name: _pool_sealed(folder, labels, cases or {}) for folder in folders}
    result = compare_pools(pools, confidence=0.95, given=_find_touched(folders, seals.values()), margin=margin)
    about = {"unit": scoring.unit, "unit_reason": scoring.reason, "n_images": len(first.images)}
    result = result.model_copy(update=about)
    scores = {row.name: row.metrics for row in result.rows}
    seals = {path: add_opening(seal, scores) for path, seal in seals.items()}
    for path, seal in seals.items():
        write_seal(path, seal)
    for folder in folders:
        log_event(folder, "seal opened", scores=scores[folder.resolve().name][HEADLINE].model_dump())
    return next(iter(seals.values())), result


def _find_seals(folders: Sequence[Path], root: Path) -> dict[Path, Seal]:
    """Return the seals under which runs were made; of runs that do not say it, the seal of their data folder."""
    runs = folders[0].resolve().parent
    named = [name for folder in folders for name in CohortRecord.read(folder).seals]
    paths = [runs / name for name in dict.fromkeys(named)] or [find_seal(Project(root, runs))]
    found = {path: read_seal(path) for path in paths}
    if missing := [str(path) for path, seal in found.items() if seal is None]:
        raise RunError(
            f"nothing is sealed: no {', '.join(missing)}", fix="--set split.sealed_frac=0.2 from the first run on"
        )
    return {path: seal for path, seal in found.items() if seal is not None}


def _find_touched(folders: Sequence[Path], seals: Iterable[Seal]) -> dict[str, AsGiven]:
    """Return the runs whose sealed scores may be touched by decisions that were made with predictions in view.

    The labels here are the given ones, whatever was decided. Two things can still touch a score: sealed images that
    were left out or repaired, and networks that had seen the sealed cases before these were sealed.
    """
    touched, earlier = {}, sorted({name for seal in seals for name in seal.runs_before})
    for folder in folders:
        influence = Influence.read(folder)
        inside = len(influence.sealed)
        before = f"the sealed cases may have been seen by {', '.join(earlier)}, made before the seal"
        reasons = [f"{inside} sealed images were left out or repaired with predictions in view"] if inside else []
        reasons += [before] if influence.followed and earlier else []
        if reasons:
            touched[folder.resolve().name] = describe_given("; ".join(reasons), None)
    return touched


def _pool_sealed(folder: Path, labels: Mapping[str, str], cases: Mapping[str, str] | None = None) -> Pool:
    """Pool the sealed images of a run, or their means by case where ``cases`` are given."""
    from ..predict import average_scores

    classes = CohortRecord.read(folder).classes
    path = folder / SEALED
    if not path.is_file():
        raise RunError(f"{folder.name} has no scores of the sealed part: it is older than the seal", fix="run it anew")
    samples = read_table(folder / SAMPLES, "image", "case").set_index("image")
    scores = average_scores(read_table(path, "image", *score_columns(classes)), classes=classes)
    gone = [image for image in scores["image"] if image not in labels]
    if gone:
        raise RunError(
            f"{len(gone)} sealed images have no label any more ({gone[0]})", fix="bring the data folder back"
        )
    case, label = [samples["case"][i] for i in scores["image"]], [labels[i] for i in scores["image"]]
    table = scores.assign(case=case, label=label)
    return pool_predictions(table if cases is None else average_cases(table, cases, classes=classes), classes=classes)
