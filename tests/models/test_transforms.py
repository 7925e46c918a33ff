"""Transforms keep the order inside a dimension, forget its unit, and are the same after they were kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from smalti.models import TRANSFORMS, Head


def draw(rows: int = 200) -> torch.Tensor:
    """Dimensions of wildly different scales: normal, log-normal, mostly one value, constant."""
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=rows), np.exp(4 * rng.normal(size=rows)) * 1e5, (rng.random(rows) < 0.2) * 7.0]
    return torch.tensor(np.stack([*columns, np.full(rows, 3.0)], axis=1), dtype=torch.float32)


@pytest.mark.parametrize("name", [entry.name for entry in TRANSFORMS])
def test_order_is_kept_and_nothing_is_endless(name: str) -> None:
    values, transform = draw(), TRANSFORMS.build(name, 4)
    transform.fit(values)
    bent = transform(values)
    assert bent.shape == values.shape
    assert bent.isfinite().all()
    for column in range(4):
        order = values[:, column].argsort()
        assert (bent[order, column].diff() >= -1e-6).all()


@pytest.mark.parametrize("name", ["asinh", "rank"])
def test_the_unit_of_a_dimension_does_not_matter(name: str) -> None:
    values = draw()
    first, second = TRANSFORMS.build(name, 4), TRANSFORMS.build(name, 4)
    first.fit(values)
    second.fit(1000 * values + 5)
    assert torch.allclose(first(values), second(1000 * values + 5), atol=2e-2)


def test_rank_is_the_normal_score_of_the_share_below() -> None:
    values = torch.arange(1001.0)[:, None]
    transform = TRANSFORMS.build("rank", 1)
    transform.fit(values)
    asked = torch.tensor([[100.0], [500.0], [700.0]])
    assert np.allclose(transform(asked)[:, 0], norm.ppf([0.1, 0.5, 0.7]), atol=0.02)
    beyond = transform(torch.tensor([[-1e6], [1e6]]))[:, 0]
    assert torch.allclose(beyond, torch.tensor([-2.5, 2.5]), atol=1e-4)


def test_a_head_keeps_its_transform() -> None:
    values = draw()
    head, other = (Head(4, 2, dropout=0.0, transform="asinh") for _ in range(2))
    head.fit(values)
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(values), other(values))
    assert not any(name.startswith("transform") for name in Head(4, 2, dropout=0.0).state_dict())
