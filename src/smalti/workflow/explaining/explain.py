"""Explain a finished run: where its networks looked, and whether that can be trusted."""

from __future__ import annotations

import difflib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ...errors import DataError, RunError
from ...explain import GRID, Measured, summarise_maps
from ...project import HERE, SILENT, Listener, Project
from ...recipe import Recipe
from ...records import CohortRecord, Done, ExplanationRecord, LookedAt, MapNumbers, RunFolder, log_stage
from ...records.layout import (
    ATTENTION,
    FOLDS,
    HEATMAP,
    MEMBER_RUNS,
    OUT_OF_FOLD,
    TEST,
    TILE_SHEET,
    name_checkpoint,
    name_heatmap,
)
from ...store import read_table, write_arrays, write_atomic
from ...tile import GivenStore
from ...types import Cohort, Sample, score_columns
from ..place import locate_run
from ..stages import reopen
from ..units.ahead import explain_ahead
from .heatmaps import find_place, write_heatmaps
from .tile_scores import write_tile_scores

if TYPE_CHECKING:
    from ...explain.explanation import Explanation
    from ...tile import TileStore

SHEET_TILES = 8
SHOWN = 5  # names listed in an error


def explain_run(
    path: str | Path,
    *,
    images: int | Sequence[str] | None = None,
    shown: str | None = None,
    on: str = HERE,
    listener: Listener = SILENT,
) -> Path:
    """Write heat maps, tile sheet and ``explanation.json`` of a finished run; return the latter's path.

    Labelled images are explained by the networks that never saw their case, unlabelled ones by those of all folds.

    Args:
        path: the run folder.
        images: how many, an even choice, or which; None for all. ``explanation.json`` is about these.
        shown: the class to explain; None for the predicted class of each image.
        on: where shares of the images are explained; the results are the same.

    Raises:
        RunError: the run is not finished, has no networks of its own, or its files cannot be told apart.
        DataError: no such image or class.
    """
    folder = RunFolder(Path(path).resolve())
    recipe = _check_finished(folder)
    classes = CohortRecord.read(folder.path).classes
    columns = score_columns(classes)
    paths = [folder.path / name for name in (OUT_OF_FOLD, TEST)]
    tables = [read_table(path, "image", *columns) for path in paths if path.is_file()]
    scores = pd.concat(tables).groupby("image", sort=False)[columns].mean().set_axis(list(classes), axis=1)
    if shown is not None and shown not in classes:
        raise _name_missing("class", shown, classes)
    experiment = reopen(folder.path, on=on, listener=listener)
    chosen = choose_samples(experiment.cohort, images)
    from ...explain.explanation import ExplanationRequest, explain_images

    with log_stage(folder.path, "explain"):
        questions = []
        for sample in chosen:
            asked = int(scores.loc[sample.image].to_numpy().argmax()) if shown is None else classes.index(shown)
            given = None if sample.label is None else classes.index(sample.label)
            questions.append(ExplanationRequest(sample, asked, given))
        project = Project(experiment.cohort.root, locate_run(folder.path)[0], listener=listener, on=on)
        explain_ahead(project, experiment, questions)
        album = Album(classes)
        for done, explanation in enumerate(explain_images(experiment, questions, tell=listener.tell)):
            if isinstance(experiment.store, GivenStore):
                measured = write_tile_scores(folder.path, explanation, experiment.store, classes=classes)
            else:
                place = find_place(explanation, experiment.store)
                measured = write_heatmaps(folder.path, explanation, place, classes=classes)
            album.add(explanation, measured)
            listener.tell("heat maps", done + 1, len(questions))
        write_arrays(folder.path / ATTENTION, album.collect_values())
        if not isinstance(experiment.store, GivenStore):
            _write_sheet(folder.path / TILE_SHEET, album, experiment.store)
        if album.no_cams:
            listener.say(f"no Grad-CAM: {album.no_cams}")
        return album.summarise(recipe, scores, shown=shown or "predicted").write(folder.path)


