"""Drawn embeddings in which unlabelled images can teach: a few wide directions hold the classes, many narrow ones do
not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def draw_looks(y: Ints, rng: np.random.Generator, *, size: int = 60, apart: float = 3.0) -> Floats:
    """Embeddings (n, size) of images of classes ``y``, whose means are ``apart``, turned so that no axis is special."""
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(size, size)))[0]
    means = np.eye(int(y.max()) + 1, size) * apart / np.sqrt(2)
    return np.asarray((means[y] + rng.normal(size=(len(y), size)) / np.sqrt(1 + np.arange(size) / 3)) @ turn)


def draw_classes(number: int, shares: tuple[float, ...], rng: np.random.Generator) -> Ints:
    """Classes of so many images, each at least once."""
    y = rng.choice(len(shares), number, p=shares)
    y[: len(shares)] = np.arange(len(shares))
    return y.astype(np.int64)


def part_cohort(
    embed: Callable[..., Any], x: Floats, y: Ints, free: Floats, *settings: str, cases: Any = None,
    free_cases: Any = None, name: str = "run",
) -> Any:  # fmt: skip
    """An experiment on labelled embeddings (n, D) and on unlabelled ones (u, D)."""
    from smalti.samples import split_cases

    names = [f"c{i}" for i in range(len(x))] if cases is None else list(cases)
    names += [f"u{i}" for i in range(len(free))] if free_cases is None else list(free_cases)
    labels = [*y, *np.resize(np.unique(y), len(free))]
    made = embed(np.concatenate([x, free]), labels, "model.head=logistic", *settings, cases=names, name=name)
    samples = made.cohort.labelled
    cohort = replace(
        made.cohort, labelled=samples[: len(x)], unlabelled=tuple(replace(s, label=None) for s in samples[len(x) :])
    )
    splits = split_cases(cohort, made.recipe.split)
    frozen = dict.fromkeys((s.name for s in splits), next(iter(made.frozen.values())))
    return replace(made, cohort=cohort, splits=splits, frozen=frozen)


def read_bytes(folder: Path) -> dict[str, bytes]:
    """What is in the files of a run folder that training writes."""
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.suffix in {".csv", ".json", ".safetensors"}}
