"""Robustness to the site: against its definition, written out, and against the package croma where it is installed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cosine

from smalti.stats.robustness_index import measure_robustness


def draw(seed: int, *, images: int = 90) -> tuple[np.ndarray, ...]:
    """Embeddings with class and site in them, three images a case."""
    rng = np.random.default_rng(seed)
    cases = np.arange(images) // 3
    labels, sites = rng.integers(0, 2, cases.max() + 1)[cases], rng.integers(0, 3, cases.max() + 1)[cases]
    points = rng.standard_normal((images, 8))
    points[:, 0] += 2 * labels
    points[:, 1] += 1.5 * sites
    return points, labels, sites, cases


def test_index_and_margin_are_their_definitions() -> None:
    points, labels, sites, cases = draw(0, images=60)
    found = measure_robustness(points, labels, sites, cases, numbers=[7])
    across = within = 0
    margins = []
    for i in range(len(points)):
        order = sorted((cosine(points[i], points[j]), j) for j in range(len(points)) if cases[j] != cases[i])
        for _, j in order[:7]:
            across += labels[j] == labels[i] and sites[j] != sites[i]
            within += labels[j] != labels[i] and sites[j] == sites[i]
        far = [d for d, j in order if labels[j] == labels[i] and sites[j] != sites[i]][:5]
        near = [d for d, j in order if labels[j] != labels[i] and sites[j] == sites[i]][:5]
        margins.append((np.mean(near) - np.mean(far)) / (np.mean(near) + np.mean(far)))
    assert found.index == pytest.approx(across / (across + within))
    assert found.margin == pytest.approx(np.median(margins))
    assert found.dominated == pytest.approx(np.mean(np.array(margins) <= 0))


def test_without_neighbours_of_a_kind_there_is_no_margin() -> None:
    points, labels, _, cases = draw(1)
    found = measure_robustness(points, labels, labels, cases)  # each class has a site of its own
    assert (found.lacking, found.support) == (len(points), 0)
    assert np.isnan([found.index, found.margin, found.tail]).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # croma tells its support
def test_numbers_are_those_of_the_package(seed: int) -> None:
    croma = pytest.importorskip("croma", reason="not applicable: the package croma is not installed")
    points, labels, sites, cases = draw(seed)
    found = measure_robustness(points, labels, sites, cases)
    names = [f"{i}" for i in range(len(points))]
    table = pd.DataFrame({
        "sample_id": names, "image_path": names, "label": labels, "center": sites, "group_id": cases,
    })  # fmt: skip
    index = croma.RI.compute(points, table, k_candidates=[5, 11, 21], confounder_column="center")
    margin = croma.CRoMa.compute(points, table, confounder_column="center")
    assert (found.neighbours, found.index) == (index.k, pytest.approx(index.value, abs=1e-12))
    assert (found.support, found.margin) == pytest.approx((index.support, margin.value), abs=1e-12)
    assert (found.tail, found.dominated) == pytest.approx((margin.ltm_alpha, margin.f0), abs=1e-12)
