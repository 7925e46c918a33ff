"""``pretraining.json``: what each fold learned without labels before its head, and whether it was kept."""

from __future__ import annotations

from typing import ClassVar

from ..layout import PRETRAINING
from ..record import Number, Part, Record
from .verdicts import GateVerdict


class PretrainedEpoch(Part):
    """One pass over the tiles.

    Attributes:
        loss: mean over the steps.
        spread: standard deviation of normalised embeddings times the root of their size; near 0 they are all alike.
        rank: effective rank of the embeddings.
    """

    epoch: int
    loss: Number
    spread: Number
    rank: Number


class PretrainedFold(Part):
    """Pretraining of one fold and seed.

    Attributes:
        tiles: that taught.
        further: unlabelled images that taught as well.
        verdict: of the gate; what is kept, the fold goes on with.
        collapsed: why it was stopped and undone; empty where it was not.
        history: epoch by epoch, of the pretraining on all cases that are not outer.
    """

    seed: int
    fold: int
    method: str
    tiles: int
    further: int
    verdict: GateVerdict
    collapsed: str
    history: tuple[PretrainedEpoch, ...]


class PretrainingRecord(Record):
    """``pretraining.json``: one entry for each fold and seed; ``gate.json`` repeats the verdicts."""

    FILE: ClassVar[str] = PRETRAINING
    LIST: ClassVar[str] = "folds"

    folds: tuple[PretrainedFold, ...]
