"""Explain trained networks: attribution of each tile, Grad-CAM, and whether the score follows them.

A labelled image is explained by the networks that never saw its case, one a seed, an unlabelled image by those of all
folds. What one pass finds about an image is a file of its own, so that an interrupted command goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import BagReader, UpperPart, cut_backbone
from ..recipe import NO_PIXELS
from ..records.layout import EXPLAINED
from ..samples import iterate_ahead, normalise_tiles
from ..store import hash_code, hash_text, read_arrays, write_arrays
from ..tile import GivenStore
from ..train import Experiment, MaskFeatureSource, load_network, read_chunks
from ..types import Sample, Split
from .attribution import TileBag, choose_kind, find_cams, find_gradients, read_tiles
from .deletion import draw_curves

Tell = Callable[[str, int, int], None]
Arrays = dict[str, NDArray[np.generic]]
EACH = ("networks", "logits", "attention", "values", "cam_values", "deletion", "insertion", "random")  # of each network
GRADIENT_BYTES = 500_000_000  # of networks that explain an image in one pass over its tiles
MEANS = ("alone", "by_class", "cams")  # over networks


@dataclass(frozen=True, slots=True)
class ExplanationRequest:
    """An image to explain.

    Attributes:
        shown: class index that is explained: the predicted one, or the one asked for.
        given: class index of the label; None for an unlabelled image.
    """

    sample: Sample
    shown: int
    given: int | None

    @property
    def classes(self) -> tuple[int, ...]:
        """Return classes that Grad-CAM is computed for: the shown one, and the given one where it differs."""
        return (self.shown,) if self.given in (None, self.shown) else (self.shown, int(self.given or 0))


@dataclass(frozen=True, slots=True)
class Explanation:
    """What S networks say about an image of N tiles.

    Attributes:
        kind: what ``values`` are, see `choose_kind`.
        networks: names of the folds and seeds.
        logits: (S, C) of the image.
        attention: (S, N) share of each tile.
        values: (S, N) the map of the shown class.
        alone: (N, C) centred logits of each tile alone, mean over networks.
        by_class: (C, N) share of each tile for each class, mean over networks; None where the pooler has none.
        cams: (K, N, h, w) Grad-CAM for each class of the question, mean over networks; None where there is none.
        cam_values: (S, N) mean of the Grad-CAM of the shown class over each tile; None where there is none.
        kept: (P,) number of tiles at each point of the curves.
        deletion, insertion: (S, M, P) see `Curves`; maps are ``values`` and, where there is one, Grad-CAM.
        random: (S, P).
        no_cams: why there is no Grad-CAM; empty where there is.
    """

    question: ExplanationRequest
    kind: str
    networks: tuple[str, ...]
    logits: NDArray[np.float32]
    attention: NDArray[np.float32]
    values: NDArray[np.float32]
    alone: NDArray[np.float32]
    by_class: NDArray[np.float32] | None
    cams: NDArray[np.float32] | None
    cam_values: NDArray[np.float32] | None
    kept: NDArray[np.int64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random: NDArray[np.float64]
    no_cams: str


def explain_images(
    experiment: Experiment, questions: Sequence[ExplanationRequest], *, tell: Tell | None = None
) -> Iterator[Explanation]:
    """Find all explanations, then yield them in the order of the questions, read one by one.

    The images must be of the cohort, and the folds trained.
    """
    key = hash_text(hash_code("smalti.explain.explanation"), experiment.store.key)
    folder = experiment.run.path / EXPLAINED / key
    groups: dict[object, list[Split]] = {}
    for split in experiment.splits:
        # Networks that share a backbone and the stain of the tiles share frozen features.
        frozen = not experiment.recipe.own_backbones
        groups.setdefault(experiment.frozen[split.name].features.files if frozen else split.name, []).append(split)
    paths: list[list[Path]] = [[] for _ in questions]
    for done, group in enumerate(groups.values()):
        explainer: Explainer | None = None
        for number, question in enumerate(questions):
            if choose_networks(experiment, group, question):
                path = folder / group[0].name / f"{experiment.store.position(question.sample.image):06d}.npz"
                paths[number].append(path)
                # Another class may have been asked for before.
                if not path.is_file() or tuple(read_arrays(path, ["classes"])["classes"]) != question.classes:
                    explainer = explainer or Explainer(experiment, group)
                    write_arrays(path, explainer.explain(question))
            if tell is not None:
                tell("explain", done * len(questions) + number + 1, len(groups) * len(questions))
    for question, files in zip(questions, paths, strict=True):  # of all groups of networks
        parts = [read_arrays(path) for path in files]
        counts = np.array([len(part["networks"]) for part in parts], dtype=np.float64)
        found: dict[str, Any] = dict.fromkeys((*EACH, *MEANS))
        for name in parts[0].keys() & set(EACH):
            found[name] = np.concatenate([part[name] for part in parts])
        for name in parts[0].keys() & set(MEANS):
            values = np.stack([part[name] for part in parts])
            found[name] = np.average(values, axis=0, weights=counts).astype(np.float32)
        found["networks"] = tuple(found["networks"].tolist())
        kind, reason = str(parts[0]["kind"]), str(parts[0]["no_cams"])
        yield Explanation(question, kind, kept=parts[0]["kept"], no_cams=reason, **found)


def choose_networks(experiment: Experiment, splits: Sequence[Split], question: ExplanationRequest) -> list[str]:
    """Return the names of the folds that may explain an image: those that held it out; all if it has no label."""
    if question.given is None:
        return [split.name for split in splits]
    labelled = [s.image for s in experiment.cohort.labelled]
    index = labelled.index(question.sample.image)
    return [split.name for split in splits if index in split.outer]


class Explainer:
    """Networks of some folds that share one backbone and see tiles in the same stain."""

    def __init__(self, experiment: Experiment, splits: Sequence[Split]) -> None:
        self.experiment = experiment
        networks = [load_network(experiment, split) for split in splits]
        self.readers: dict[str, BagReader] = {s.name: n.reader for s, n in zip(splits, networks, strict=True)}
        self.splits = splits
        self.backbone = networks[0].backbone
        self.takes_mask = networks[0].takes_mask
        self._guides = MaskFeatureSource.open(experiment.store, networks[0].reader)
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(False)
        self._reason = ""  # why there is no Grad-CAM
        self._part: UpperPart | None = None

    def explain(self, question: ExplanationRequest) -> Arrays:
        """Return the arrays of an `Explanation` by the networks of these folds that may explain the image."""
        # Embeddings of the tiles: the stored ones if the backbone is frozen, else computed now.
        experiment = self.experiment
        position = experiment.store.position(question.sample.image)
        device = experiment.fabric.device
        frozen = experiment.frozen.get(self.splits[0].name)
        if frozen is not None and experiment.recipe.train.finetune.epochs == 0:
            features = torch.from_numpy(frozen.features.read_bag(position))
        else:
            with torch.no_grad():
                features = torch.cat([self.backbone(tiles).float() for tiles in self._iterate_tiles(position)])
        places = torch.from_numpy(experiment.store.find_places(position))
        guide = self._guides.read_views(position, views=1)
        guide = None if guide is None else guide.to(device)
        bag = TileBag(features.to(device), places.to(device), guide)
        names = choose_networks(self.experiment, self.splits, question)
        readers = [self.readers[name] for name in names]
        readings = [read_tiles(reader, bag) for reader in readers]
        kind = choose_kind(readers[0], readings[0])
        maps = [r.take_map(kind, question.shown).cpu().numpy()[None] for r in readings]
        found: Arrays = {
            "classes": np.array(question.classes), "kind": np.array(kind), "networks": np.array(names),
            "logits": torch.stack([r.logits for r in readings]).cpu().numpy(),
            "attention": torch.stack([r.attention for r in readings]).cpu().numpy(),
            "alone": torch.stack([r.alone for r in readings]).mean(dim=0).cpu().numpy(),
        }  # fmt: skip
        by_class = [r.by_class for r in readings if r.by_class is not None]
        if by_class:
            found["by_class"] = torch.stack(by_class).mean(dim=0).cpu().numpy()
        cams = self._find_cams(question, readers, bag)
        found["no_cams"] = np.array(self._reason)
        if cams is not None:
            found["cams"] = cams.mean(axis=0)
            found["cam_values"] = cams[:, 0].mean(axis=(2, 3))
            maps = [np.concatenate([m, c[None]]) for m, c in zip(maps, found["cam_values"], strict=True)]
        curves = [draw_curves(r, bag, m, shown=question.shown) for r, m in zip(readers, maps, strict=True)]
        found |= {"values": np.stack([m[0] for m in maps]), "kept": curves[0].kept}
        found |= {name: np.stack([getattr(c, name) for c in curves]) for name in ("deletion", "insertion", "random")}
        return found

    def _iterate_tiles(self, position: int) -> Iterator[torch.Tensor]:
        """Yield normalised chunks of the tiles of one image, as the network gets them for prediction."""
        store, spec = self.experiment.store, self.experiment.backbone.spec
        stains = self.experiment.stains.get(self.splits[0].name)
        chunks = read_chunks(store, np.array([position]), 1, masked=self.takes_mask, stains=stains)
        for _, _, tiles in iterate_ahead(chunks):
            yield normalise_tiles(tiles.to(self.experiment.fabric.device), spec=spec)

    def _find_cams(
        self, question: ExplanationRequest, readers: Sequence[BagReader], bag: TileBag
    ) -> NDArray[np.float32] | None:
        """Return Grad-CAM (S, K, N, h, w) of S readers, or None if the backbone has no maps."""
        if isinstance(self.experiment.store, GivenStore):
            self._reason = NO_PIXELS
            return None
        together = max(1, GRADIENT_BYTES // (len(question.classes) * bag.features.nbytes))
        position = self.experiment.store.position(question.sample.image)
        found: list[torch.Tensor] = []
        for first in range(0, len(readers), together):
            wanted = [find_gradients(reader, bag, question.classes) for reader in readers[first : first + together]]
            chunks: list[torch.Tensor] = []
            start = 0
            for tiles in self._iterate_tiles(position):
                if self._part is None and not self._reason:
                    self._part, self._reason = cut_backbone(self.backbone, tiles[:1])
                if self._part is None:
                    return None
                seen = [find_cams(self._part, tiles, g[:, start : start + len(tiles)]).float().cpu() for g in wanted]
                chunks.append(torch.stack(seen))
                start += len(tiles)
            found.append(torch.cat(chunks, dim=2))
        return torch.cat(found).numpy()