def describe_explanation(path: Path) -> str:
    """What the numbers of an ``explanation.json`` mean, in one line."""
    from ...report import say_trust

    return say_trust(ExplanationRecord.read_file(path))


def _check_finished(folder: RunFolder) -> Recipe:
    """The recipe of a run that has networks and predictions."""
    if not folder.recipe_path.is_file():
        raise RunError(f"no run folder at {folder.path}", fix="give the path that 'smalti run' printed")
    recipe = folder.read_recipe()
    if recipe.ensemble.members:
        raise RunError(
            f"{folder.path.name} is an ensemble and has no networks of its own",
            fix=f"explain its members: {', '.join(recipe.ensemble.members)}",
        )
    if recipe.portfolio.members is not None:
        paths = (folder.path / MEMBER_RUNS).glob("*")
        members = sorted(str(path) for path in paths if Done.locate(path).is_file())
        raise RunError(
            f"{folder.path.name} is a portfolio, and its networks are those of its members",
            fix=f"explain one of {', '.join(members) or 'them, once they are finished'}",
        )
    path, wanted = folder.path / FOLDS, list[str]()
    if path.is_file():
        rows = read_table(path, "seed", "fold")[["seed", "fold"]].drop_duplicates()
        wanted = [f"fold{int(fold)}-seed{int(seed)}" for seed, fold in zip(rows["seed"], rows["fold"], strict=True)]
    missing = [name for name in wanted if not (folder.path / name_checkpoint(name)).is_file()]
    if missing or not wanted:
        raise RunError(
            f"{folder.path.name} is not trained: {len(missing)} of {len(wanted)} networks are missing in "
            f"{folder.checkpoints}",
            fix="repeat the 'smalti run' that made it; it goes on where it was",
        )
    if not (folder.path / OUT_OF_FOLD).is_file():
        raise RunError(f"{folder.path.name} has no predictions", fix=f"smalti predict {folder.path}")
    return recipe


def choose_samples(cohort: Cohort, images: int | Sequence[str] | None) -> tuple[Sample, ...]:
    """The labelled and unlabelled samples that were asked for, in their order.

    Raises:
        DataError: a name that the cohort does not have, no name, or a number below 1.
        RunError: two of them would share a file of heat maps.
    """
    known = cohort.labelled + cohort.unlabelled
    if images is None:
        chosen = known
    elif isinstance(images, int):
        if images < 1:
            raise DataError(f"{images} images cannot be explained", fix="ask for 1 or more, or name them")
        places = np.unique(np.linspace(0, len(known) - 1, min(images, len(known))).round().astype(int))
        chosen = tuple(known[i] for i in places)
    else:
        if not images:
            raise DataError("no image was named to explain", fix="name one or more, or ask for all")
        by_name = {s.image: s for s in known}
        for name in images:
            if name not in by_name:
                raise _name_missing("image", name, tuple(by_name))
        chosen = tuple(by_name[name] for name in dict.fromkeys(images))
    twice = [name for name, n in Counter(name_heatmap(s.image, HEATMAP) for s in chosen).items() if n > 1]
    if twice:
        raise RunError(
            f"images that differ in their suffix alone would share {twice[0]}",
            fix="name them with --images, one at a time",
        )
    return chosen


def _name_missing(what: str, name: str, known: Sequence[str]) -> DataError:
    near = difflib.get_close_matches(name, known, n=SHOWN, cutoff=0.4) or list(known[:SHOWN])
    return DataError(f"the run knows no {what} '{name}'", fix=f"one of {', '.join(near)}")


