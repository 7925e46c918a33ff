"""Growing parts of the learning cases, each nested in the next, with similar shares of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

MOST_SIZES = 8
STEP = 1.4  # least ratio of neighbouring sizes; nearer ones say the same
SMALLEST = 32  # the curve begins at all cases divided by this or more; smaller sizes say little about more cases
TWICE = 2  # cases of each class in the smallest part, where there are any: the strength is chosen by leaving one out


@dataclass(frozen=True, slots=True)
class Order:
    """An order of cases.

    Attributes:
        cases: (K,) numbers of the cases; a part of n cases is the first n of them.
        least: size of the smallest part with every class, with two cases of each class that has them.
    """

    cases: Ints
    least: int


def order_cases(targets: Ints, cases: Ints, *, seed: int | Sequence[int]) -> Order:
    """Draw an order of the cases of images with ``targets`` and ``cases`` (n,).

    It begins with two cases of each class, the rarest first; then the classes follow in proportion to their shares.
    """
    rng = np.random.default_rng(seed)
    numbers, row = np.unique(cases, return_inverse=True)
    held = np.zeros((len(numbers), int(targets.max()) + 1))
    np.add.at(held, (row, targets), 1)
    first: list[int] = []
    for times in range(1, TWICE + 1):
        for label in np.argsort((held > 0).sum(axis=0), kind="stable"):
            if (held[first, label] > 0).sum() < times and len(
                left := np.setdiff1d(np.flatnonzero(held[:, label]), first)
            ):
                first.append(int(rng.choice(left)))
    place = np.empty(len(numbers))
    kind = held.argmax(axis=1)
    rest = np.setdiff1d(np.arange(len(numbers)), first)
    for label in np.unique(kind[rest]):
        members = rng.permutation(rest[kind[rest] == label])
        place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return Order(numbers[np.concatenate([first, rest[np.argsort(place[rest])]]).astype(np.int64)], len(first))


def choose_shares(orders: Sequence[Order]) -> tuple[float, ...]:
    """Return the shares of the cases at which all orders can be cut, evenly spaced on a log scale; the last is 1."""
    smallest = min(len(order.cases) for order in orders)
    start = max(1 / SMALLEST, max(order.least for order in orders) / smallest)
    count = min(MOST_SIZES, 1 + int(np.log(1 / start) / np.log(STEP)))
    return tuple(float(share) for share in np.geomspace(start, 1.0, count)) if count > 1 else (1.0,)


def take_cases(order: Order, cases: Ints, *, share: float) -> Ints:
    """Return positions in ``cases`` (n,) of the images of the first share of the cases."""
    number = max(order.least, round(share * len(order.cases)))
    return np.flatnonzero(np.isin(cases, order.cases[:number]))
