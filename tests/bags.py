"""Poolers as they are after learning: attention begins at the mean, where much that could be wrong cannot be seen."""

from __future__ import annotations

from typing import Any

import torch

from smalti.models import POOLERS, Pooler
from smalti.models.poolers.attention import AttentionScores
from smalti.models.poolers.settransformer import SetTransformerPooler


def build_learned(name: str, features: int, classes: int, *, seed: int = 0, **options: Any) -> Pooler:
    """A pooler, the same for a seed, that prefers some tiles to others."""
    torch.manual_seed(seed)
    pooler = POOLERS.build(name, features, classes, **options)
    for part in pooler.modules():
        if isinstance(part, AttentionScores):
            torch.nn.init.normal_(part.weigh.weight)
        elif isinstance(part, SetTransformerPooler):
            torch.nn.init.normal_(part.seed)
    return pooler
