"""Bags that are read in parts: the embedding of a slide of a hundred thousand tiles in bounded memory.

What a pooler makes of a bag is the same as of the whole bag, but for the order of the sums. Poolers that compare tiles
with each other need the whole bag.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .attention import AdditivePooler, AttentionPooler, AttentionScores, LearnedPooler
from .clam import ClamPooler
from .pooler import (
    CovariancePooler,
    LogSumExpPooler,
    MaxPooler,
    MeanPooler,
    MeanSpreadPooler,
    Pooler,
    TopKPooler,
    signed_root,
)

LEVEL = 100.0  # spreads that the middle of a dimension may lie from 0, so that float32 takes it off exactly enough
Read = Callable[[], Iterator[torch.Tensor]]  # the tiles (n, D) of a bag, part after part; may be called again


def pool_parts(pooler: Pooler, read: Read) -> torch.Tensor | None:
    """Return the embedding (E,), by class (C, E), of a bag that is read in parts; None where it takes the whole bag.

    Nothing is learned from it, and no mask is known.
    """
    fold = next((fold for kind, fold in _FOLDS.items() if isinstance(pooler, kind)), None)
    if fold is None:
        return None
    with torch.inference_mode():
        embedding: torch.Tensor = fold(pooler, read)
    return embedding


def _mean(read: Read) -> torch.Tensor:
    total, count = torch.zeros((), dtype=torch.float64), 0
    for part in read():
        total, count = total + part.sum(dim=0, dtype=torch.float64), count + len(part)
    return total / count


def _fold_mean(pooler: MeanPooler, read: Read) -> torch.Tensor:
    return _mean(read).float()


def _fold_spread(pooler: MeanSpreadPooler, read: Read) -> torch.Tensor:
    mean = _mean(read)
    variance = _mean(lambda: ((part.double() - mean).square() for part in read()))
    return torch.cat([mean, signed_root(variance)]).float()


def _fold_covariance(pooler: CovariancePooler, read: Read) -> torch.Tensor:
    mean, directions = _mean(read), pooler.directions.double()
    total, count = torch.zeros((), dtype=torch.float64), 0
    for part in read():
        seen = (part.double() - mean) @ directions
        total, count = total + seen.T @ seen, count + len(part)
    covariance = total / count
    rows, cols = torch.triu_indices(*covariance.shape, device=covariance.device).unbind()
    return torch.cat([mean, signed_root(covariance[rows, cols])]).float()


def _fold_max(pooler: MaxPooler, read: Read) -> torch.Tensor:
    return torch.stack([part.amax(dim=0) for part in read()]).amax(dim=0)


def _fold_topk(pooler: TopKPooler, read: Read) -> torch.Tensor:
    best = None
    for part in read():
        both = part if best is None else torch.cat([best, part])
        best = both.topk(min(pooler.k, len(both)), dim=0).values
    assert best is not None
    return best.mean(dim=0)


def _fold_logsumexp(pooler: LogSumExpPooler, read: Read) -> torch.Tensor:
    logs, count = [], 0
    for part in read():
        logs.append((pooler.r * part).logsumexp(dim=0))
        count += len(part)
    return (torch.stack(logs).logsumexp(dim=0) - torch.tensor(float(count)).log()) / pooler.r


def _fold_attention(pooler: AttentionPooler | ClamPooler, read: Read) -> torch.Tensor:
    """Take the sum of the tiles weighted by ``exp(score - largest so far)``, corrected when a larger one comes.

    Tiles that are not projected are standardised by the weights of the attention in the place of each number, and the
    sum at its end.
    """
    top: Any = None
    plain = pooler.layers == 0 and bool((pooler.center / pooler.scale).abs().max() < LEVEL)
    score = _standardise(pooler) if plain else pooler.score
    for part in read():
        tiles = part if plain else pooler.embed(part[None], None)[0]
        scores = score(tiles).T  # (branches, n)
        high = scores.amax(dim=1)
        if top is None:
            top, total, mass = high, tiles.new_zeros(len(high), tiles.shape[1]), tiles.new_zeros(len(high))
        new = torch.maximum(top, high)
        kept, weights = (top - new).exp(), (scores - new[:, None]).exp()
        total, mass, top = kept[:, None] * total + weights @ tiles, kept * mass + weights.sum(dim=1), new
    embedding = total / mass[:, None]
    if plain:
        embedding = (embedding - pooler.center) / pooler.scale
    return embedding if pooler.by_class else embedding.flatten()


def _standardise(pooler: LearnedPooler) -> AttentionScores:
    """Return the attention of a pooler as it reads tiles that are not standardised."""
    score = copy.deepcopy(pooler.score)
    assert isinstance(score, AttentionScores)
    for layer in (score.content, score.gate):
        if layer is not None:
            layer.bias.sub_((layer.weight * (pooler.center / pooler.scale)).sum(dim=1))
            layer.weight.div_(pooler.scale)
    return score


def _fold_additive(pooler: AdditivePooler, read: Read) -> torch.Tensor:
    """Read twice: what a tile says depends on its share, and its share on all tiles."""
    logs = [pooler.score(pooler.embed(part[None], None))[0, :, 0].logsumexp(dim=0) for part in read()]
    whole, said = torch.stack(logs).logsumexp(dim=0), []
    for part in read():
        tiles = pooler.embed(part[None], None)[0]
        attention = (pooler.score(tiles)[:, 0] - whole).exp()
        said.append(pooler.say(attention[:, None] * tiles).sum(dim=0))
    return torch.stack(said).sum(dim=0)


_FOLDS: dict[type[Pooler], Callable[[Any, Read], torch.Tensor]] = {
    MeanPooler: _fold_mean, MeanSpreadPooler: _fold_spread, CovariancePooler: _fold_covariance,
    MaxPooler: _fold_max, TopKPooler: _fold_topk, LogSumExpPooler: _fold_logsumexp,
    AttentionPooler: _fold_attention, ClamPooler: _fold_attention, AdditivePooler: _fold_additive,
}  # fmt: skip
