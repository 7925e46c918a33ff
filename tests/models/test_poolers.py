"""Poolers against their papers' formulas, against torchmil, and under padding, order and places."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bags import build_learned
from smalti.models import POOLERS, Pooled, Pooler, fit_scale
from smalti.models.poolers.attention import AdditivePooler
from smalti.models.poolers.clam import smooth_svm
from smalti.models.poolers.transmil import iterate_pinv

NAMES = [entry.name for entry in POOLERS]
PLAIN = ("mean", "max", "topk", "logsumexp", "mean_spread", "covariance")
LEARNED = [name for name in NAMES if name not in PLAIN]
ORDERED = ("transmil",)  # the paper lays tiles out in the order given


def build(name: str, features: int = 5, classes: int = 3) -> Pooler:
    return build_learned(name, features, classes).eval()


def draw_bags(bags: list[int], *, features: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    values = torch.randn(len(bags), 9, features, generator=rng)
    mask = torch.arange(9)[None] < torch.tensor(bags)[:, None]
    values[~mask] = torch.tensor([0, 1e9, -1e9, torch.inf, torch.nan])  # padding may hold anything
    return values, mask, torch.randint(0, 30, (len(bags), 9, 2), generator=rng).float()


class ColumnLoss(torch.nn.Module):
    """Our loss for targets given as a column."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return smooth_svm(logits, targets[:, 0].long())


