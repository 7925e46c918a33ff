"""What the mask does inside a network: weights by coverage, the fourth channel, the branch and its fusions."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from bags import build_learned
from smalti.errors import WeightsError
from smalti.models import (
    FUSIONS,
    MASK_WIDTH,
    NORMS,
    POOLERS,
    TILE_WIDTH,
    BagReader,
    Head,
    MaskBranch,
    MaskFeatures,
    MaskStem,
    Pooled,
    Pooler,
    add_mask_channel,
    build_groups,
    fit_scale,
    open_stage,
)

WEIGHING = [entry.name for entry in POOLERS if POOLERS.build(entry.name, 5, 3).weighs]
STEMS = ("mobilenetv2_100", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "nf_resnet26", "convnext_atto")


def build(name: str) -> Pooler:
    return build_learned(name, 5, 3).eval()


def draw(count: int = 6, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(3, count, 5, generator=rng), torch.rand(3, count, generator=rng)


# --- weights by coverage ------------------------------------------------------------------------------------------


def test_the_poolers_that_weigh_are_those_with_shares() -> None:
    assert set(WEIGHING) == {entry.name for entry in POOLERS} - {"max", "topk", "transmil"}


def test_means_are_weighted_as_numpy_does_it() -> None:
    values, coverage = draw()
    pooled = build("mean")(values, coverage=coverage)
    for bag in range(3):
        expected = np.average(values[bag].numpy(), axis=0, weights=coverage[bag].numpy())
        np.testing.assert_allclose(pooled.embedding[bag], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(pooled.attention[bag], coverage[bag] / coverage[bag].sum(), rtol=1e-6)
    smooth = POOLERS.build("logsumexp", 5, 3, r=2.0)(values, coverage=coverage).embedding
    raised = np.exp(2 * values.double().numpy())
    by_hand = [np.log(np.average(raised[i], axis=0, weights=coverage[i].numpy())) / 2 for i in range(3)]
    np.testing.assert_allclose(smooth, by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["attention", "gated_attention", "additive", "clam_sb", "set_transformer"])
def test_shares_are_multiplied_by_coverage_and_brought_to_one(name: str) -> None:
    values, coverage = draw()
    # Each head is brought to one by itself, so the rule is to be seen with a single one.
    pooler = build_learned(name, 5, 3, heads=1).eval() if name == "set_transformer" else build(name)
    with torch.no_grad():
        plain, weighed = pooler(values).attention, pooler(values, coverage=coverage).attention
    expected = plain * coverage
    torch.testing.assert_close(weighed, expected / expected.sum(dim=1, keepdim=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", WEIGHING)
def test_even_coverage_no_coverage_and_padding(name: str) -> None:
    values, coverage = draw()
    pooler = build(name)

    def pool(coverage: torch.Tensor | None, mask: torch.Tensor | None = None, bags: torch.Tensor = values) -> Pooled:
        with torch.no_grad():
            pooled: Pooled = pooler(bags, mask, coverage=coverage)
        return pooled

    plain = pool(None)
    for even in (torch.full((3, 6), 0.25), torch.zeros(3, 6)):
        torch.testing.assert_close(pool(even).embedding, plain.embedding, rtol=1e-5, atol=1e-5)
    padded = torch.cat([values, torch.full((3, 2, 5), torch.nan)], dim=1)
    mask = torch.arange(8)[None].expand(3, -1) < 6
    beside = torch.cat([coverage, torch.full((3, 2), 7.0)], dim=1)
    together = pool(beside, mask, padded)
    torch.testing.assert_close(together.embedding, pool(coverage).embedding, rtol=1e-5, atol=1e-5)
    assert (together.attention[:, 6:] == 0).all()
    bare = coverage.clone()
    bare[:, 0] = 0
    assert (pool(bare).attention[:, 0] == 0).all()


@pytest.mark.parametrize("name", WEIGHING)
def test_uncovered_tiles_send_back_finite_gradients(name: str) -> None:
    values, coverage = draw()
    coverage[:, :3] = 0
    coverage[0] = 0
    values.requires_grad_()
    pooled = build(name)(values, coverage=coverage)
    pooled.embedding.sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()


# --- the fourth channel -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEMS)
def test_a_new_channel_changes_no_bit(name: str) -> None:
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=0).eval()
    images, mask = torch.randn(2, 3, 224, 224), torch.rand(2, 1, 224, 224)
    with torch.no_grad():
        before = plain(images)
        add_mask_channel(plain, name=name)
        after = plain(torch.cat([images, mask], dim=1))
    assert torch.equal(before, after)
    assert sum(isinstance(m, MaskStem) for m in plain.modules()) == 1


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_a_stem_with_a_slice_is_a_convolution_of_four_channels(name: str) -> None:
    """A kernel of four input channels, laid side by side by hand, gives the same."""
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=0).eval()
    add_mask_channel(backbone, name=name)
    stem = next(m for m in backbone.modules() if isinstance(m, MaskStem))
    torch.nn.init.normal_(stem.slice.weight)
    images = torch.randn(2, 4, 224, 224)
    same = type(stem.colours).__name__ == "Conv2dSame"
    padded = torch.nn.functional.pad(images, (0, 1, 0, 1)) if same else images  # 224 to 112, kernel 3, stride 2
    kernel = torch.cat([stem.colours.weight, stem.slice.weight], dim=1)
    border = (0, 0) if same else stem.colours.padding
    expected = torch.nn.functional.conv2d(padded, kernel, stem.colours.bias, stride=stem.colours.stride, padding=border)
    torch.testing.assert_close(stem(images), expected, rtol=1e-4, atol=1e-4)


def test_the_slice_learns_from_the_first_stage_at_the_rate_of_the_head() -> None:
    backbone = timm.create_model("test_resnet", num_classes=0)
    add_mask_channel(backbone, name="test_resnet")
    stem = next(m for m in backbone.modules() if isinstance(m, MaskStem))
    groups = build_groups(backbone, torch.nn.Linear(4, 2), layer_decay=0.5)
    assert [g.lr_scale for g in groups if any(p is stem.slice.weight for p in g.parameters)] == [1.0]
    assert sum(p.numel() for g in groups for p in g.parameters) == sum(p.numel() for p in backbone.parameters()) + 10
    open_stage(backbone, stage=1, stages=3, norm=NORMS.build("frozen_statistics"))
    assert stem.slice.weight.requires_grad
    assert not stem.colours.weight.requires_grad
    backbone(torch.rand(2, 4, 64, 64)).sum().backward()
    assert stem.slice.weight.grad is not None
    assert stem.slice.weight.grad.abs().sum() > 0


def test_a_stem_of_several_convolutions_is_refused() -> None:
    backbone = timm.create_model("mobileone_s0", num_classes=0)
    with pytest.raises(WeightsError, match=r"mobileone_s0 cannot take the mask.*2 convolutions.*Fix"):
        add_mask_channel(backbone, name="mobileone_s0")


# --- the branch and its fusions -----------------------------------------------------------------------------------


def build_reader(fusion: str, pooler: str = "mean") -> BagReader:
    pool = build_learned(pooler, 5 + TILE_WIDTH, 3)
    joined = FUSIONS.build(fusion, pool.features, MASK_WIDTH, 5 + TILE_WIDTH)
    branch = MaskBranch(5, 4, joined, dropout=0.5)
    return BagReader(pool, Head(joined.features, 3, dropout=0.5, by_class=pool.by_class), branch=branch).eval()


def draw_guide(bags: int, tiles: int) -> MaskFeatures:
    rng = torch.Generator().manual_seed(1)
    shapes = (bags, tiles), (bags, tiles, 16, 16), (bags, 64, 64), (bags, 4)
    return MaskFeatures(*(torch.rand(shape, generator=rng) for shape in shapes))


@pytest.mark.parametrize("fusion", [entry.name for entry in FUSIONS])
@pytest.mark.parametrize("pooler", ["mean", "gated_attention", "clam_mb", "dsmil"])
def test_a_fused_bag_is_blind_to_padding_and_order(fusion: str, pooler: str) -> None:
    values, _ = draw()
    reader, guide = build_reader(fusion, pooler), draw_guide(3, 6)
    assert guide.coverage is not None
    assert guide.rasters is not None
    with torch.no_grad():
        plain, _ = reader(values, guide=guide)
        order = torch.tensor([3, 0, 5, 1, 2, 4])
        turned = guide._replace(coverage=guide.coverage[:, order], rasters=guide.rasters[:, order])
        shuffled, _ = reader(values[:, order], guide=turned)
        mask = torch.arange(8)[None].expand(3, -1) < 6
        longer = guide._replace(
            coverage=torch.cat([guide.coverage, torch.ones(3, 2)], dim=1),
            rasters=torch.cat([guide.rasters, torch.ones(3, 2, 16, 16)], dim=1),
        )
        padded, _ = reader(torch.cat([values, torch.full((3, 2, 5), torch.nan)], dim=1), mask, guide=longer)
    torch.testing.assert_close(shuffled, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", [entry.name for entry in FUSIONS])
def test_both_scales_of_the_mask_reach_the_logits(fusion: str) -> None:
    values, _ = draw()
    reader, guide = build_reader(fusion), draw_guide(3, 6)
    torch.nn.init.normal_(reader.head.linear.weight)
    for name in ("rasters", "outlines", "shapes"):
        leaf = getattr(guide, name).clone().requires_grad_()
        reader(values, guide=guide._replace(**{name: leaf}))[0].sum().backward()
        assert leaf.grad.abs().sum() > 0, name


def test_a_gate_is_the_unit_of_its_paper() -> None:
    fusion = FUSIONS.build("gate", 5, 7, 9, width=3)
    e, g = torch.randn(2, 5), torch.randn(2, 7)
    with torch.no_grad():
        found = fusion(e, g, torch.zeros(2, 1, 9), torch.ones(2, 1, dtype=torch.bool)).numpy()
        weights = {name: value.numpy() for name, value in fusion.named_parameters()}
    side = np.concatenate([e.numpy(), g.numpy()], axis=1)
    z = 1 / (1 + np.exp(-(side @ weights["gate.weight"].T + weights["gate.bias"])))
    pixels = np.tanh(e.numpy() @ weights["pixels.weight"].T + weights["pixels.bias"])
    shape = np.tanh(g.numpy() @ weights["shape.weight"].T + weights["shape.bias"])
    np.testing.assert_allclose(found, z * pixels + (1 - z) * shape, rtol=1e-5, atol=1e-6)


def test_scales_are_those_of_training_images_and_a_constant_shouts_at_nobody() -> None:
    reader = build_reader("concat")
    shapes = torch.rand(20, 4) * torch.tensor([1.0, 100.0, 0.01, 0.0]) + 3
    assert reader.branch is not None
    fit_scale(reader.branch, shapes, prefix="shape_")
    torch.testing.assert_close(reader.branch.shape_scale[:3], shapes.std(dim=0)[:3])
    assert reader.branch.shape_scale[3] == 1
    odd = draw_guide(2, 3)._replace(shapes=torch.full((2, 4), 1e9))
    assert reader(torch.zeros(2, 3, 5), guide=odd)[0].abs().max() < 100


def test_a_reader_that_asks_for_the_mask_gets_it() -> None:
    with pytest.raises(ValueError, match="asks what the mask says"):
        build_reader("concat")(torch.zeros(1, 2, 5))
    with pytest.raises(ValueError, match="mask of each tile"):
        build_reader("concat")(torch.zeros(1, 2, 5), guide=MaskFeatures())
