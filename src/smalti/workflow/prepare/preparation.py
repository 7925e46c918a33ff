"""From a plan to an experiment: everything recorded before training, tiles and features, and weights that are known."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import images
from ...audit import settle_decisions, write_decisions, write_findings
from ...errors import DataError, Problem, RecipeError, RunError, SplitError
from ...recipe import Recipe, Tile
from ...records import (
    LIBRARIES,
    Asked,
    CohortRecord,
    Environment,
    LeftOut,
    RunFolder,
    Scoring,
    hash_cohort,
    log_event,
    log_stage,
    look_at_machine,
    open_run,
    tabulate_samples,
)
from ...records.layout import (
    AUGMENTATION_PICTURE,
    DECISIONS,
    ENVIRONMENT,
    FINDINGS,
    FOLD_TABLES,
    FOLDS,
    HASHES,
    MEMBER_RUNS,
    SAMPLES,
    name_checkpoint,
    name_dynamics,
)
from ...store import CACHE, hash_code, hash_files, hash_text, write_table
from ...store.leftovers import name_temporary
from ...types import Cohort, Sample, Split
from ..decisions.influence import record_influence
from ..listening import SILENT, Listener
from ..place import locate_run
from .ground import Ground
from .policies import check_policy, hash_images
from .settling import resolve_plan
from .staining import fit_stains, record_stains
from .units import record_cases, settle_unit

if TYPE_CHECKING:
    from ...models import Backbone
    from ...samples import StainMaps
    from ...train import Experiment, Features, FrozenFeatures

TRAINING_SECTIONS = ("tile", "stain", "split", "model", "train")
UNTOUCHED = "none"  # of `STAINS`
UNFITTED = ("average", "average_seeds")


def prepare(ground: Ground, plan: Recipe, *, runs: Path, name: str | None, listener: Listener) -> Experiment:
    """Record the plan, then tiles and features: all that the folds share."""
    from ...models import build_backbone
    from ...tile import build_store
    from ...train import Experiment, check_parts, choose_device, make_fabric

    asked, plan = plan.model.norm, resolve_plan(plan, listener=listener)
    check_parts(plan)
    check_rules(plan)
    refuse_unscaled(ground.cohort.samples, plan.tile)
    scoring = settle_unit(ground, plan)
    listener.say(f"scored by {scoring.unit}: {scoring.reason}")
    cache = runs / CACHE
    splits = make_splits(ground, plan, listener=listener)
    backbone = build_backbone(plan.model)
    if backbone.note is not None:
        listener.say(backbone.note)
    if asked != "auto" and backbone.norm is None:
        listener.say(f"{backbone.name} has no batch normalisation: model.norm={asked} has no effect")
    plan, tile_px, notes = _settle_sizes(ground, plan, backbone, listener=listener)
    device = choose_device(plan.train)
    identity = identify(ground, cache=cache) | {"weights": _hash_backbone(backbone)}
    digests = hash_images(ground, cache=cache)
    stands_on = identity | check_policy(plan, ground, splits, digests=digests)
    training = hash_training(plan, stands_on, device=f"{device.accelerator} {device.precision}")
    folder = runs / (name or name_run(ground, plan))
    run_folder = open_run(
        folder, recipe=plan, identity=identity, training=training, device=asdict(device), weights=backbone.note
    )
    record_plan(run_folder, ground, splits, scoring=scoring, notes=notes)
    influence = record_influence(run_folder, ground, runs=runs, data=identity["data"])
    # Scored as given, too, where decisions may have been made with predictions in view.
    given = ground.whole.labelled if influence.followed and not plan.tile.other_masks else ()
    listener.say(f"{device.name}, {device.precision}: {device.reason}")
    with log_stage(run_folder.path, "tile"):
        store = build_store(
            add_given(ground.cohort, given), plan.tile, tile_px=tile_px, cache=cache, progress=listener.follow("tile")
        )
    adopt_training(run_folder, splits, listener=listener)
    fabric = make_fabric(device)
    stains = fit_stains(ground.cohort, store, plan, splits=splits)
    if plan.stain.normalise != UNTOUCHED:
        record_stains(run_folder, ground.cohort, stains, method=plan.stain.normalise, listener=listener)
    frozen: dict[str, FrozenFeatures] = {}
    if plan.train.transfer.epochs > 0:
        with log_stage(run_folder.path, "features"):
            embed = partial(_embed, plan, backbone, fabric=fabric, cache=cache, listener=listener)
            frozen = _freeze(embed, stains, plan, classes=len(ground.cohort.classes))
    return Experiment(
        run_folder, plan, ground.cohort, splits, store, backbone, frozen, device, fabric, stains, digests, given
    )


def _settle_sizes(
    ground: Ground, plan: Recipe, backbone: Backbone, *, listener: Listener
) -> tuple[Recipe, int, tuple[str, ...]]:
    """The recipe with the field of its tiles, the side of a stored tile, and what there is to say about sizes."""
    from ...tile import note_sizes, settle_field

    tile_px = plan.tile.size_px or backbone.spec.size_px
    tile = settle_field(plan.tile, ground.whole.labelled, tile_px=tile_px, fixed=backbone.spec.fixed)
    tile_px = tile.size_px or tile_px
    notes = note_sizes(tile, ground.whole.samples, tile_px=tile_px)
    for note in notes:
        listener.say(note)
    return plan.model_copy(update={"tile": tile}), tile_px, notes


def add_given(cohort: Cohort, given: tuple[Sample, ...]) -> Cohort:
    """The cohort with labelled images that decisions have left out, to be scored and not to be learned from."""
    kept = {s.image for s in cohort.labelled}
    return replace(cohort, labelled=(*cohort.labelled, *(s for s in given if s.image not in kept)))


def refuse_unscaled(samples: Sequence[Sample], tile: Tile) -> None:
    """Ask what is meant where tiles are to show microns and images do not say theirs.

    Raises:
        DataError: the recipe does not say what such images have.
    """
    if tile.mpp is None or tile.image_mpp is not None or tile.source != "tiles":
        return
    silent = [s.image for s in samples if images.read_mpp(s.path) is None]
    if not silent:
        return
    problem = Problem(
        "mpp-unknown",
        silent[0] + (f" and {len(silent) - 1} more" if len(silent) > 1 else ""),
        f"{len(silent)} of {len(samples)} images do not say their microns per pixel, and tile.mpp={tile.mpp:g} would "
        "show them at another scale than the others.",
        "--set tile.image_mpp=NUMBER says what these images have; --set tile.mpp=null takes all pixels as they are",
    )
    raise DataError("images of unknown scale", [problem])


def check_rules(plan: Recipe) -> None:
    """Look up what is done after training, so that a slip is told before it.

    Raises:
        PartError: a calibration, decision or ensemble that does not exist; the message names the nearest.
        RecipeError: a rule on top of a stacker, whose inner scores are those that it was fitted to.
    """
    from ...predict import CALIBRATIONS, DECISIONS, ENSEMBLES

    CALIBRATIONS.find(plan.predict.calibration)
    DECISIONS.find(plan.predict.decision)
    ENSEMBLES.find(plan.ensemble.method)
    combines = plan.ensemble.members or plan.portfolio.members is not None
    fitted = combines and plan.ensemble.method not in UNFITTED
    if fitted and (plan.predict.calibration, plan.predict.decision) != ("none", "largest"):
        raise RecipeError(
            f"ensemble.method={plan.ensemble.method} is fitted on the inner images, and a calibration or decision "
            "would be fitted on the same. Fix: --set predict.calibration=none --set predict.decision=largest"
        )


def make_splits(ground: Ground, plan: Recipe, *, listener: Listener) -> tuple[Split, ...]:
    """Folds as `_make_splits` makes them; where outer parts lack a class that is said."""
    from ...samples import find_lacking

    splits = _make_splits(ground, plan, listener=listener)
    for name, count in find_lacking(ground.cohort, splits).items():
        held = len({s.case for s in ground.cohort.labelled if s.label == name})
        listener.say(
            f"{count} of {len(splits)} outer parts hold no image of class '{name}' ({held} cases): scores are pooled "
            "over all parts, but these say nothing about it"
        )
    return splits


def _make_splits(ground: Ground, plan: Recipe, *, listener: Listener) -> tuple[Split, ...]:
    """Folds made before anything was left out, without what was; made anew where that would empty a part."""
    from ...samples import restrict_splits, split_cases

    whole: tuple[Split, ...] | None = None
    # What was relabelled may have given a class the cases that it lacked.
    with suppress(SplitError):
        whole = split_cases(ground.whole, plan.split)
    splits = None if whole is None else restrict_splits(whole, whole=ground.whole, cohort=ground.cohort)
    if splits is not None:
        return splits
    if ground.decisions:
        listener.say("with these decisions the folds have to be made anew; runs without them have other folds")
    return split_cases(ground.cohort, plan.split)


def identify(ground: Ground, *, cache: Path) -> dict[str, str]:
    """What a run stands on: hashes of the data and of the decisions, with the repairs that these mean."""
    rows = [f"{d.image}|{d.action}|{d.label}" for d in ground.decisions]
    # The outline comes from the audit, whose code may change while the decision stays.
    repairs = [f"{s.image}|{s.repair}" for s in ground.cohort.samples if s.repair is not None]
    memo = cache / HASHES
    audited = [] if ground.seen.digest is None else ground.seen.digest.images
    files = {s.image: s.path for s in ground.whole.samples}
    hashes = hash_files([files[d.image] for d in audited if d.image in files], memo=memo)
    for digest in audited:
        if hashes.get(files.get(digest.image, Path()), digest.file_hash) != digest.file_hash:
            raise images.changed_error(files[digest.image])
    return {
        "data": hash_cohort(ground.whole, memo=memo),
        "decisions": hash_text(*rows, *repairs),
    }


def name_run(ground: Ground, plan: Recipe) -> str:
    """Name of a run that was given none: data folder, preset and a hash of the recipe."""
    return f"{ground.cohort.root.resolve().name}-{plan.preset}-{hash_text(plan.to_yaml())[:6]}"


def hash_training(plan: Recipe, identity: dict[str, str], *, device: str) -> str:
    """Hash of everything that trained weights depend on; recipes that differ only after training share it."""
    sections = plan.model_dump_json(include=set(TRAINING_SECTIONS))
    libraries = look_at_machine().libraries
    versions = "|".join(libraries[name] for name in LIBRARIES)
    return hash_text(sections, *sorted(identity.values()), device, versions, hash_code("smalti.train"))


def adopt_training(run_folder: RunFolder, splits: tuple[Split, ...], *, listener: Listener) -> None:
    """Take finished weights from a run beside this one, or a member of one, that was trained in just the same way.

    Its scores of each fold are taken too where both look at tiles in the same views.
    """
    wanted = Environment.read(run_folder.path).training
    missing = [s.name for s in splits if not (run_folder.path / name_checkpoint(s.name)).is_file()]
    runs = locate_run(run_folder.path)[0]
    others = [*runs.glob(f"*/{ENVIRONMENT}"), *runs.glob(f"*/{MEMBER_RUNS}/*/{ENVIRONMENT}")] if missing else []
    for other in sorted(others):
        source = RunFolder(other.parent)
        if source == run_folder:
            continue
        try:
            known = Environment.read(source.path).training
        except RunError:  # another run that is damaged or old does not matter to this one
            continue
        if known != wanted:
            continue
        taken = [name for name in missing if take_file(name_checkpoint(name), source, run_folder)]
        if not taken:
            continue
        missing = [name for name in missing if name not in taken]
        log_event(run_folder.path, "weights taken", run=source.path.name, files=taken)
        listener.say(f"{len(taken)} trained network(s) taken from {source.path.name}: trained in the same way")
        take_file(AUGMENTATION_PICTURE, source, run_folder)
        for name in taken:
            take_file(name_dynamics(name), source, run_folder)
        if source.read_recipe().predict.views == run_folder.read_recipe().predict.views:
            for table in sorted((source.path / FOLD_TABLES).glob("[!.]*.csv")):
                take_file(f"{FOLD_TABLES}/{table.name}", source, run_folder)


def take_file(name: str, run: RunFolder, into: RunFolder) -> bool:
    """Link one file of another run; copy it where the file system has no links."""
    source, target = run.path / name, into.path / name
    if not source.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        partial = name_temporary(target.parent)
        shutil.copyfile(source, partial)
        partial.replace(target)
    return True


def _hash_backbone(backbone: Any) -> str:
    from ...models import hash_weights

    return hash_weights(backbone.module)


def _freeze(
    embed: Callable[[StainMaps], Features], stains: dict[str, StainMaps], plan: Recipe, *, classes: int
) -> dict[str, FrozenFeatures]:
    """What a frozen backbone sees in each fold; computed once for all that see the same."""
    from ...train import freeze

    seen: dict[str, FrozenFeatures] = {}
    for maps in stains.values():
        if maps.key not in seen:
            seen[maps.key] = freeze(embed(maps), plan, classes=classes)
    return {name: seen[maps.key] for name, maps in stains.items()}


def _embed(plan: Recipe, backbone: Any, stains: StainMaps, *, fabric: Any, cache: Path, listener: Listener) -> Features:
    """Frozen features of every tile, in as many views as training or prediction wants."""
    from ...train import compute_features

    frozen = plan.train.finetune.epochs == 0
    views = max(plan.train.transfer.views, plan.predict.views if frozen else 1)
    return compute_features(
        backbone,
        stains.store,
        views=views,
        fabric=fabric,
        cache=cache,
        stains=stains,
        progress=listener.follow("features"),
    )


def refold(
    experiment: Experiment, cohort: Cohort, splits: tuple[Split, ...], *, run_folder: RunFolder, cache: Path
) -> Experiment:
    """The experiment on a part of its cohort, in other folds, each with what it may see of its own images."""
    stains = fit_stains(cohort, experiment.store, experiment.recipe, splits=splits)
    frozen: dict[str, FrozenFeatures] = {}
    if experiment.recipe.train.transfer.epochs > 0:
        embed = partial(
            _embed, experiment.recipe, experiment.backbone, fabric=experiment.fabric, cache=cache, listener=SILENT
        )
        frozen = _freeze(embed, stains, experiment.recipe, classes=len(cohort.classes))
    return replace(experiment, run=run_folder, cohort=cohort, splits=splits, frozen=frozen, stains=stains)


def record_plan(
    run_folder: RunFolder,
    ground: Ground,
    splits: tuple[Split, ...],
    *,
    scoring: Scoring,
    notes: tuple[str, ...] = (),
) -> None:
    """Everything that was decided, in the run folder before training begins, with ``notes`` beside the cohort's."""
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
    ).write(run_folder.path)
    write_table(run_folder.path / SAMPLES, tabulate_samples(cohort))
    write_decisions(run_folder.path / DECISIONS, ground.decisions)
    write_findings(run_folder.path / FINDINGS, ground.seen)
    write_table(run_folder.path / FOLDS, tabulate_folds(cohort, splits))
