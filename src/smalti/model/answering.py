"""A folder of new images: answers by image and by case, on disk as they come, so that nothing is asked twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import images
from ..cohort import Columns, FreshImages, list_fresh
from ..errors import RecipeError, RunError
from ..recipe import Recipe, change_recipe
from ..records import Answered, AnswersRecord, append_answers, read_answered
from ..records.layout import ANSWERED, ANSWERS, ANSWERS_BY_CASE, MODEL_RECORD, name_map
from ..store import hash_code, hash_text, write_table
from ..store.leftovers import remove_leftovers
from ..types import FeatureSpec, Sample, score_columns
from .bundle import OF_MASKS
from .moved import warn_shift
from .predicting import Answer, Model, sum_notes, tabulate_answers
from .refusal import refuse_unreadable

CODE = "smalti.model.predicting"
OF_PIXELS = ("bits", *OF_MASKS)


@dataclass(frozen=True, slots=True)
class FolderAnswers:
    """What was answered.

    Attributes:
        path: folder of the tables.
        fresh: the images, with their labels where they have some.
        table: one row an image, as in `Model.predict`.
        by_case: one row a case; None where every image is its own.
    """

    path: Path
    fresh: FreshImages
    table: pd.DataFrame
    by_case: pd.DataFrame | None


def answer_folder(
    model: Model,
    root: Path,
    out: Path,
    *,
    columns: Columns | None = None,
    mpp: float | None = None,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] | None = None,
) -> FolderAnswers:
    """Answer for the images of a folder; write ``predictions.csv``, and ``by_case.csv`` where it names cases.

    What was answered before, by the same model, of the same files, is kept; an interrupted call goes on, and the tables
    are the same as without the interruption.

    Args:
        model: what answers.
        root: folder of the images; it is never changed.
        out: folder of the tables.
        columns: how the folder is read; None reads masks and values as the recipe of the model does.
        mpp: microns per pixel of images that do not say their own.
        say: hears what was guessed.
        progress: hears how many images are done, and how many there are.

    Raises:
        DataError: as `list_fresh`.
        RunError: ``out`` lies in the folder of the images, or holds the answers of another model or folder.
    """
    about = _open_answers(model, root, out, mpp=mpp)
    given = model.record.features
    spec = None if given is None else FeatureSpec(given.size, given.encoder, given.columns, given.delimiter)
    fresh = list_fresh(root, columns=columns or list_columns(model), features=spec)
    for note in fresh.notes:
        say(note)
    about.model_copy(update={"notes": fresh.notes}).write(out)
    named = {sample.image: sample for sample in fresh.samples}
    content = {name: _name_content(sample) for name, sample in named.items() if name not in fresh.wrong}
    known = {name: row for name, row in read_answered(out).items() if content.get(name) == row.content}
    rest = [sample for name, sample in named.items() if name in content and name not in known]
    if known and rest:
        say(f"{len(known)} of {len(content)} images are answered already ({out / ANSWERED}); it goes on from there")
    with append_answers(out, known) as append:
        for answer in model.stream(rest, mpp=mpp):
            row = Answered(
                image=answer.image, content=content[answer.image], scores=answer.scores, agreement=answer.agreement,
                refused=answer.refused, traits=answer.traits, notes=answer.notes,
            )  # fmt: skip
            (out / name_map(answer.image)).unlink(missing_ok=True)  # of an earlier content
            append(row)
            known[answer.image] = row
            if progress is not None:
                progress(len(known), len(content))
    answers = [
        _find_answer(name, named.get(name), known, fresh.wrong) for name in dict.fromkeys((*named, *fresh.wrong))
    ]
    for note in sum_notes(answers):
        say(note)
    if (warning := _warn(model, answers)) is not None:
        say(warning)
    table = tabulate_answers(answers, model.classes)
    write_table(out / ANSWERS, table)
    by_case = None
    if any(sample.case != name for name, sample in named.items()):
        by_case = average_answers(table, model.classes)
        write_table(out / ANSWERS_BY_CASE, by_case)
    else:
        (out / ANSWERS_BY_CASE).unlink(missing_ok=True)  # of an earlier call that knew cases
    return FolderAnswers(out, fresh, table, by_case)


def _warn(model: Model, answers: Sequence[Answer]) -> str | None:
    """Return a warning where the new images look like those of another laboratory."""
    apart = ("blank", "foreign", "painted", "unreadable")
    kept = [a for a in answers if a.traits is not None and not a.refused.startswith(apart)]
    if model.population is None or not kept:
        return None
    own = all(answer.case == answer.image for answer in kept)
    traits = np.array([answer.traits for answer in kept], dtype=np.float64)
    return warn_shift(model.population, traits, cases=None if own else [answer.case for answer in kept])


def list_columns(model: Model, settings: Sequence[str] = ()) -> Columns:
    """Return how new images are read: their masks and values as those of the training images, but for ``settings``.

    Raises:
        RecipeError: a setting is none of a section ``data``.
    """
    plain = Recipe()
    kept = {name: getattr(model.trained, name) for name in OF_PIXELS}
    kept["bits"] = kept["bits"] or model.record.bits
    data = plain.data.model_copy(update=kept)
    asked = change_recipe(plain.model_copy(update={"data": data}), settings, where="--set")
    if asked.model_copy(update={"data": data}) != plain.model_copy(update={"data": data}):
        raise RecipeError("a model is used as it was trained", fix="--set data.KNOB=VALUE alone")
    return Columns(**asked.data.name_columns())


def average_answers(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Return the mean of the answers of each case: case, images (answered), refused, predicted, score_<class>...

    A case without an answered image has no class.
    """
    columns = score_columns(tuple(classes))
    answered = table["refused"] == ""
    groups = table.assign(images=answered, refused=~answered).groupby("case", sort=False)
    counts = groups[["images", "refused"]].sum().astype(int)
    means = table[answered].groupby("case", sort=False)[columns].mean().reindex(counts.index)
    largest = means.fillna(0).to_numpy().argmax(axis=1)
    predicted = [classes[i] if n else "" for i, n in zip(largest, counts["images"], strict=True)]
    return pd.concat([counts.assign(predicted=predicted), means], axis=1).reset_index()


