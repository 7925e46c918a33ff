"""Search for a policy of augmentation inside one fold, without training a network for each trial.

Both ways begin with the network that phase ``transfer`` leaves and see training and inner images alone, so that each
fold has a policy of its own and the outer images have no say.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import optuna
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ...models import BagReader
from ...registry import Registry
from ...samples import Chain, Move, Operation, Policy, Stage, draw_chain
from .probe import Probe, Progress, draw_operation

optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line for every trial would bury what smalti says

# Below these an operation does next to nothing, and doing nothing never harms the loss that is searched by.
LEAST_CHANCE, LEAST_AMOUNT = 0.2, 0.1
MOVES = 2  # of a chain: Lim et al. 2019
LEVELS = 3  # sizes of amounts in a population


class Search(Protocol):
    """From training and inner images, the operations to choose from and a seed, a policy."""

    def __call__(
        self,
        training: Probe,
        inner: Probe,
        operations: Mapping[str, Operation],
        seed: int,
        *,
        progress: Progress | None = None,
    ) -> Policy:
        """Search; ``progress`` is told (looks at the tiles, looks in all) after each look."""
        ...


SEARCHES: Registry[Search] = Registry("policy search")


@SEARCHES.register(
    "density",
    summary="chains that leave inner images where a network without augmentation expects them",
    reference="Lim et al. 2019",
)
def build_density(*, trials: int = 100, kept: int = 10) -> Search:
    """Density matching: ``trials`` chains of two moves by TPE, the ``kept`` ones of least inner loss, drawn evenly.

    The paper searches sub-policies five at a time and in folds of the training part; here one at a time, which gives
    each trial a loss of its own, and on the inner images, which the network has not learned from either.
    """

    def search(
        training: Probe,
        inner: Probe,
        operations: Mapping[str, Operation],
        seed: int,
        *,
        progress: Progress | None = None,
    ) -> Policy:
        plain = inner.measure(inner.look())
        found: list[tuple[float, tuple[Move, ...]]] = []

        def score(trial: optuna.Trial) -> float:
            moves = tuple(_suggest_move(trial, k, tuple(operations)) for k in range(MOVES))
            loss = inner.measure(inner.look(partial(draw_chain, moves)))
            found.append((loss, moves))
            if progress is not None:
                progress(len(found), trials)
            return loss

        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=False))
        study.optimize(score, n_trials=trials)
        best = _take_distinct(sorted(found, key=lambda pair: pair[0]), count=kept)
        about = {
            "by": "density", "trials": trials, "inner_loss_plain": round(plain, 4),
            "inner_loss_kept": [round(loss, 4) for loss, _ in best],
        }  # fmt: skip
        return Policy((Stage(0.0, tuple(Chain(1.0, moves) for _, moves in best)),), found=about)

    return search


def _suggest_move(trial: optuna.Trial, number: int, names: tuple[str, ...]) -> Move:
    return Move(
        str(trial.suggest_categorical(f"operation{number}", names)),
        trial.suggest_float(f"chance{number}", LEAST_CHANCE, 1.0),
        trial.suggest_float(f"amount{number}", LEAST_AMOUNT, 1.0),
    )


def _take_distinct(ranked: list[tuple[float, tuple[Move, ...]]], *, count: int) -> list[tuple[float, tuple[Move, ...]]]:
    """The first ``count`` that differ in their operations: a search comes back to what it likes."""
    taken: dict[tuple[str, ...], tuple[float, tuple[Move, ...]]] = {}
    for loss, moves in ranked:
        taken.setdefault(tuple(move.operation for move in moves), (loss, moves))
    return list(taken.values())[:count]


@dataclass
class Member:
    """One head of a population.

    Attributes:
        reader: what learns.
        odds: (operations,) how often each is drawn, beside 1 for nothing at all.
        levels: (operations,) which amount, 1 to `LEVELS`.
        stages: odds and levels of every stage so far, its own or of whom it copied.
        loss: on the inner images after the last stage.
    """

    reader: BagReader
    odds: NDArray[np.float64]
    levels: NDArray[np.int64]
    stages: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = field(default_factory=list)
    loss: float = float("inf")


@SEARCHES.register(
    "population",
    summary="a schedule: heads learn side by side, the worse copy the better and vary their operations",
    reference="Ho et al. 2019",
)
def build_population(*, members: int = 16, stages: int = 6, passes: int = 4, rate: float = 1e-3) -> Search:
    """Population-based augmentation over stages of the phase, on features of the frozen backbone.

    Every operation is embedded once at three amounts; then ``members`` heads learn ``passes`` times over the training
    images in each stage, at ``rate``. Between stages the last quarter copies head and policy of the first and varies
    the policy. What is found is the line of the head that ends best.
    """

    def search(
        training: Probe,
        inner: Probe,
        operations: Mapping[str, Operation],
        seed: int,
        *,
        progress: Progress | None = None,
    ) -> Policy:
        population = Population(training, inner, operations, seed, rate, progress=progress)
        crowd = population.draw(members)
        start = crowd[0].loss
        for stage in range(stages):
            crowd = population.renew(crowd) if stage else crowd
            for member in crowd:
                population.learn(member, passes)
        best = min(crowd, key=lambda member: member.loss)
        lines = [Stage(k / stages, population.describe(*line)) for k, line in enumerate(best.stages)]
        about = {
            "by": "population", "members": members, "stages": stages,
            "inner_loss_start": round(start, 4), "inner_loss_end": round(best.loss, 4),
        }  # fmt: skip
        return Policy(tuple(lines), found=about)

    return search


class Population:
    """Heads that learn on the same stored features, each by its own policy."""

    def __init__(
        self,
        training: Probe,
        inner: Probe,
        operations: Mapping[str, Operation],
        seed: int,
        rate: float,
        *,
        progress: Progress | None = None,
    ) -> None:
        self.training, self.inner, self.names, self.rate = training, inner, tuple(operations), rate
        self.rng = np.random.default_rng(seed)
        # (1 + operations * levels, n, tiles, D): the tiles as they are, then every operation at every level.
        # This is what takes the time of a search; heads learn in seconds.
        looks = [(operation, k / LEVELS) for operation in operations.values() for k in range(1, LEVELS + 1)]
        bank = [training.embed()]
        for operation, amount in looks:
            bank.append(training.embed(partial(draw_operation, operation, amount)))
            if progress is not None:
                progress(len(bank) - 1, len(looks))
        self.bank = torch.stack(bank)
        self.seen = inner.embed()
        self.targets = training.batch.targets.to(self.bank.device)
        self.weights = training.weights.float().to(self.bank.device)

    def draw(self, count: int) -> list[Member]:
        """Heads as phase ``transfer`` left them, with policies drawn at random, from mild to wild."""
        size = len(self.names)
        crowd = []
        for _ in range(count):
            odds = self.rng.random(size) * self.rng.choice([0.0, 0.1, 0.5, 1.0])
            reader = copy.deepcopy(self.training.network.reader)
            crowd.append(Member(reader, odds, self.rng.integers(1, LEVELS + 1, size)))
            crowd[-1].loss = self._score(crowd[-1])
        return crowd

    def learn(self, member: Member, passes: int) -> None:
        """Some steps over all training images, each tile by what the member's policy draws for it; then its score."""
        optimiser = torch.optim.AdamW([p for p in member.reader.parameters() if p.requires_grad], lr=self.rate)
        images, tiles = self.training.batch.rows.shape
        member.reader.train()
        torch.manual_seed(int(self.rng.integers(2**31)))  # dropout of the head
        for _ in range(passes):
            chosen = torch.from_numpy(self._choose(member, (images, tiles)))
            features = self.bank[chosen, torch.arange(images)[:, None], torch.arange(tiles)]
            logits, extra = member.reader(
                features, positions=self.training.places, targets=self.targets, guide=self.training.guide
            )
            losses = F.cross_entropy(logits.float(), self.targets, reduction="none")
            loss = (losses * self.weights).sum() / self.weights.sum()
            optimiser.zero_grad()
            (loss if extra is None else loss + extra).backward()
            optimiser.step()
        member.stages.append((member.odds, member.levels))
        member.loss = self._score(member)

    def _choose(self, member: Member, shape: tuple[int, int]) -> NDArray[np.int64]:
        """(n, tiles) places in the bank."""
        odds = np.concatenate([[1.0], member.odds])
        drawn = self.rng.choice(len(odds), shape, p=odds / odds.sum())
        levels = np.concatenate([[1], member.levels])
        return np.where(drawn == 0, 0, 1 + (drawn - 1) * LEVELS + levels[drawn] - 1)

    def _score(self, member: Member) -> float:
        member.reader.eval()
        with torch.inference_mode():
            logits = member.reader(self.seen, positions=self.inner.places, guide=self.inner.guide)[0]
        return self.inner.measure(logits.float().cpu())

    def renew(self, crowd: list[Member]) -> list[Member]:
        """The last quarter copies the first and varies its policy."""
        ranked = sorted(crowd, key=lambda member: member.loss)
        quarter = max(1, len(ranked) // 4) if len(ranked) > 1 else 0
        copies = [self._vary(copy.deepcopy(member)) for member in ranked[:quarter]]
        return ranked[: len(ranked) - quarter] + copies

    def _vary(self, member: Member) -> Member:
        """Each operation drawn anew once in five times; else its odds times or over 1.5, and perhaps a level more or
        less."""
        size = len(self.names)
        anew = self.rng.random(size) < 0.2
        odds = np.where(anew, self.rng.random(size), member.odds * self.rng.choice([1 / 1.5, 1.5], size))
        levels = np.where(
            anew, self.rng.integers(1, LEVELS + 1, size), member.levels + self.rng.choice([-1, 0, 1], size)
        )
        member.odds, member.levels = np.clip(odds, 0, 1), np.clip(levels, 1, LEVELS)
        return member

    def describe(self, odds: NDArray[np.float64], levels: NDArray[np.int64]) -> tuple[Chain, ...]:
        """Chains of one move, and one of none."""
        drawn = [
            Chain(float(odd), (Move(name, 1.0, float(level / LEVELS)),))
            for name, odd, level in zip(self.names, odds, levels, strict=True)
            if odd > 0
        ]
        return (Chain(1.0, ()), *drawn)
