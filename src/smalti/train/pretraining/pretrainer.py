"""Pretraining of every fold: from the cases that the fold does not hold out, kept where its inner cases say so."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from scipy.special import softmax

from ...models import POOLERS, Backbone, Pooler, hash_weights
from ...recipe import PLAIN_POOLERS, Pretrain, Settled
from ...records import PretrainedEpoch, PretrainedFold, look_at_machine
from ...registry import read_options
from ...samples import StainMaps
from ...store import hash_code, hash_text
from ...tile import TileStore
from ...types import Cohort, Sample, Split
from ..checkpoints import read_checkpoint, write_checkpoint
from ..gate import Inner, Turn, hold_out, judge, open_inner
from ..halving import Embedder, batch_tiles
from ..heads import HEADS, solve_head
from ..pseudo.eligible import list_candidates, tell_apart
from .unlabelled_loop import Pretrained, pretrain
from .views import TileViews

PROBE = "logistic"  # the head by which encoders are compared
WEIGHTS = "weights.safetensors"
Tell = Callable[[str, int, int], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pretrainer:
    """All that the folds of a run share while they pretrain.

    Attributes:
        cache: folder of pretrained weights, shared by runs, seeds and members that learn from the same tiles.
        unfit: unlabelled image -> code of the finding for which it may not teach.
        tell: hears (name, done, total) of every epoch.
    """

    recipe: Settled
    cohort: Cohort
    store: TileStore
    backbone: Backbone
    fabric: Fabric
    cache: Path
    unfit: Mapping[str, str]
    tell: Tell | None = None

    @property
    def knobs(self) -> Pretrain:
        """Return the section of the recipe."""
        return self.recipe.train.pretrain

    def pretrain_fold(
        self, split: Split, stains: StainMaps, standing: PretrainedFold | None = None
    ) -> tuple[Backbone, PretrainedFold]:
        """Return the backbone that a fold goes on with, and the record; a verdict that is ``standing`` is followed.

        Raises:
            SplitError: an outer case would teach or choose.
            MissingExtraError: the method needs lightly.
        """
        gate, knobs = self.recipe.train.gate, self.knobs
        by_site = self.recipe.split.group == "site"
        inner = open_inner(self.cohort, split, repeats=gate.repeats, most_turns=knobs.turns, by_site=by_site)
        labelled = [self.cohort.labelled[i] for i in inner.images]
        images = [s.image for s in labelled]
        # Unlabelled images of what is held out teach nothing, in the fold as in each turn.
        further = list_candidates(self.cohort, split, unfit=self.unfit).samples if knobs.transductive else ()
        teachers = [*images, *(s.image for s in further)]
        if standing is not None:
            module = self._teach(teachers, stains, split.name).module if standing.verdict.kept else self.backbone.module
            return replace(self.backbone, module=module), standing

        def learn(turn: Turn) -> Floats:
            learned, held = ([labelled[i] for i in part] for part in (turn.learned, turn.held))
            mine = [s.image for s in (*learned, *_keep_apart(further, learned, held))]
            taught = self._teach(mine, stains, split.name)
            return probe(self._embed(replace(self.backbone, module=taught.module), images, stains), inner, turn)

        whole = self._teach(teachers, stains, split.name)
        before = after = None
        if not whole.collapsed and inner.turns:  # a collapse is undone, whatever inner cases would say
            plain = self._embed(self.backbone, images, stains)
            before, after = hold_out(inner, lambda turn: probe(plain, inner, turn)), hold_out(inner, learn)
        tiles = len(self._collect(teachers, stains))
        about = f"{tiles} tiles" + (f", {len(further)} unlabelled images among what taught" if further else "")
        verdict = judge(inner, before, after, part=f"pretraining by {knobs.method}", gate=gate, about=about)
        if whole.collapsed:
            verdict = verdict.model_copy(update={"kept": False, "reason": f"undone: {whole.collapsed}"})
        record = PretrainedFold(
            seed=split.seed, fold=split.fold, method=str(knobs.method), tiles=tiles, further=len(further),
            verdict=verdict, collapsed=whole.collapsed, history=whole.history,
        )  # fmt: skip
        module = whole.module if verdict.kept else self.backbone.module
        return replace(self.backbone, module=module), record

    def _collect(self, images: Sequence[str], stains: StainMaps) -> TileViews:
        cases = {s.image: s.case for s in self.cohort.samples}
        bags = [self.store.position(image) for image in images]
        return TileViews.collect(
            self.store, bags, [cases[image] for image in images], stains=stains, most=self.knobs.tiles_per_image
        )

    def _teach(self, images: Sequence[str], stains: StainMaps, name: str) -> Pretrained:
        """Pretrain on some images, from the cache where that was done."""
        teachers = sorted(images)
        cases = {s.image: s.case for s in self.cohort.samples}
        knobs = self.knobs.model_dump_json(exclude={"turns", "transductive"})
        computed = f"{self.fabric.device.type} {self.fabric._precision.precision} {torch.__version__}"
        asked = hash_text(*(f"{image}|{cases[image]}" for image in teachers), knobs)
        key = hash_text(
            asked, self.store.key, stains.key, computed, self.backbone.name, str(self.backbone.spec),
            hash_weights(self.backbone.module), look_at_machine().libraries["lightly"],
            hash_code("smalti.train.pretraining"),  # it imports all methods
        )  # fmt: skip
        place = self.cache / "pretrained" / f"{key}.{WEIGHTS}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_file():
            content = read_checkpoint(place)
            history = tuple(PretrainedEpoch(**row) for row in content["history"])
            if content["collapsed"]:
                return Pretrained(self.backbone.module, history, str(content["collapsed"]))
            module = copy.deepcopy(self.backbone.module)
            module.load_state_dict(content["weights"])
            return Pretrained(module.eval(), history)
        seed = tuple(int(asked[i : i + 8], 16) for i in (0, 8, 16))  # of what teaches, so that seeds share it
        found = pretrain(
            self.backbone, self._collect(teachers, stains), self.knobs, seed=seed, fabric=self.fabric,
            progress=place.with_name(f"{key}.progress"),
            tell=None if self.tell is None else partial(self.tell, f"{name} pretrain"),
        )  # fmt: skip
        weights = {} if found.collapsed else dict(found.module.state_dict())
        history_rows = [row.model_dump() for row in found.history]
        write_checkpoint(place, {"weights": weights, "history": history_rows, "collapsed": found.collapsed})
        return found

    def _embed(self, backbone: Backbone, images: Sequence[str], stains: StainMaps) -> Floats:
        """Return the pooled embeddings of images (n, D'); a pooler that learns is replaced by the mean."""
        model = self.recipe.model
        name, options = (model.pooler, model.pooler_options) if model.pooler in PLAIN_POOLERS else ("mean", ())
        pooler: Pooler = POOLERS.build(name, backbone.features, len(self.cohort.classes), **read_options(options))
        module = self.fabric.setup_module(backbone.module).eval()
        embedder, pooled = Embedder(module, backbone.spec, device=self.fabric.device), []
        step = batch_tiles(self.fabric.device)
        for image in images:
            rows = self.store.rows(self.store.position(image))
            parts = []
            for start in range(rows.start, rows.stop, step):
                stop = min(start + step, rows.stop)
                parts.append(embedder.embed(stains.restain(self.store.read_rows(start, stop), start)))
            with torch.inference_mode():
                pooled.append(pooler(torch.from_numpy(np.concatenate(parts))[None]).embedding[0])
        return torch.stack(pooled).double().numpy()


def _keep_apart(further: Sequence[Sample], learned: Sequence[Sample], held: Sequence[Sample]) -> list[Sample]:
    """Return the unlabelled images that are of no case, and of no site as a whole, that a turn holds out."""
    cases, sites = (np.array([getattr(s, what) for s in further], dtype=str) for what in ("case", "site"))
    gone = np.array([s.case for s in held]), np.array([s.site for s in held])
    may = tell_apart(cases, sites, gone, np.array([s.site for s in learned]))
    return [s for s, kept in zip(further, may, strict=True) if kept]


def probe(points: Floats, inner: Inner, turn: Turn) -> Floats:
    """Return probabilities (m, C) of the images that a turn holds out, by a head solved on the others."""
    x, y = points[turn.learned], inner.targets[turn.learned]
    middle, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    counts = np.bincount(y, minlength=len(inner.classes))
    weights = (len(y) / (np.maximum(counts, 1) * np.count_nonzero(counts)))[y]
    present, targets = np.unique(y, return_inverse=True)
    solved = solve_head(
        HEADS.build(PROBE), ((x - middle) / scale)[None], targets.ravel(), weights,
        cases=np.unique(inner.cases[turn.learned], return_inverse=True)[1].ravel(), seed=turn.seed,
    )  # fmt: skip
    logits = np.full((len(turn.held), len(inner.classes)), -np.inf)
    logits[:, present] = solved.head((points[turn.held] - middle) / scale)
    return np.asarray(softmax(logits, axis=1))
