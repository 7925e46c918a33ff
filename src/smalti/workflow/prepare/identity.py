"""What a run stands on: hashes of data and decisions, what trained weights depend on, and the name of its folder."""

from __future__ import annotations

from pathlib import Path

from ... import images
from ...project import Project
from ...recipe import Recipe, Settled
from ...records import LIBRARIES, hash_cohort, look_at_machine
from ...records.layout import HASHES
from ...store import hash_code, hash_files, hash_text
from .ground import Ground

TRAINING_SECTIONS = ("tile", "stain", "split", "model", "train")


def identify(project: Project, ground: Ground) -> dict[str, str]:
    """Return what a run stands on: hashes of the data and of the decisions, with the repairs that these mean."""
    rows = [f"{d.image}|{d.action}|{d.label}" for d in ground.decisions]
    # The outline comes from the audit, whose code may change while the decision stays.
    repairs = [f"{s.image}|{s.repair}" for s in ground.cohort.samples if s.repair is not None]
    memo = project.cache / HASHES
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


def name_run(ground: Ground, recipe: Recipe) -> str:
    """Return the name of a run that was given none: data folder, preset and a hash of the recipe."""
    return f"{ground.cohort.root.resolve().name}-{recipe.preset}-{hash_text(recipe.to_yaml())[:6]}"


def hash_training(recipe: Settled, identity: dict[str, str], *, device: str) -> str:
    """Hash everything that trained weights depend on; recipes that differ only after training share it."""
    sections = recipe.model_dump_json(include=set(TRAINING_SECTIONS))
    libraries = look_at_machine().libraries
    versions = "|".join(libraries[name] for name in LIBRARIES)
    code = hash_code("smalti.train", "smalti.train.pretraining.pretrainer")  # `prepare` alone imports the latter
    return hash_text(sections, *sorted(identity.values()), device, versions, code)