@dataclass
class Album:
    """What all explained images have in common: their measures, the values of their tiles, candidates for the sheet."""

    classes: tuple[str, ...]
    kind: str = ""
    no_cams: str = ""
    samples: list[Sample] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    measured: list[dict[str, Measured]] = field(default_factory=list)
    values: dict[str, list[NDArray[Any]]] = field(default_factory=dict)

    def add(self, explanation: Explanation, measured: dict[str, Measured]) -> None:
        """Take in one image."""
        self.kind, self.no_cams = explanation.kind, explanation.no_cams
        self.samples.append(explanation.question.sample)
        self.asked.append(explanation.question.shown)
        self.measured.append(measured)
        found = {
            "attention": explanation.attention.mean(axis=0), "values": explanation.values.mean(axis=0),
            "evidence": explanation.alone,
        }  # fmt: skip
        if explanation.by_class is not None:
            found["class_attention"] = explanation.by_class.T
        if explanation.cams is not None:
            found["gradcam"] = explanation.cams[0].mean(axis=(1, 2))
        for name, rows in found.items():
            self.values.setdefault(name, []).append(rows)

    def collect_values(self) -> dict[str, NDArray[Any]]:
        """Arrays with a row a tile, image after image; ``starts`` says where the images begin."""
        counts = [len(rows) for rows in self.values["attention"]]
        joined = {name: np.concatenate(rows) for name, rows in self.values.items()}
        about = {"images": np.array([s.image for s in self.samples]), "classes": np.array(self.classes)}
        return {**about, "starts": np.concatenate([[0], np.cumsum(counts)]), **joined}

    def summarise(self, recipe: Recipe, scores: pd.DataFrame, *, shown: str) -> ExplanationRecord:
        """Return everything that is measured, with the class that is ``shown``."""
        cases = [s.case for s in self.samples]
        resamples, confidence = recipe.evaluate.resamples, recipe.evaluate.confidence
        maps = {
            name: summarise_maps([m[name] for m in self.measured], cases, resamples=resamples, confidence=confidence)
            for name in self.measured[0]
        }
        return ExplanationRecord(
            shown=shown,
            kind=self.kind,
            no_gradcam=self.no_cams,
            classes=self.classes,
            n_images=len(self.samples),
            n_cases=len(set(cases)),
            resamples=resamples,
            confidence=confidence,
            grid=GRID.tolist(),
            maps=maps,
            images=tuple(self._tell_images(scores)),
        )

    def _tell_images(self, scores: pd.DataFrame) -> Iterator[LookedAt]:
        rows = zip(self.samples, self.asked, self.measured, self.values["attention"], strict=True)
        for sample, shown, measured, shares in rows:
            row = scores.loc[sample.image].to_numpy(dtype=np.float64)
            numbers = {
                name: MapNumbers(
                    deletion=m.deletion, insertion=m.insertion, inside=m.inside, area=m.area, agreement=m.agreement
                )
                for name, m in measured.items()
            }
            yield LookedAt(
                image=sample.image,
                case=sample.case,
                label=sample.label,
                predicted=self.classes[int(row.argmax())],
                shown=self.classes[shown],
                scores=dict(zip(self.classes, row.tolist(), strict=True)),
                tiles=len(shares),
                **numbers,
            )


def _write_sheet(path: Path, album: Album, store: TileStore) -> None:
    """For each class the tiles of its images that speak most and least for it, one a case; none without labels."""
    from ...report import SheetRow, TileCard, draw_sheet

    rows = []
    for number, name in enumerate(album.classes):
        for word, sign in (("most", -1), ("least", 1)):
            found: dict[str, tuple[float, int]] = {}
            for sample, values in zip(album.samples, album.values["evidence"], strict=True):
                if sample.label != name:
                    continue
                order = sign * values[:, number]
                best = (float(order.min()), store.rows(store.position(sample.image)).start + int(order.argmin()))
                found[sample.case] = min(best, found.get(sample.case, best))
            chosen = sorted((value, case, row) for case, (value, row) in found.items())[:SHEET_TILES]
            cards = [TileCard(store.read_rows(row, row + 1)[0], case, sign * value) for value, case, row in chosen]
            if cards:
                rows.append(SheetRow(f"{name}: tiles that speak {word} for it", cards))
    if rows:
        buffer = io.BytesIO()
        Image.fromarray(draw_sheet(rows)).save(buffer, format="PNG")
        write_atomic(path, buffer.getvalue())
