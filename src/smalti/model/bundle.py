"""The model folder: written from what a run has trained, read back with every file checked.

``model.json`` says what is where. Weights are safetensors, each recipe is a YAML file, and nothing is a pickle. A
frozen backbone is kept once, however many folds and members share it. The folder needs neither the run, nor the data,
nor a hub.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from .. import images
from ..errors import RunError
from ..models import Backbone, describe_architecture
from ..recipe import Recipe, load_recipe
from ..records import (
    BackboneRecord,
    CohortRecord,
    Ensemble,
    Environment,
    FeaturePopulation,
    FoldBlend,
    GivenRecord,
    ModelMember,
    ModelRecord,
    NetworkRecord,
    Rules,
    RunFolder,
    Scores,
    TrainingPopulation,
)
from ..records.layout import (
    MODEL,
    MODEL_CARD,
    MODEL_RECORD,
    POPULATION,
    POPULATION_POINTS,
    TAUGHT_FEATURES,
    TAUGHT_POINTS,
    name_checkpoint,
    name_frozen,
    name_model_recipe,
    name_network,
)
from ..records.outgoing.model import JOINED
from ..store import replace_folder, write_atomic
from ..train import Experiment, read_checkpoint

State = Mapping[str, torch.Tensor]
Population = TrainingPopulation | FeaturePopulation
STACKED = "stack_"  # how the names begin of ensembles that are learned anew from the inner tables, and not kept
CHUNK_BYTES = 1 << 20
OF_MASKS = ("mask_values", "mask_inverted", "mask_exif", "mask_fit")  # knobs of ``data``


def find_obstacle(recipe: Recipe) -> RunError | None:
    """Return why what a recipe makes cannot be handed on, with what to do about it; None where it can."""
    combines = recipe.ensemble.members or recipe.portfolio.members is not None
    if combines and recipe.ensemble.method.startswith(STACKED):
        why = f"ensemble.method={recipe.ensemble.method} keeps no coefficients"
        return RunError(why, fix="weighed, greedy or average, which are shares")
    if recipe.tile.other_masks:
        return RunError("tile.other_masks gives each image the mask of another case, which a new image does not have")
    return None


def write_networks(experiment: Experiment, population: Population | None = None) -> Path:
    """Write the model folder of a run with networks of its own; return it.

    What the training images are stands in it where ``population`` says it, and scores where the run has been scored;
    neither for a member of a run, which is never asked alone.

    Raises:
        RunError: what the recipe makes cannot be handed on.
    """
    run, recipe, cohort = experiment.run, experiment.recipe, experiment.cohort
    bits = {s.bits for s in cohort.labelled if s.bits is not None}
    pictures = cohort.labelled if cohort.features is None else ()
    scales = sorted(m for s in pictures if (m := images.read_mpp(s.path)) is not None)
    mpp = (scales[0], scales[len(scales) // 2], scales[-1]) if scales else None

    def build(folder: Path) -> ModelRecord:
        name = run.path.name
        networks = []
        for split in experiment.splits:
            weights = read_checkpoint(run.path / name_checkpoint(split.name))["weights"]
            path = _write_weights(folder / name_network(name, split.name), weights)
            stain = experiment.stains[split.name].reference
            networks.append(
                NetworkRecord(
                    seed=split.seed, fold=split.fold, weights=path.relative_to(folder).as_posix(),
                    reference=None if stain is None else tuple(tuple(row) for row in stain.tolist()),
                )
            )  # fmt: skip
        frozen = not recipe.own_backbones
        member = ModelMember(
            name=name, recipe=_write_recipe(folder, name, run), tile_px=experiment.store.tile_px,
            backbone=_write_backbone(folder, experiment.backbone, frozen=frozen, beside=run.path.parent),
            networks=tuple(networks), members=(), blends=(), rules=Rules.read(run.path).rules,
        )  # fmt: skip
        record = _describe(run, (member,), bits=max(bits) if len(bits) == 1 else None, mpp=mpp)
        if (spec := cohort.features) is None:
            return record
        given = GivenRecord(size=spec.size, encoder=spec.encoder, columns=spec.columns, delimiter=spec.delimiter)
        return record.model_copy(update={"features": given})

    return _write(run, recipe, build, population)


def write_combination(run: RunFolder, members: Sequence[Path], population: Population | None = None) -> Path:
    """Write the model folder of a run that combines others, from the model folders of these runs; return it.

    Raises:
        RunError: what the recipe makes cannot be handed on, a member has no model, or members read files differently.
    """

    def build(folder: Path) -> ModelRecord:
        name = run.path.name
        read = {member: read_model(member / MODEL) for member in members}
        _refuse_mixed(read)
        listed = [m for member, record in read.items() for m in _adopt(member / MODEL, record, folder, below=name)]
        names = {member.name: f"{name}/{member.name}" for member in members}
        combined = ModelMember(
            name=name, recipe=_write_recipe(folder, name, run), tile_px=None, backbone=None, networks=(),
            members=tuple(names.values()), rules=Rules.read(run.path).rules,
            blends=tuple(_rename_shares(blend, names) for blend in Ensemble.read(run.path).folds),
        )  # fmt: skip
        first = next(iter(read.values()))
        record = _describe(run, (*listed, combined), bits=first.bits, mpp=first.mpp)
        return record.model_copy(update={"device": first.device, "features": first.features})

    return _write(run, run.read_recipe(), build, population)


def find_model(path: Path) -> Path:
    """Return the model folder that a path means: itself, or that of the run which it is.

    Raises:
        RunError: it has none, with the reason.
    """
    if (path / MODEL_RECORD).is_file():
        return path
    if (path / MODEL).is_dir():
        return path / MODEL
    run = RunFolder(path)
    if not run.recipe_path.is_file():
        raise RunError(f"{path} is no run folder and holds no model", fix="give a run folder, or a copy of RUN/model")
    if (why := find_obstacle(run.read_recipe())) is not None:
        raise RunError(f"{path} has no model to hand on: {why.message}", fix=why.fix)
    raise RunError(f"{path} has no model", fix="run the same command again ('smalti run'), which writes it")


def read_model(folder: Path) -> ModelRecord:
    """Read ``model.json`` and check every file that it names.

    Raises:
        RunError: there is no model, it is of another version, or a file is missing or not the one that was written.
    """
    if not (folder / MODEL_RECORD).is_file():
        raise RunError(f"no model in {folder}: {MODEL_RECORD} is missing", fix="give a model folder, such as RUN/model")
    record = ModelRecord.read(folder)
    used = {member.recipe for member in record.members} | set(record.population_files)
    used |= {network.weights for member in record.members for network in member.networks}
    used |= {m.backbone.weights for m in record.members if m.backbone is not None and m.backbone.weights}
    if unknown := sorted(used - set(record.files)):
        raise RunError(f"{folder / MODEL_RECORD} gives no hash of {unknown[0]}", fix=ModelRecord.FIX)
    if why := _find_gap(record):
        raise RunError(f"{folder / MODEL_RECORD} is damaged: {why}", fix=ModelRecord.FIX)
    for name, wanted in record.files.items():
        path = folder / name
        if not path.is_file():
            raise RunError(f"{path} is missing, which {MODEL_RECORD} names", fix=ModelRecord.FIX)
        if _hash_sha256(path) != wanted:
            raise RunError(f"{path} is not the file that {MODEL_RECORD} was written for", fix=ModelRecord.FIX)
    return record


def _find_gap(record: ModelRecord) -> str:
    """Return what is missing in a record that has the right form; empty where it is whole."""
    answers: dict[str, set[tuple[int, int]]] = {}  # member -> each seed and fold that it has an answer of
    for member in record.members:
        name = member.name
        own = (bool(member.networks), member.backbone is not None, member.tile_px is not None)
        combines = (bool(member.members), bool(member.blends))
        if not (all(own) and not any(combines)) and not (all(combines) and not any(own)):
            return f"{name} has neither networks with a backbone nor members, or both"
        if missing := set(member.members) - answers.keys():
            return f"{name} combines {min(missing)}, which is no member before it"
        if name in answers:
            return f"two members are called {name}"
        joined = bool(member.blends) and member.blends[0].method == JOINED
        keys = {(one.seed, one.fold) for one in (member.networks or member.blends)}
        asked = [answers[one] for one in member.members] + ([keys] if member.blends and not joined else [])
        if any(asked[0] - one for one in asked):
            return f"{name} combines members that have not the same folds"
        answers[name] = {(0, 0)} if joined else keys
        if answers[name] - {(rule.seed, rule.fold) for rule in member.rules}:
            return f"{name} has no rule for some of its folds"
        if any(set(record.classes) - rule.weights.keys() for rule in member.rules):
            return f"a rule of {name} lacks a class"
        if any(set(member.members) - (blend.weights or {}).keys() for blend in member.blends):
            return f"a blend of {name} lacks a member"
        if any(n.reference is not None and [len(row) for row in n.reference] != [4] * 3 for n in member.networks):
            return f"a stain reference of {name} is no frame of 3 x 4 numbers"
    return "" if answers else "it has no member"


def read_weights(path: Path) -> State:
    """Read the tensors of a weights file.

    Raises:
        RunError: it is damaged.
    """
    try:
        state: State = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise RunError(f"{path} cannot be read: {error}", fix=ModelRecord.FIX) from error
    return state


def read_recipes(folder: Path, record: ModelRecord) -> dict[str, Recipe]:
    """Read the resolved recipe of each member by its name.

    Raises:
        RecipeError: one does not fit this version.
    """
    return {member.name: load_recipe(folder / member.recipe) for member in record.members}


def iterate_voters(member: ModelMember, by_name: Mapping[str, ModelMember]) -> Iterator[ModelMember]:
    """Yield the members that have networks of their own and a share in the answer of ``member``, in some fold."""
    if member.networks:
        yield member
    for name in member.members:
        if any(blend.weights is None or blend.weights.get(name, 0) > 0 for blend in member.blends):
            yield from iterate_voters(by_name[name], by_name)


def export_model(run: Path, to: Path) -> Path:
    """Copy the model of a run to another folder, whole or not at all; return it.

    Raises:
        RunError: the run has no model, with the reason; or the folder holds something already.
    """
    source = find_model(run)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise RunError(f"{to} is there already, and holds something", fix="--to with a folder that is not there yet")
    record = read_model(source)

    def build(folder: Path) -> None:
        extra = [MODEL_CARD] if (source / MODEL_CARD).is_file() else []
        for name in (*record.files, *extra, MODEL_RECORD):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)

    replace_folder(to, build)
    return to


def _write(run: RunFolder, recipe: Recipe, build: Callable[[Path], ModelRecord], population: Population | None) -> Path:
    """Write the files, then their hashes, in the place of an earlier model."""
    if (why := find_obstacle(recipe)) is not None:
        raise RunError(f"{run.path} makes no model that could be handed on: {why.message}", fix=why.fix)

    def fill(folder: Path) -> None:
        record = build(folder)
        if population is None:  # a member, which has no answer of its own, though it may have been scored since
            record = record.model_copy(update={"scores": None})
        else:
            population.write(folder)
            of_images = isinstance(population, TrainingPopulation)
            names = (POPULATION, POPULATION_POINTS) if of_images else (TAUGHT_FEATURES, TAUGHT_POINTS)
            record = record.model_copy(update={"population_files": names})
        written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        record.model_copy(update={"files": {name: _hash_sha256(folder / name) for name in written}}).write(folder)

    return replace_folder(run.path / MODEL, fill)


def _describe(
    run: RunFolder, members: tuple[ModelMember, ...], *, bits: int | None, mpp: tuple[float, float, float] | None
) -> ModelRecord:
    cohort, environment = CohortRecord.read(run.path), Environment.read(run.path)
    device = {key: environment.device[key] for key in ("accelerator", "precision") if key in environment.device}
    return ModelRecord(
        name=run.path.name, classes=cohort.classes, unit=cohort.scoring.unit, members=members, bits=bits, mpp=mpp,
        population="site-out" if run.read_recipe().split.group == "site" else "out-of-fold",
        scores=Scores.find(run.path), device=device, libraries=environment.libraries,
        files={},
    )  # fmt: skip


def _refuse_mixed(read: Mapping[Path, ModelRecord]) -> None:
    """Refuse members that learned from differently read files: a new image is read once, for all of them.

    Raises:
        RunError: with what differs.
    """
    said: dict[str, dict[str, str]] = {}
    for member, record in read.items():
        said.setdefault("bits of 16-bit values", {})[member.name] = str(record.bits)
        for name, recipe in read_recipes(member / MODEL, record).items():
            for knob in OF_MASKS:
                said.setdefault(f"data.{knob}", {})[name] = str(getattr(recipe.data, knob) or None)
    for what, by_name in said.items():
        if len(set(by_name.values())) > 1:
            listed = ", ".join(f"{name}: {value}" for name, value in by_name.items())
            raise RunError(
                f"the members read their files differently, and a new image is read once: {what} ({listed})",
                fix="combine runs of the same data settings",
            )


def _adopt(source: Path, record: ModelRecord, folder: Path, *, below: str) -> list[ModelMember]:
    """Take the members of another model, with their files, under names that are paths below ``below``."""
    names = {member.name: f"{below}/{member.name}" for member in record.members}
    adopted = []
    for member in record.members:
        name = names[member.name]
        files = {member.recipe: name_model_recipe(name)}
        if member.backbone is not None and member.backbone.weights:
            files[member.backbone.weights] = member.backbone.weights  # it is named by its content
        networks = []
        for network in member.networks:
            files[network.weights] = name_network(name, f"fold{network.fold}-seed{network.seed}")
            networks.append(network.model_copy(update={"weights": files[network.weights]}))
        for old, new in files.items():
            _link(source / old, folder / new)
        update = {
            "name": name, "recipe": files[member.recipe], "networks": tuple(networks),
            "members": tuple(names[inner] for inner in member.members),
            "blends": tuple(_rename_shares(blend, names) for blend in member.blends),
        }  # fmt: skip
        adopted.append(member.model_copy(update=update))
    return adopted


def _rename_shares(blend: FoldBlend, names: Mapping[str, str]) -> FoldBlend:
    shares = None if blend.weights is None else {names[name]: share for name, share in blend.weights.items()}
    return blend.model_copy(update={"weights": shares})


def _write_weights(path: Path, state: State) -> Path:
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return write_atomic(path, safetensors.torch.save(plain))


def _write_recipe(folder: Path, name: str, run: RunFolder) -> str:
    path = folder / name_model_recipe(name)
    return write_atomic(path, run.recipe_path.read_bytes()).relative_to(folder).as_posix()


def _write_backbone(folder: Path, backbone: Backbone, *, frozen: bool, beside: Path) -> BackboneRecord:
    """Write the weights of a frozen backbone, or link them where a run ``beside`` has the same in its model."""
    architecture, options = describe_architecture(backbone)
    state, name = backbone.module.state_dict(), ""
    if frozen and state:
        content = safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()})
        digest = hashlib.sha256(content).hexdigest()
        name = name_frozen(digest[:12])
        twins = (path for path in sorted(beside.glob(f"*/{MODEL}/{name}")) if _hash_sha256(path) == digest)
        if (twin := next(twins, None)) is not None:
            _link(twin, folder / name)
        else:
            write_atomic(folder / name, content)
    return BackboneRecord(
        name=backbone.name, architecture=architecture, options=options, features=backbone.features, spec=backbone.spec,
        weights=name,
    )  # fmt: skip


def _link(source: Path, target: Path) -> None:
    """Link a file, which takes no room; copy it where the file system has no links."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _hash_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()