@pytest.mark.parametrize("name", NAMES)
@given(bags=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=12)
def test_padding_never_changes_a_bag(name: str, bags: list[int], seed: int) -> None:
    pooler = build(name)
    values, mask, places = draw_bags(bags, seed=seed)
    with torch.no_grad():
        together = pooler(values, mask, positions=places)
        for i, count in enumerate(bags):
            alone = pooler(values[i : i + 1, :count], positions=places[i : i + 1, :count])
            torch.testing.assert_close(together.embedding[i], alone.embedding[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(together.attention[i, :count], alone.attention[0], rtol=1e-5, atol=1e-6)
    assert (together.attention[~mask] == 0).all()
    assert (together.attention >= 0).all()
    torch.testing.assert_close(together.attention.sum(dim=1), torch.ones(len(bags)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ORDERED])
def test_the_order_of_tiles_says_nothing(name: str) -> None:
    pooler = build(name)
    values, mask, places = draw_bags([9, 4], seed=3)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = pooler(values, mask, positions=places)
        turned = pooler(values[:, order], mask[:, order], positions=places[:, order])
    torch.testing.assert_close(turned.embedding, plain.embedding, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(turned.attention, plain.attention[:, order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_padded_tiles_take_no_gradient_and_real_ones_do(name: str) -> None:
    pooler = build(name).train()
    values = torch.randn(2, 4, 5, requires_grad=True)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    pooler(values, mask).embedding.square().sum().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()
    assert (values.grad[~mask] == 0).all()
    assert (values.grad[0, :2] != 0).any()
    for label, parameter in pooler.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), label


@pytest.mark.parametrize("name", LEARNED)
def test_learned_poolers_do_not_see_the_scale_of_the_backbone(name: str) -> None:
    pooler = build(name)
    values = torch.randn(40, 3, 5)
    fit_scale(pooler, values.flatten(0, 1))
    plain = pooler(values[:2]).embedding.detach()
    fit_scale(pooler, (1000 * values + 7).flatten(0, 1))
    torch.testing.assert_close(pooler(1000 * values[:2] + 7).embedding.detach(), plain, rtol=1e-3, atol=1e-4)


def test_poolers_without_parameters_are_those_of_torch() -> None:
    values = torch.randn(3, 6, 4)
    torch.testing.assert_close(POOLERS.build("mean", 4, 3)(values).embedding, values.mean(dim=1))
    torch.testing.assert_close(POOLERS.build("max", 4, 3)(values).embedding, values.amax(dim=1))
    largest = values.sort(dim=1, descending=True).values[:, :2].mean(dim=1)
    torch.testing.assert_close(POOLERS.build("topk", 4, 3, k=2)(values).embedding, largest)
    torch.testing.assert_close(POOLERS.build("topk", 4, 3, k=1)(values).embedding, values.amax(dim=1))
    torch.testing.assert_close(POOLERS.build("topk", 4, 3, k=99)(values).embedding, values.mean(dim=1))
    smooth = torch.log(torch.exp(2.0 * values).mean(dim=1)) / 2.0
    torch.testing.assert_close(POOLERS.build("logsumexp", 4, 3, r=2.0)(values).embedding, smooth)


@given(count=st.integers(1, 9), weighted=st.booleans(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_spread_and_covariance_are_those_of_numpy(count: int, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, coverage = rng.normal(size=(count, 5)), rng.uniform(0.1, 1, count)
    tiles = torch.from_numpy(values).float()[None]
    shares = torch.from_numpy(coverage).float()[None] if weighted else None
    weights = coverage if weighted else np.ones(count)
    mean = np.average(values, axis=0, weights=weights)
    spread = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
    found = POOLERS.build("mean_spread", 5, 3)(tiles, coverage=shares).embedding[0]
    np.testing.assert_allclose(found, [*mean, *spread], atol=1e-5)

    pooler = POOLERS.build("covariance", 5, 3, k=3)
    directions = pooler.directions.double().numpy()
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-6)
    wanted = np.atleast_2d(np.cov((values @ directions).T, aweights=weights, bias=True))[np.triu_indices(3)]
    found = pooler(tiles, coverage=shares).embedding[0]
    np.testing.assert_allclose(found[:5], mean, atol=1e-5)
    np.testing.assert_allclose(found[5:] * found[5:].abs(), wanted, atol=1e-5)


def test_directions_of_covariance_are_drawn_once_and_for_all() -> None:
    one, other = (POOLERS.build("covariance", 40, classes) for classes in (2, 3))
    assert torch.equal(one.directions, other.directions)
    assert one.directions.shape == (40, 16)
    assert POOLERS.build("covariance", 4, 2).directions.shape == (4, 4)
    assert "directions" in one.state_dict()
    with pytest.raises(ValueError, match="1 or more"):
        POOLERS.build("covariance", 4, 2, k=0)


@pytest.mark.parametrize("name", ["mean_spread", "covariance"])
def test_a_tile_alone_has_no_spread_and_a_gradient_that_is_a_number(name: str) -> None:
    pooler, tile = POOLERS.build(name, 5, 3), torch.randn(2, 1, 5, requires_grad=True)
    pooled = pooler(tile).embedding
    torch.testing.assert_close(pooled[:, :5], tile[:, 0])
    assert (pooled[:, 5:] == 0).all()
    assert pooled.shape[1] == pooler.features
    pooled.sum().backward()
    assert tile.grad is not None
    torch.testing.assert_close(tile.grad, torch.ones_like(tile))


@pytest.mark.parametrize("name", ["attention", "gated_attention", "additive", "clam_sb", "clam_mb", "dsmil"])
def test_tiles_go_through_as_many_layers_as_are_named(name: str) -> None:
    torch.manual_seed(0)
    pooler = POOLERS.build(name, 5, 3, hidden=(7, 4, 6))
    layers = [layer for layer in pooler.project if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [7, 4, 6]
    assert sum(isinstance(layer, torch.nn.Dropout) for layer in pooler.project) == 3
    values = torch.randn(2, 3, 5)
    wanted = values
    for layer in layers:
        wanted = F.relu(F.linear(wanted, layer.weight, layer.bias))
    torch.testing.assert_close(pooler.eval().embed(values, None), wanted)
    one, same = POOLERS.build(name, 5, 3, hidden=7), POOLERS.build(name, 5, 3, hidden=[7])
    assert one.load_state_dict(same.state_dict())


@pytest.mark.parametrize(("name", "gated"), [("attention", False), ("gated_attention", True)])
def test_attention_is_that_of_torchmil(name: str, gated: bool) -> None:
    from torchmil import nn

    ours = build(name, 24)
    theirs = nn.AttentionPool(in_dim=24, att_dim=128, gated=gated)
    # Theirs adds no bias to the score; ours is named otherwise.
    theirs.fc1.module.load_state_dict(ours.score.content.state_dict())
    theirs.fc2.load_state_dict(ours.score.weigh.state_dict())
    if gated:
        theirs.fc_gated.module.load_state_dict(ours.score.gate.state_dict())
    values = torch.randn(3, 7, 24)
    mask = torch.arange(7)[None] < torch.tensor([7, 2, 5])[:, None]
    pooled = ours(values, mask)
    found, scores = theirs(values, mask, return_att=True)
    torch.testing.assert_close(pooled.embedding, found, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled.attention, scores.masked_fill(~mask, -torch.inf).softmax(dim=1))


@pytest.mark.parametrize("name", ["attention", "gated_attention", "additive", "clam_sb", "clam_mb", "set_transformer"])
def test_attention_that_learned_nothing_looks_nowhere_in_particular_and_can_learn(name: str) -> None:
    pooler = POOLERS.build(name, 5, 3)
    values, mask, _ = draw_bags([9, 4])
    pooled = pooler(values, mask)
    torch.testing.assert_close(pooled.attention, mask / mask.sum(dim=1, keepdim=True))
    (pooled.embedding * torch.randn(pooled.embedding.shape)).sum().backward()
    asks = pooler.seed if name == "set_transformer" else pooler.score.weigh.weight
    assert (asks.grad != 0).any()


@pytest.mark.parametrize("name", ["attention", "gated_attention"])
def test_branches_are_so_many_poolers_beside_one_another(name: str) -> None:
    pooler, one = build_learned(name, 5, 3, branches=3).eval(), build(name)
    values, mask, _ = draw_bags([9, 4], seed=2)
    pooled = pooler(values, mask)
    shares = []
    for branch, embedding in enumerate(pooled.embedding.unflatten(1, (3, 5)).unbind(dim=1)):
        weights = pooler.state_dict()
        one.load_state_dict({**weights, "score.weigh.weight": weights["score.weigh.weight"][branch : branch + 1]})
        alone = one(values, mask)
        torch.testing.assert_close(embedding, alone.embedding)
        shares.append(alone.attention)
    torch.testing.assert_close(pooled.attention, torch.stack(shares).mean(dim=0))


def test_transmil_is_that_of_torchmil() -> None:
    from torchmil import models

    ours = build("transmil", 128)
    ours.project = torch.nn.Identity()
    theirs = models.TransMIL(in_shape=(128,), att_dim=128, n_heads=4, n_landmarks=64).eval()
    theirs.cls_token.data.copy_(ours.token.data)
    theirs.norm.load_state_dict(ours.norm.state_dict())
    for layer, norm, attend in zip(theirs.layers, ours.norms, ours.mixers, strict=True):
        layer.norm1.load_state_dict(norm.state_dict())
        layer.att_module.qkv_nn.load_state_dict(attend.to_qkv.state_dict())
    for conv, name in zip(ours.encode.convs, ("proj", "proj1", "proj2"), strict=True):
        getattr(theirs.pos_layer, name).load_state_dict(conv.state_dict())
    theirs.classifier = torch.nn.Identity()
    for count in (5, 70, 150):
        values = torch.randn(1, count, 128)
        with torch.no_grad():
            torch.testing.assert_close(ours(values).embedding, theirs(values), rtol=1e-5, atol=1e-5)


def test_dsmil_is_that_of_torchmil() -> None:
    from torchmil import models

    ours = build("dsmil", 24, classes=1)
    theirs = models.DSMIL(in_shape=(24,), att_dim=128, nonlinear_q=True).eval()
    theirs.inst_classifier.load_state_dict(ours.classify.state_dict())
    theirs.q_nn.load_state_dict(ours.query.state_dict())
    theirs.v_nn = ours.value
    values = torch.randn(3, 7, 24)
    bag, shares, single = theirs(values, return_att=True, return_inst_pred=True)
    pooled = ours(values)
    torch.testing.assert_close(pooled.attention, shares[..., 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs.bag_classifier(pooled.embedding)[:, 0], bag, rtol=1e-5, atol=1e-5)
    assert pooled.instance_logits is not None
    torch.testing.assert_close(pooled.instance_logits[..., 0], single, rtol=1e-5, atol=1e-5)


def test_clam_is_that_of_torchmil() -> None:
    from torchmil import models

    ours = build("clam_sb", 128, classes=2)
    ours.project = torch.nn.Identity()
    theirs = models.CLAM_SB(in_shape=(128,), att_dim=64, k_sample=8, gated=True).eval()
    theirs.pool.fc1.module.load_state_dict(ours.score.content.state_dict())
    theirs.pool.fc_gated.module.load_state_dict(ours.score.gate.state_dict())
    theirs.pool.fc2.load_state_dict(ours.score.weigh.state_dict())
    for theirs_one, our_one in zip(theirs.inst_classifiers, ours.instances, strict=True):
        theirs_one.module.load_state_dict(our_one.state_dict())
    # Its own loss broadcasts rows against one another; the formula is tested by itself below.
    theirs.inst_loss_fn = ColumnLoss()
    values, targets = torch.randn(3, 20, 128), torch.tensor([0, 1, 1])
    pooled = ours(values)
    scores, tiles = theirs(values, return_att=True, return_emb=True)[1:]
    torch.testing.assert_close(pooled.attention, scores.softmax(dim=1), rtol=1e-5, atol=1e-5)
    found = ours.instance_loss(pooled, torch.ones(3, 20, dtype=torch.bool), targets)
    # Theirs adds up over bags and over the two classes, ours is a mean with a weight.
    wanted = theirs.compute_inst_loss(scores, tiles, targets) * ours.weight / (3 * 2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_smooth_svm_loss_is_the_papers_formula() -> None:
    logits, targets = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    wanted = []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        raised = [math.exp(score + (0.0 if j == target else 1.0)) for j, score in enumerate(row)]
        wanted.append(math.log(sum(raised)) - row[target])
    assert float(smooth_svm(logits, targets)) == pytest.approx(sum(wanted) / 6, rel=1e-5)


def test_clam_looks_at_each_class_apart_and_padding_is_no_evidence() -> None:
    ours = build("clam_mb", 24, classes=3)
    values, targets = torch.randn(2, 9, 24), torch.tensor([2, 0])
    mask = torch.arange(9)[None] < torch.tensor([9, 3])[:, None]
    pooled = ours(values, mask)
    assert pooled.embedding.shape == (2, 3, 128)
    by_hand = torch.einsum("bcn,bnh->bch", pooled.class_attention, pooled.hidden)
    torch.testing.assert_close(pooled.embedding, by_hand)
    loss = ours.instance_loss(pooled, mask, targets)
    alone = [
        ours.instance_loss(ours(values[i : i + 1, :n]), mask[i : i + 1, :n], targets[i : i + 1])
        for i, n in enumerate((9, 3))
    ]
    torch.testing.assert_close(loss, torch.stack(alone).mean(), rtol=1e-5, atol=1e-5)


def test_what_single_tiles_say_adds_up_to_the_logits() -> None:
    ours = build("additive", 24)
    assert isinstance(ours, AdditivePooler)
    linear = torch.nn.Linear(128, 4)
    values, mask, _ = draw_bags([9, 4], features=5)
    ours = build("additive", 5)
    pooled: Pooled = ours(values, mask)
    parts = ours.contributions(pooled, linear.weight)
    torch.testing.assert_close(parts.sum(dim=1) + linear.bias, linear(pooled.embedding), rtol=1e-5, atol=1e-5)
    assert (parts[~mask] == 0).all()


def test_distance_weakens_a_look_only_as_far_as_positions_say() -> None:
    ours = build("set_transformer", 8)
    values, places = torch.randn(1, 6, 8), torch.randint(0, 9, (1, 6, 2)).float()
    with torch.no_grad():
        here = ours(values, positions=places).embedding
        moved = ours(values, positions=places + 100).embedding
        spread = ours(values, positions=places * 50).embedding
    torch.testing.assert_close(moved, here, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(spread, here, atol=1e-4)


def test_the_iterated_inverse_is_that_of_torch() -> None:
    matrix = (torch.randn(2, 3, 12, 12) + 6 * torch.eye(12)).softmax(dim=-1)
    torch.testing.assert_close(iterate_pinv(matrix), torch.linalg.pinv(matrix), rtol=1e-3, atol=1e-3)


def test_attention_with_one_bag_twice_as_long_has_the_same_mean() -> None:
    """Attention does not count tiles: a bag and the same bag twice have one embedding."""
    for name in (
        "mean",
        "max",
        "logsumexp",
        "mean_spread",
        "covariance",
        "attention",
        "gated_attention",
        "clam_sb",
        "dsmil",
    ):
        values = torch.randn(1, 5, 6)
        pooler = build(name, 6)
        torch.testing.assert_close(
            pooler(values.repeat(1, 2, 1)).embedding, pooler(values).embedding, rtol=1e-4, atol=1e-5, msg=name
        )


def test_smooth_svm_prefers_what_cross_entropy_prefers() -> None:
    logits = torch.tensor([[2.0, -1.0], [-1.0, 2.0]])
    good, bad = torch.tensor([0, 1]), torch.tensor([1, 0])
    assert smooth_svm(logits, good) < smooth_svm(logits, bad)
    assert F.cross_entropy(logits, good) < F.cross_entropy(logits, bad)
