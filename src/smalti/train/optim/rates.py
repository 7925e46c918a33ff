"""A learning rate for an optimiser, from a short test on the training images of a fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import numpy as np
import torch

from ..tasks import Forward, Task
from .averaging import copy_weights

# Of the head; sign-based optimisers learn near the one, plain gradient descent near the other.
LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 48
MOST_RISE = 4.0  # times the least loss: where the test has gone off the rails
BELOW_LEAST = 10.0  # Smith 2017 trains well below the rate at which the loss is least

Step = Callable[[list[tuple[Forward, torch.Tensor]]], float]


def find_rate(
    task: Task,
    optimiser: torch.optim.Optimizer,
    *,
    scales: list[float],
    step: Step,
    rng: np.random.Generator,
) -> float:
    """The head's rate that a learning-rate range test proposes (Smith 2017); the weights are left as they were.

    The rate rises from step to step by the same factor; proposed is a tenth of the rate at which the smoothed loss of
    training batches was least. Nothing is looked at but the training images.

    Args:
        scales: rate of each parameter group relative to the head's.
        step: one step of the optimiser on some batches, as training makes it; their mean loss.
    """
    before = copy_weights(task.module)
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)
    smooth = least = None
    best = float(rates[0])
    for i, (batch, rate) in enumerate(zip(_repeat_batches(task, rng), rates, strict=False)):
        for group, scale in zip(optimiser.param_groups, scales, strict=True):
            group["lr"] = float(rate) * scale
        value = step([batch])
        smooth = value if smooth is None else 0.8 * smooth + 0.2 * value
        if not np.isfinite(value) or (least is not None and smooth > MOST_RISE * least):
            break
        # The first steps have not learned yet: their luck with an easy batch is no evidence.
        if i >= STEPS // 8 and (least is None or smooth < least):
            least, best = smooth, float(rate)
    task.module.load_state_dict(before)
    return best / BELOW_LEAST


def _repeat_batches(task: Task, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
    """Passes over the training images without end."""
    return chain.from_iterable(task.draw_batches(rng) for _ in repeat(None))
