"""A learned policy of augmentation: chains of operations, when each holds, and what it was learned on.

A policy is a plain YAML file that can be read, edited, shared and used again (``augmentation=policy``). It names the
images that chose it by the hashes of their files, since they must not score what was learned with it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from ..errors import PartError, RecipeError
from ..notation import read_yaml
from ..store import write_atomic
from .augment import AUGMENTATIONS, Edit, Transform, draw_flips
from .automated import Step, run_steps
from .operations import GENERAL, TISSUE

OPERATIONS = {**GENERAL, **TISSUE}


class Move(NamedTuple):
    """One operation of a chain, with its chance and the size of its amount, both 0 to 1; its sign is a coin's."""

    operation: str
    chance: float
    amount: float


class Chain(NamedTuple):
    """Moves one after the other; ``weight`` is how often the chain is drawn beside the others of its stage."""

    weight: float
    moves: tuple[Move, ...]


class Stage(NamedTuple):
    """Chains that hold from a share of the phase on, 0 to 1."""

    start: float
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """An augmentation: flips and quarter turns, then for each tile one chain of the stage that holds.

    Its strength is what was learned; the strength of the phase has no effect.

    Attributes:
        stages: in the order of their starts, the first at 0.
        found: how it was learned, for people.
        seen: hashes of the files of the images that chose it.
        share: how much of the phase is over.
    """

    stages: tuple[Stage, ...]
    found: dict[str, object] = field(default_factory=dict)
    seen: Collection[str] = ()
    share: float = 0.0

    def at(self, share: float) -> Policy:
        """Return the same policy at another moment of the phase, 0 its first epoch and 1 its last."""
        return replace(self, share=share)

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Return the chains of the present stage."""
        return [stage for stage in self.stages if stage.start <= self.share + 1e-9][-1].chains

    def __call__(self, images: int, tiles: int, strength: float, rng: np.random.Generator) -> Transform:
        """Draw what happens to B images of N tiles."""
        transform = draw_flips(images, tiles, strength, rng)
        chains = self.chains
        weights = np.array([chain.weight for chain in chains])
        drawn = rng.choice(len(chains), (images, tiles), p=weights / weights.sum())
        edits = tuple(tuple(draw_chain(chains[k].moves, rng) for k in row) for row in drawn.tolist())
        return replace(transform, edits=edits)


def draw_chain(moves: Sequence[Move], rng: np.random.Generator) -> Edit:
    """Draw what a chain does to a tile."""
    steps: list[Step] = []
    for move in moves:
        happens, sign, seed = rng.random() < move.chance, float(rng.choice([-1.0, 1.0])), int(rng.integers(2**32))
        if happens:
            steps.append((OPERATIONS[move.operation], move.amount * sign, seed))
    return partial(run_steps, steps)


def describe_policy(policy: Policy) -> dict[str, object]:
    """Return the content of its file."""
    stages = [
        {
            "start": round(stage.start, 4),
            "chains": [
                {
                    "weight": round(chain.weight, 4),
                    "moves": [
                        {"operation": m.operation, "chance": round(m.chance, 4), "amount": round(m.amount, 4)}
                        for m in chain.moves
                    ],
                }
                for chain in stage.chains
            ],
        }
        for stage in policy.stages
    ]
    return {"found": dict(policy.found), "stages": stages, "seen": sorted(policy.seen)}


def parse_policy(content: Any, *, where: str) -> Policy:
    """Return a policy from the content of its file.

    Raises:
        PartError: what is wrong with it, all at once.
    """
    try:
        stages = tuple(
            Stage(
                float(stage["start"]),
                tuple(
                    Chain(
                        float(chain["weight"]),
                        tuple(
                            Move(str(m["operation"]), float(m["chance"]), float(m["amount"])) for m in chain["moves"]
                        ),
                    )
                    for chain in stage["chains"]
                ),
            )
            for stage in content["stages"]
        )
        policy = Policy(stages, dict(content.get("found") or {}), frozenset(map(str, content.get("seen") or ())))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        kind = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise PartError(f"policy {where} is not one: {kind}", fix="start from a file that a run wrote") from None
    starts = [stage.start for stage in policy.stages]
    chains = [chain for stage in policy.stages for chain in stage.chains]
    moves = [move for chain in chains for move in chain.moves]
    unknown = sorted({m.operation for m in moves} - set(OPERATIONS))
    problems = []
    if not starts or starts[0] != 0 or any(not b > a for a, b in pairwise(starts)):
        problems.append("its stages must start at 0 and then later and later")
    if not all(any(chain.weight > 0 for chain in stage.chains) for stage in policy.stages):
        problems.append("a stage has no chain with a weight above 0")
    if any(not 0 <= chain.weight < math.inf for chain in chains):
        problems.append("weights must be 0 or more, and finite")
    if unknown:
        problems.append(f"no operation is called {', '.join(unknown)} (known: {', '.join(OPERATIONS)})")
    if any(not 0 <= value <= 1 for move in moves for value in move[1:]):
        problems.append("chances and amounts must be from 0 to 1")
    if problems:
        raise PartError(f"policy {where}: {'; '.join(problems)}", fix="correct the file")
    return policy


def write_policy(path: Path, policy: Policy) -> None:
    """Write a policy as YAML, atomically."""
    text = yaml.safe_dump(describe_policy(policy), sort_keys=False, default_flow_style=None, width=120)
    write_atomic(path, text.encode())


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        PartError: the file is missing or is no policy; all problems at once.
    """
    try:
        content = read_yaml(path, kind="policy", fix="name a policy file that a run wrote")
    except RecipeError as error:
        raise PartError(f"policy {path} cannot be read: {error}") from None
    return parse_policy(content, where=str(path))


@AUGMENTATIONS.register("policy", summary="flips; each tile one chain of a policy file, for example a learned one")
def build_policy(*, file: str) -> Policy:
    """The policy in ``file``."""
    return read_policy(Path(str(file)))
