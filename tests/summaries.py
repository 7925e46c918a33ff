"""Cohorts of images that were never drawn: only what a statistic of the audit reads of a digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from smalti.audit.measure.traits import tabulate_traits
from smalti.types import Cohort, Sample

CHANNELS = (190.0, 120.0, 180.0)


def sum_up(
    labels: Sequence[str | None], cases: Sequence[str] | None = None, *, seed: int = 0,
    names: Sequence[str] | None = None, change: Callable[[int, dict[str, Any]], None] | None = None,
) -> tuple[Cohort, Any]:  # fmt: skip
    """A cohort and its digest; an image without a label is to be predicted. ``change(i, facts)`` plants something.

    Sizes, colours, glass, bytes and masks are drawn alike for all images.
    """
    rng = np.random.default_rng(seed)
    names = names or [f"slide_{i:04d}.png" for i in rng.permutation(len(labels))]
    images, samples = {}, []
    for i, (label, name) in enumerate(zip(labels, names, strict=True)):
        facts: dict[str, Any] = {
            "size_px": tuple(int(v) for v in rng.integers(500, 1500, 2)), "tint": rng.normal(CHANNELS, 12),
            "glass": rng.normal(240, 3, 3), "density": rng.normal(2, 0.2), "format": "PNG RGB",
            "jpeg_step": 0.0, "mpp": None, "mask_frac": float(rng.uniform(0.2, 0.6)),
            "mask_pieces": int(rng.integers(1, 5)),
        }  # fmt: skip
        if change is not None:
            change(i, facts)
        facts["bytes"] = int(facts["density"] * np.prod(facts["size_px"]))
        pixels = rng.normal(facts["tint"], 20, (400, 3))
        pixels[:100] = rng.normal(facts["glass"], 1, (100, 3))
        source = {k: facts[k] for k in ("bytes", "format", "jpeg_step", "mpp", "mask_pieces")}
        images[name] = SimpleNamespace(
            image=name, size_px=facts["size_px"], mask_frac=facts["mask_frac"], source=SimpleNamespace(**source),
            thumbnail=np.clip(pixels, 0, 255).astype(np.uint8).reshape(20, 20, 3),
        )  # fmt: skip
        samples.append(Sample(name, Path(name), None, label, name if cases is None else cases[i], name))
    labelled = tuple(s for s in samples if s.label is not None)
    unlabelled = tuple(s for s in samples if s.label is None)
    cohort = Cohort(Path(), "table", labelled, unlabelled, tuple(sorted({str(s.label) for s in labelled})))
    joined = {s.image: s.case for s in samples}
    return cohort, SimpleNamespace(
        tabulate=lambda wanted: tabulate_traits([images[name] for name in wanted]),
        find_rows=lambda wanted: [list(images).index(name) for name in wanted],
        images=tuple(images.values()),
        image=images.__getitem__,
        joined_cases=joined,
        embeddings=None,
    )
