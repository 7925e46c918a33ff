"""The loop of pretraining: it goes on after a kill to the byte, and stops where embeddings collapse."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from ...models import Backbone
from ...recipe import Pretrain
from ...records import PretrainedEpoch
from ...registry import read_options
from ...samples import normalise_tiles
from ..checkpoints import read_checkpoint, write_checkpoint
from .objective import PRETRAININGS
from .views import TileViews

WATCHED = 256  # tiles whose embeddings are looked at after each epoch
# Share of what the embeddings were before: below it they say too little.
LEAST_SPREAD, LEAST_RANK = 0.3, 0.2
CHUNK = 32
Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A backbone after pretraining.

    Attributes:
        module: in eval mode; the one from before where it collapsed.
        history: epoch by epoch.
        collapsed: why it was stopped and undone; empty where it was not.
    """

    module: nn.Module
    history: tuple[PretrainedEpoch, ...]
    collapsed: str = ""


def pretrain(
    backbone: Backbone,
    views: TileViews,
    knobs: Pretrain,
    *,
    seed: tuple[int, ...],
    fabric: Fabric,
    progress: Path | None = None,
    tell: Tell | None = None,
) -> Pretrained:
    """Go on training a copy of a backbone on tiles without labels.

    Args:
        backbone: where it starts; stays as it is.
        views: the tiles that teach.
        knobs: method, epochs, rates.
        seed: of all that is drawn.
        fabric: device and number format.
        progress: file of the state after each epoch; taken up where it is there, removed at the end.
        tell: hears (epochs done, epochs).

    Raises:
        MissingExtraError: the method needs lightly, which is not installed.
        PartError: no such method, or its options.
    """
    if len(views) < 2:
        return Pretrained(backbone.module, (), "there are fewer than two tiles to learn from")
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    objective = PRETRAININGS.build(str(knobs.method), backbone.features, len(views), **read_options(knobs.options))
    learner = _Learner(nn.ModuleDict({"backbone": copy.deepcopy(backbone.module), "objective": objective}))
    for parameter in learner.parts.parameters():
        parameter.requires_grad_(True)
    steps = knobs.epochs * max(1, -(-len(views) // knobs.batch_tiles))
    optimiser = torch.optim.AdamW(
        [
            {"params": list(learner.parts["backbone"].parameters()), "lr": knobs.lr},
            {"params": list(objective.parameters()), "lr": knobs.lr * knobs.head_rate},
        ],
        weight_decay=knobs.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    forward, optimiser = fabric.setup(learner, optimiser)
    shown = normalise_tiles(
        torch.from_numpy(views.store.read_tiles(views.rows[:: max(1, len(views) // WATCHED)][:WATCHED])),
        spec=backbone.spec,
    )
    before = measure_spread(_embed(learner.parts["backbone"], shown, fabric))  # the copy, which is on the device
    history: list[PretrainedEpoch] = []
    if progress is not None and progress.is_file():
        state = read_checkpoint(progress)
        learner.load_state_dict(state["parts"])
        optimiser.load_state_dict(_number_keys(state["optimiser"]))
        schedule.load_state_dict(state["schedule"])
        history = [PretrainedEpoch(**row) for row in state["history"]]
    collapsed = ""
    for epoch in range(len(history), knobs.epochs):
        rng = np.random.default_rng([*seed, epoch])
        # What a loss draws, on whatever device, does not depend on how often the loop was interrupted.
        torch.manual_seed(int(np.random.SeedSequence([*seed, epoch]).generate_state(1)[0]))
        learner.train()
        losses = []
        for seen, part in views.draw(knobs, rng, views=objective.views):
            images = [normalise_tiles(torch.from_numpy(v).to(fabric.device), spec=backbone.spec) for v in seen]
            numbers = torch.from_numpy(part).to(fabric.device), torch.from_numpy(views.cases[part]).to(fabric.device)
            loss = forward(images, *numbers)
            optimiser.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(forward, optimiser, max_norm=1.0, error_if_nonfinite=False)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        spread, rank = measure_spread(_embed(learner.parts["backbone"], shown, fabric))
        history.append(PretrainedEpoch(epoch=epoch, loss=float(np.mean(losses)), spread=spread, rank=rank))
        if collapsed := find_collapse(history[-1], before):
            break
        if progress is not None:
            write_checkpoint(progress, {
                "parts": dict(learner.state_dict()), "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(), "history": [row.model_dump() for row in history],
            })  # fmt: skip
        if tell is not None:
            tell(epoch + 1, knobs.epochs)
    if progress is not None:
        progress.unlink(missing_ok=True)
    module = backbone.module if collapsed else learner.parts["backbone"].eval().requires_grad_(False)
    return Pretrained(module, tuple(history), collapsed)


class _Learner(nn.Module):
    """Backbone and objective as one module, for Fabric."""

    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, images: list[torch.Tensor], tiles: torch.Tensor, cases: torch.Tensor) -> torch.Tensor:
        # One pass for all views: batch normalisation then sees them together, as it will see tiles later.
        embedded = self.parts["backbone"](torch.cat(images)).chunk(len(images))
        value: torch.Tensor = self.parts["objective"](list(embedded), tiles, cases)
        return value


def measure_spread(embeddings: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far normalised embeddings (n, D) vary, 1 where they point anywhere, and their effective rank.

    The first is the standard deviation of a dimension times the root of D, which falls towards 0 in a collapse (Chen &
    He 2021). The rank is the exponential of the entropy of the singular values (Roy & Vetterli 2007). Of embeddings
    that are no numbers any more the first is NaN, and the rank 0.
    """
    if not np.isfinite(embeddings).all():
        return float("nan"), 0.0
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.maximum(norms, 1e-12)
    spread = float(unit.std(axis=0).mean() * math.sqrt(unit.shape[1]))
    values = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False)
    total = values.sum()
    if total <= 0:
        return spread, 0.0
    shares = values[values > 0] / total
    return spread, float(np.exp(-(shares * np.log(shares)).sum()))


def find_collapse(now: PretrainedEpoch, before: tuple[float, float]) -> str:
    """Return why an epoch is a collapse; empty where it is none. ``before`` is what `measure_spread` gave."""
    if now.loss is None or not math.isfinite(now.loss):
        return "the loss is no number any more"
    if now.spread is None or not math.isfinite(now.spread) or now.spread < LEAST_SPREAD * before[0]:
        return f"embeddings became alike: their spread is {now.spread or 0:.2f}, before {before[0]:.2f}"
    if now.rank is None or now.rank < LEAST_RANK * before[1]:
        return f"embeddings fell into few directions: their rank is {now.rank or 0:.1f}, before {before[1]:.1f}"
    return ""


def _embed(module: nn.Module, images: torch.Tensor, fabric: Fabric) -> NDArray[np.float64]:
    was = module.training
    module.eval()
    with torch.inference_mode():
        found = [module(part.to(fabric.device)).float().cpu() for part in images.split(CHUNK)]
    module.train(was)
    return torch.cat(found).double().numpy()


def _rate(step: int, steps: int) -> float:
    """Return the share of the full rate: a tenth of the steps up, then down along a cosine."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _number_keys(state: dict[str, object]) -> dict[str, object]:
    """Return the state of an optimiser with its parameters by number, which JSON has made texts."""
    inner = state["state"]
    assert isinstance(inner, dict)
    return {**state, "state": {int(key): value for key, value in inner.items()}}
