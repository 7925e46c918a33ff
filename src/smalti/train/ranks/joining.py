"""Rows that several processes made, as one tensor through which gradients flow back to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from ...samples import Share


class _Joined(torch.autograd.Function):
    """Rows of all processes in their order; each process takes the gradient of its own."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, share: Share, count: int) -> torch.Tensor:
        sizes = [Share(rank, share.ranks).of(count) for rank in range(share.ranks)]
        # Collectives want one size; shares differ by one row at most.
        padded = own.new_zeros(max(part.stop - part.start for part in sizes), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        ctx.own, ctx.ranks = share.of(count), share.ranks
        return torch.cat([rows[: part.stop - part.start] for rows, part in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        # Every process has the same loss of all rows. DDP takes the mean over processes, where the sum is wanted.
        return grads[0][ctx.own] * ctx.ranks, None, None


def join_rows(own: torch.Tensor, share: Share, count: int) -> torch.Tensor:
    """Return the rows (count, ...) of all processes from those of each; the same in every process.

    The loss of all of them gives each parameter, after DDP's mean over processes, the gradient that one process would
    have given it.
    """
    if share.ranks == 1 or count == 0:
        return own
    joined: torch.Tensor = _Joined.apply(own, share, count)
    return joined


def join_step(
    forward: Callable[[], tuple[torch.Tensor, torch.Tensor | None]], share: Share, count: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the logits (count, C) of all images of a step, and the further loss, a mean over them, if there is one."""
    logits, extra = forward()
    if share.ranks == 1:
        return logits, extra
    part = share.of(count)
    if extra is not None:
        extra = join_rows(extra.float().reshape(1) * (part.stop - part.start), share, share.ranks).sum() / count
    return join_rows(logits.float(), share, count), extra