def _open_answers(model: Model, root: Path, out: Path, *, mpp: float | None) -> AnswersRecord:
    """Return what the answers stand on, after a look at what is in the folder already."""
    place, inside = out.resolve(), root.resolve()
    if place == inside or inside in place.parents:
        raise RunError(f"{out} lies inside the images in {root}, which are never changed", fix="--out elsewhere")
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file, and the answers are a folder", fix="--out with a folder")
    digest = hashlib.sha256((model.folder / MODEL_RECORD).read_bytes()).hexdigest()
    about = AnswersRecord(
        model=model.record.name, model_hash=digest, code=hash_code(CODE), mpp=mpp, root=str(root.resolve())
    )
    if out.is_dir():
        remove_leftovers(out)
    before = AnswersRecord.find(out)
    if before is None and out.is_dir() and any(out.iterdir()):
        raise RunError(f"{out} is there already, and holds something else", fix="--out with another folder")
    if before is not None:
        if (before.model_hash, before.root, before.mpp) != (about.model_hash, about.root, about.mpp):
            raise RunError(
                f"{out} holds answers of another model or folder, or at another --mpp: '{before.model}' on "
                f"{before.root}",
                fix="--out with another folder, or delete this one",
            )
        if before.code != about.code:
            (out / ANSWERED).unlink(missing_ok=True)  # another version of smalti: all is asked again
    return about


def _name_content(sample: Sample) -> str:
    stamps = [str(images.read_stamp(path)) for path in sample.files if path.exists()]
    rows = () if sample.bag is None else (str(sample.bag),)
    return hash_text(*stamps, str(sample.mask_reading), str(sample.bits), *rows)


def _find_answer(name: str, sample: Sample | None, known: dict[str, Answered], wrong: dict[str, str]) -> Answer:
    case = name if sample is None else sample.case
    if name in wrong:
        return Answer(name, case, refused=refuse_unreadable(wrong[name]))
    row = known[name]
    return Answer(name, case, row.scores, row.agreement, row.refused, row.traits, row.notes)
