"""Networks: pooling against torch, freezing against what a step changes, rates against depth."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import timm
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from smalti import recipe
from smalti.models import (
    NORMS,
    POOLERS,
    Head,
    Network,
    build_backbone,
    build_groups,
    fit_scale,
    hash_weights,
    open_stage,
)
from smalti.models.freezing import group_by_depth
from smalti.samples import normalise_tiles

SMALL = "test_resnet"
NETWORKS = ("mobilenetv3_small_050", "vit_tiny_patch16_224", "convnext_atto")
FAST = ("mobilenetv3_small_050", "test_vit", "test_convnext")
FROZEN = NORMS.build("frozen_statistics")


def make_model(backbone: str = SMALL, **knobs: Any) -> recipe.Model:
    return recipe.Model.model_validate({"backbone": backbone, "pretrained": False, **knobs})


def embed(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    module.eval()
    with torch.inference_mode():
        return module(images)


def draw_images(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


# --- what of a network is the embedding ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "tf_efficientnet_lite0"])
def test_stages_are_the_mean_maps_of_timm_in_a_row(name: str) -> None:
    backbone = build_backbone(make_model(name, embedding="stages"))
    other = timm.create_model(name, features_only=True, out_indices=(-3, -2, -1)).eval()
    known = {key.removeprefix("network."): value for key, value in backbone.module.state_dict().items()}
    other.load_state_dict({key: known[key] for key in other.state_dict()})
    maps = embed(other, draw_images())
    wanted = torch.cat([one.mean(dim=(2, 3)) for one in maps], dim=1)
    torch.testing.assert_close(embed(backbone.module, draw_images()), wanted, rtol=1e-4, atol=1e-5)
    assert backbone.features == wanted.shape[1]
    assert hash_weights(backbone.module) != hash_weights(build_backbone(make_model(name)).module)


def test_stages_of_a_transformer_are_means_of_its_patches() -> None:
    backbone = build_backbone(make_model("test_vit", embedding="stages"))
    size = backbone.spec.size_px
    embedded = embed(backbone.module, draw_images(side=size))
    assert embedded.shape == (2, backbone.features)
    assert embedded.isfinite().all()


# --- head and network ---------------------------------------------------------------------------------------------


def test_the_head_standardises_with_the_training_embeddings() -> None:
    head = Head(4, 2, dropout=0.0)
    embeddings = torch.randn(50, 4) * torch.tensor([1.0, 10, 0.1, 0]) + 3  # one dimension is constant
    fit_scale(head, embeddings)
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(4)[:2])
    standard = (embeddings - embeddings.mean(0)) / embeddings.std(0)
    torch.testing.assert_close(head(embeddings), standard[:, :2])
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(4)[2:])
    torch.testing.assert_close(head(embeddings)[:, 0], standard[:, 2])
    assert torch.isfinite(head(embeddings)).all()


def test_what_is_constant_in_training_is_not_blown_up() -> None:
    """A unit that is dead on the training images may fire on others; scikit-learn leaves its scale at 1 as well."""
    values = np.random.default_rng(0).normal(3, 2, (30, 4)).astype(np.float32)
    values[:, 1] = 0.0
    head = Head(4, 2, dropout=0.0)
    fit_scale(head, torch.from_numpy(values))
    expected = StandardScaler().fit(values)
    assert head.center.numpy() == pytest.approx(expected.mean_, abs=1e-5)
    assert head.scale.numpy() == pytest.approx(expected.scale_ * np.where(expected.var_ > 0, (30 / 29) ** 0.5, 1))


def test_the_head_travels_with_its_scale_and_survives_a_single_image() -> None:
    head = Head(3, 2, dropout=0.5)
    fit_scale(head, torch.randn(1, 3))
    assert torch.isfinite(head(torch.randn(4, 3))).all()
    other = Head(3, 2, dropout=0.5)
    other.load_state_dict(head.state_dict())
    x = torch.randn(4, 3)
    torch.testing.assert_close(other.eval()(x), head.eval()(x), rtol=0, atol=0)
    assert {name for name, _ in head.named_parameters()} == {"linear.weight", "linear.bias"}


def test_the_network_pools_each_bag_by_itself() -> None:
    backbone = build_backbone(make_model())
    network = Network(
        backbone, POOLERS.build("mean", backbone.features, 2), Head(backbone.features, 3, dropout=0.2)
    ).eval()
    tiles = draw_images(6)
    with torch.inference_mode():
        together, _ = network(tiles, 3)
        features = network.backbone(tiles)
        wanted = torch.stack([network.head(features[:3].mean(0)[None])[0], network.head(features[3:].mean(0)[None])[0]])
    assert together.shape == (2, 3)
    torch.testing.assert_close(together, wanted)


# --- freezing -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    backbone = build_backbone(make_model(request.param))
    return Network(backbone, POOLERS.build("mean", backbone.features, 2), Head(backbone.features, 2, dropout=0.0))


@pytest.fixture(scope="module", params=FAST)
def fast_network(request: pytest.FixtureRequest) -> Network:
    backbone = build_backbone(make_model(request.param))
    return Network(backbone, POOLERS.build("mean", backbone.features, 2), Head(backbone.features, 2, dropout=0.0))


def take_step(network: Network, side: int) -> dict[str, torch.Tensor]:
    """One training step; the state before it."""
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    network.zero_grad(set_to_none=True)
    network(draw_images(4, side) + 1, 2)[0].square().sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * (parameter.grad.sign() + 1e-3)
    return before


def side_of(network: Network) -> int:
    return 160 if hasattr(network.backbone, "pos_embed") else 64


def test_stages_are_nested_and_the_last_opens_everything(network: Network) -> None:
    total = len(group_by_depth(network.backbone))
    for stages in (1, 3, total, total + 5):
        opened: list[set[str]] = []
        for stage in range(stages + 1):
            count = open_stage(network.backbone, stage=stage, stages=stages, norm=FROZEN)
            opened.append({n for n, p in network.backbone.named_parameters() if p.requires_grad})
            assert (count == 0) is (stage == 0) is (not opened[-1])
        assert all(below <= above for below, above in itertools.pairwise(opened))
        assert opened[-1] == {n for n, _ in network.backbone.named_parameters()}
    if total >= 3:
        sizes = [open_stage(network.backbone, stage=s, stages=3, norm=FROZEN) for s in range(4)]
        assert sizes == sorted(set(sizes))


def test_layers_open_from_the_head_down(network: Network) -> None:
    """The parameters that open first are the last that the pixels meet."""
    open_stage(network.backbone, stage=1, stages=4, norm=FROZEN)
    is_open = {n: p.requires_grad for n, p in network.backbone.named_parameters()}
    stem = next(n for n in is_open if n.startswith(("conv_stem", "patch_embed", "stem")))
    last = [n for n in is_open if n.startswith(("blocks", "stages"))][-1]
    assert not is_open[stem]
    assert is_open[last]


@pytest.mark.parametrize("batchnorm", ["frozen_statistics", "live"])
@pytest.mark.parametrize("stage", [0, 2])
def test_a_step_changes_only_what_is_open(fast_network: Network, stage: int, batchnorm: str) -> None:
    network = fast_network
    open_stage(network.backbone, stage=stage, stages=3, norm=NORMS.build(batchnorm))
    parameters = dict(network.backbone.named_parameters())
    before = take_step(network, side_of(network))
    after = network.backbone.state_dict()
    for name, parameter in parameters.items():
        assert (parameter.grad is not None) is parameter.requires_grad, name
        assert parameter.requires_grad or torch.equal(before[name], after[name]), name
    if stage:
        assert any(not torch.equal(before[n], after[n]) for n, p in parameters.items() if p.requires_grad)
    for name, module in network.backbone.named_modules():
        if isinstance(module, _BatchNorm):
            learns = any(p.requires_grad for p in module.parameters())
            assert module.training is (learns and batchnorm == "live")
            same = torch.equal(before[f"{name}.running_mean"], after[f"{name}.running_mean"])
            assert same is not module.training, name
        inside = [p.requires_grad for p in module.parameters()]
        if inside and not any(inside):
            assert not any(m.training for m in module.modules()), name


def test_every_parameter_has_one_rate_that_falls_with_depth(network: Network) -> None:
    groups = build_groups(network.backbone, network.head, layer_decay=0.5)
    seen = [id(p) for g in groups for p in g.parameters]
    wanted = {id(p) for m in (network.backbone, network.head) for p in m.parameters()}
    assert len(seen) == len(set(seen))
    assert set(seen) == wanted
    assert all(g.lr_scale == pytest.approx(0.5**g.depth) for g in groups)
    assert all(p.ndim > 1 for g in groups if g.decays for p in g.parameters)
    assert all(p.ndim <= 1 for g in groups if not g.decays for p in g.parameters)
    assert {id(p) for g in groups if g.depth == 0 for p in g.parameters} == {id(p) for p in network.head.parameters()}
    depths = {id(p): g.depth for g in groups for p in g.parameters}
    named = dict(network.backbone.named_parameters())
    blocks = [n for n in named if n.startswith(("blocks.", "stages."))]
    along = [depths[id(named[n])] for n in blocks]
    assert along[0] == max(along)
    assert along[-1] == min(along)
    assert len(set(depths.values())) == len(group_by_depth(network.backbone)) + 1


def test_live_batchnorm_opens_again_after_a_frozen_stage() -> None:
    module = build_backbone(make_model("mobilenetv3_small_050")).module
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    open_stage(module, stage=3, stages=3, norm=FROZEN)
    assert not any(m.training for m in norms)
    open_stage(module, stage=3, stages=3, norm=NORMS.build("live"))
    assert norms
    assert all(m.training for m in norms)


# --- backbones ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "features", "fixed"),
    [(SMALL, 96, False), *zip(NETWORKS, (1024, 192, 320), (False, True, False), strict=True)],
)
def test_a_backbone_says_what_it_takes_and_gives(name: str, features: int, fixed: bool) -> None:
    backbone = build_backbone(make_model(name))
    listed = timm.get_pretrained_cfg(name)
    assert backbone.spec.size_px == listed.input_size[-1]
    assert (backbone.spec.mean, backbone.spec.std) == (listed.mean, listed.std)
    assert backbone.spec.fixed is fixed
    tiles = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8))
    images = normalise_tiles(tiles, spec=backbone.spec)
    assert images.shape[-1] == (backbone.spec.size_px if fixed else 128)
    assert embed(backbone.module, images).shape == (2, backbone.features)
    assert features == backbone.features


def test_the_seed_alone_draws_the_initial_weights() -> None:
    torch.manual_seed(7)
    first = hash_weights(build_backbone(make_model(), seed=1).module)
    torch.manual_seed(8)
    assert hash_weights(build_backbone(make_model(), seed=1).module) == first
    assert hash_weights(build_backbone(make_model(), seed=2).module) != first


def test_the_hash_sees_every_parameter_and_buffer() -> None:
    module = build_backbone(make_model()).module
    found = {hash_weights(module)}
    for name, tensor in list(module.state_dict().items())[::9]:
        old = tensor.clone()
        with torch.no_grad():
            tensor.add_(1)
        found.add(hash_weights(module))
        with torch.no_grad():
            tensor.copy_(old)
        assert name
    assert len(found) == 1 + len(list(module.state_dict())[::9])


def test_a_backbone_comes_in_the_memory_layout_that_it_is_used_in() -> None:
    # A network that took its features from the cache would otherwise run other kernels, which round differently.
    module = build_backbone(make_model("mobilenetv3_small_050")).module
    kernels = [p for p in module.parameters() if p.ndim == 4]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
