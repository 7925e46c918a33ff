"""The steps before training in their order, which is the honesty contract: no step sees what a later one decides.

From a data folder to its ground (`inspect_ground`), once for all recipes that ask the same of the data:

1.  **read**: every problem of the folder is known before anything is decided.
2.  **audit**: the whole cohort as it was read, so that no decision hides a finding.
3.  **bind**: decisions are checked against the content of the images that they are about.
4.  **join**: duplicates share a case before anything is excluded; an excluded image may be all that joins two others.
5.  **seal**: cases are set apart whole, so that it comes after joining and before anybody looks at findings.
6.  **hide**: findings tell no sealed label.
7.  **accept**: rules decide on what is left to see.
8.  **apply**: what persons and rules decided.

From a ground to an experiment (`prepare`), for one recipe:

9.  **settle**: the recipe gets a value for each ``auto``, and what does not fit together is refused.
10. **split**: folds are made on the cohort before decisions, so that they do not depend on them.
11. **identify**: hashes of data, decisions, weights and code; another run has another folder.
12. **record**: all of this is written before a network sees an image.
13. **cut**: tiles of what is learned from, and of what is scored as it was given.
14. **adopt**: trained weights are taken from a run that was trained in just the same way.
15. **freeze**: stain, pretraining and features of each fold, from images that it does not hold out.

Runs that other runs are combined into take steps 9 to 12 with `begin_combined`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...audit import apply_decisions, check_accepted, find_bound_cases, hide_sealed, join_duplicates, settle_decisions
from ...licences import find_encoder_row
from ...project import Project
from ...recipe import Recipe
from ...records import Influence, RunFolder, log_stage, open_run
from ...store import hash_text
from ...store.leftovers import remove_leftovers
from ...types import Split
from ..decisions.belonging import find_decisions, read_contents, seal_cohort
from ..decisions.influence import record_influence
from ..place import check_place
from .adoption import adopt_training
from .frozen import draw_images, freeze_features, pretrain_folds
from .ground import Ground, OnProblems, accept, audit_folder, bind_folder, find_unfit, list_standing, read_folder
from .identity import hash_training, identify, name_run
from .policies import check_policy, hash_images
from .recording import record_inputs
from .settling import check_rules, refuse_unscaled, settle_recipe, settle_sizes
from .splitting import make_splits
from .staining import fit_stains, record_stains
from .units import settle_unit

if TYPE_CHECKING:
    from ...tile import TileStore
    from ...train import Experiment

UNTOUCHED = "none"  # of `STAINS`


def inspect_ground(
    project: Project, recipe: Recipe, *, run: Path | None = None, problems: OnProblems = "refuse"
) -> Ground:
    """Take the steps 1 to 8 from a data folder to the ground that runs stand on.

    Args:
        project: the data folder, and the runs with decisions and seals beside them.
        recipe: its sections ``data`` and ``audit`` and the sealed part are asked for.
        run: a finished run on this folder, whose label suspects are among the findings.
        problems: images with problems stop it (``refuse``), are excluded, recorded as decisions (``skip``), or are left
            out of the cohort and are findings (``report``).

    Raises:
        DataError: with every problem of the folder at once; nothing is written.
        WeightsError: the weights that the recipe names cannot be had; of an encoder before anything is read.
        RecipeError: the seal that is there is not the one that the recipe asks for, or a rule is to change labels.
        RunError: the folder of the runs lies inside the data folder or cannot be written to.
    """
    check_accepted(recipe.audit.accept)
    if find_encoder_row(recipe.model.backbone) is not None:
        from ...models import check_weights  # torch is slow to import

        check_weights(recipe.model)
    check_place(project)
    remove_leftovers(project.runs)
    remove_leftovers(project.cache, deep=True)
    project, listener = replace(project, decisions=find_decisions(project)), project.listener

    folder = read_folder(project, recipe, problems=problems)  # 1. read
    seen = audit_folder(project, folder, recipe, run=run)  # 2. audit
    contents = read_contents(project, folder.cohort, seen, unusable=folder.unusable)
    bound = find_bound_cases(folder.cohort)
    decisions = bind_folder(project, folder, contents, bound)  # 3. bind
    joined = join_duplicates(folder.cohort, seen.findings)  # 4. join
    sealing = seal_cohort(project, joined, contents=contents, share=recipe.split.sealed_frac)  # 5. seal
    seen = hide_sealed(seen, sealing.cohort)  # 6. hide
    for code, outcome in seen.list_outcomes():
        if outcome.found != 0 or outcome.reason:
            listener.say(f"audit, {code}: {outcome}")
    decisions += accept(project, seen, recipe, contents=contents)  # 7. accept
    decisions = tuple(settle_decisions(decisions).values())
    cohort = apply_decisions(sealing.cohort, decisions, findings=seen.findings, bound=bound)  # 8. apply
    return Ground(
        cohort, sealing.cohort, decisions, seen, list_standing(folder.wrong, decisions), contents, sealing.seals, bound,
        known=decisions, cases={s.image: s.case for s in folder.cohort.samples},
    )  # fmt: skip


def prepare(project: Project, ground: Ground, recipe: Recipe, *, name: str | None = None) -> Experiment:
    """Take the steps 9 to 15 from a ground to all that the folds of one recipe share.

    Raises:
        SmaltiError: the recipe fits neither itself nor the data, or the folder ``name`` holds another run.
    """
    from ...models import build_backbone, hash_weights
    from ...tile import build_store, open_given
    from ...train import Experiment, check_parts, check_spread, choose_device, make_fabric

    listener = project.listener
    settled = settle_recipe(recipe, ground.cohort.features, listener=listener)  # 9. settle
    check_parts(settled)
    check_rules(settled)
    refuse_unscaled(ground.cohort.samples, settled.tile)
    scoring = settle_unit(ground, settled, listener=listener)
    splits = make_splits(ground, settled, listener=listener)  # 10. split
    backbone = build_backbone(settled.model)
    if backbone.note is not None:
        listener.say(backbone.note)
    if recipe.model.norm != "auto" and backbone.norm is None:
        listener.say(f"{backbone.name} has no batch normalisation: model.norm={recipe.model.norm} has no effect")
    settled, tile_px, notes = settle_sizes(ground, settled, backbone, listener=listener)
    device = choose_device(settled.train)
    check_spread(backbone.module, settled, device)
    identity = identify(project, ground) | {"weights": hash_weights(backbone.module)}  # 11. identify
    digests = hash_images(project, ground)
    unfit = find_unfit(ground, settled, listener=listener)
    stands_on = identity | check_policy(settled, ground, splits, digests=digests) | {"unfit": hash_text(*sorted(unfit))}
    training = hash_training(settled, stands_on, device=f"{device.accelerator} {device.precision}")
    run = open_run(  # 12. record
        project.runs / (name or name_run(ground, settled)), recipe=settled, identity=identity, training=training,
        device=asdict(device), weights=backbone.note,
    )  # fmt: skip
    record_inputs(run, ground, splits, scoring=scoring, notes=notes)
    influence = record_influence(project, run, ground, data=identity["data"])
    # Scored as given, too, where decisions may have been made with predictions in view.
    given = ground.whole.labelled if influence.followed and not settled.tile.other_masks else ()
    listener.say(f"{device.name}, {device.precision}: {device.reason}")
    with log_stage(run.path, "tile"):  # 13. cut
        kept = {s.image for s in ground.cohort.labelled}
        both = (*ground.cohort.labelled, *(s for s in given if s.image not in kept))
        whole = replace(ground.cohort, labelled=both)
        if whole.features is not None:
            store: TileStore = open_given(whole, cache=project.cache)
        else:
            store = build_store(
                whole, settled.tile, tile_px=tile_px, cache=project.cache, progress=listener.follow("tile")
            )
    adopt_training(run, splits, listener=listener)  # 14. adopt
    fabric = make_fabric(device)
    stains = fit_stains(ground.cohort, store, settled, splits=splits)  # 15. freeze
    if settled.stain.normalise != UNTOUCHED:
        record_stains(run, ground.cohort, stains, method=settled.stain.normalise, listener=listener)
    with log_stage(run.path, "pretrain") if settled.train.pretrain.method is not None else nullcontext():
        pretrained = pretrain_folds(
            project.cache, run, settled, ground.cohort, splits, store, backbone, stains, fabric=fabric, unfit=unfit,
            listener=listener,
        )  # fmt: skip
    with log_stage(run.path, "features") if settled.train.transfer.epochs > 0 else nullcontext():
        frozen = freeze_features(
            project.cache, settled, backbone, stains, fabric=fabric, classes=len(ground.cohort.classes),
            pretrained=pretrained, listener=listener,
        )  # fmt: skip
    with log_stage(run.path, "synthesis") if settled.train.synthesis.method is not None else nullcontext():
        drawn = draw_images(
            project.cache, run, settled, ground.cohort, store, backbone, stains, fabric=fabric, listener=listener
        )
    return Experiment(
        run, settled, ground.cohort, splits, store, backbone, frozen, device, fabric, stains, digests, given, unfit,
        pretrained, drawn,
    )  # fmt: skip


def begin_combined(
    project: Project, ground: Ground, recipe: Recipe, *, name: str | None, stands_on: str, members: Iterable[Path] = ()
) -> tuple[RunFolder, tuple[Split, ...], Influence]:
    """Take the steps 9 to 12 for a run that is made of other runs and has no networks of its own.

    Args:
        project: as for `prepare`.
        ground: as for `prepare`.
        recipe: as for `prepare`; nothing of it depends on a backbone.
        name: of the run folder; by default data folder, preset and a hash of the recipe.
        stands_on: hash of the members.
        members: run folders that are there already; what influenced them influences the whole.

    Returns:
        The run folder, its folds, and what may have influenced it.

    Raises:
        SmaltiError: as `prepare`.
    """
    listener = project.listener
    check_rules(recipe)  # 9. settle
    scoring = settle_unit(ground, recipe, listener=listener)
    splits = make_splits(ground, recipe, listener=listener)  # 10. split
    identity = identify(project, ground) | {"members": stands_on}  # 11. identify
    run = open_run(project.runs / (name or name_run(ground, recipe)), recipe=recipe, identity=identity)  # 12. record
    record_inputs(run, ground, splits, scoring=scoring)
    return run, splits, record_influence(project, run, ground, data=identity["data"], members=members)
