"""Norm strategies: against torch's own layers, against formulas, and by what a step changes."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from smalti import recipe
from smalti.models import NORMS, build_backbone, choose_norm, open_stage
from smalti.models.norms import count_groups

CNNS = ("test_resnet", "mobilenetv3_small_050", "test_efficientnet")
CHANGED = ("group", "standardised", "layer", "instance", "renorm", "ghost")


def build(name: str, norm: str) -> nn.Module:
    model = recipe.Model.model_validate({"backbone": name, "pretrained": False, "norm": norm})
    return build_backbone(model).module


def make_layer(channels: int = 12) -> nn.BatchNorm2d:
    """A layer with statistics, scale and shift that are not those of a new one."""
    layer = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias, layer.running_mean):
            tensor.copy_(torch.randn(channels, generator=generator))
        layer.running_var.copy_(torch.rand(channels, generator=generator) + 0.5)
    return layer


def convert(layer: nn.BatchNorm2d, name: str, **options: float) -> nn.Module:
    strategy = NORMS.build(name, **options)
    assert strategy.convert is not None
    return strategy.convert(nn.Sequential(copy.deepcopy(layer)))[0]


def draw(tiles: int = 6, channels: int = 12) -> torch.Tensor:
    return torch.randn(tiles, channels, 5, 7, generator=torch.Generator().manual_seed(0)) * 2 + 1


def shape(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None]


@pytest.mark.parametrize(("name", "groups"), [("group", 12), ("layer", 1), ("instance", 12)])
def test_replaced_layers_are_torchs_with_the_scale_and_shift_of_the_old(name: str, groups: int) -> None:
    layer, x = make_layer(), draw()
    wanted = F.group_norm(x, groups, layer.weight, layer.bias, layer.eps)
    torch.testing.assert_close(convert(layer, name)(x), wanted)
    if name == "instance":
        torch.testing.assert_close(wanted, F.instance_norm(x, weight=layer.weight, bias=layer.bias, eps=layer.eps))
    if name == "layer":
        plain = F.layer_norm(x, x.shape[1:], eps=layer.eps) * shape(layer.weight) + shape(layer.bias)
        torch.testing.assert_close(wanted, plain)


@pytest.mark.parametrize("channels", [1, 7, 24, 32, 96, 1280])
def test_groups_divide_the_channels_and_are_as_many_as_they_can_be(channels: int) -> None:
    groups = count_groups(channels)
    assert channels % groups == 0
    assert not any(channels % more == 0 for more in range(groups + 1, min(channels, 32) + 1))


@pytest.mark.parametrize("name", ["frozen", "frozen_statistics", "live", "renorm", "ghost"])
@pytest.mark.parametrize("backbone", CNNS)
def test_what_keeps_the_statistics_gives_the_same_embedding(name: str, backbone: str) -> None:
    """In eval mode mathematics says that nothing changes; exactly, not nearly."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, other = build(backbone, "live").eval(), build(backbone, name).eval()
    with torch.inference_mode():
        assert torch.equal(plain(images), other(images))


def test_a_frozen_layer_is_an_affine_map() -> None:
    layer, x = make_layer().eval(), draw()
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    torch.testing.assert_close(layer(x), x * shape(scale) + shape(layer.bias - layer.running_mean * scale))


def test_ghost_batches_are_normalised_apart() -> None:
    layer, x = make_layer(), draw(tiles=10)
    ghost = convert(layer, "ghost", size=4).train()
    parts = [F.batch_norm(p, None, None, layer.weight, layer.bias, True) for p in x.split([4, 3, 3])]
    torch.testing.assert_close(ghost(x), torch.cat(parts))
    whole = convert(layer, "ghost", size=10).train()
    torch.testing.assert_close(whole(x), copy.deepcopy(layer).train()(x))
    torch.testing.assert_close(whole.running_var, track_variance(layer, x))


def track_variance(layer: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    trained = copy.deepcopy(layer).train()
    trained(x)
    assert trained.running_var is not None
    return trained.running_var


def test_renorm_lies_between_the_batch_and_the_stored_statistics() -> None:
    """With bounds of 1 and 0 it is batch normalisation, without bounds it is what evaluation does."""
    layer, x = make_layer(), draw()
    tight = convert(layer, "renorm", r_max=1.0, d_max=0.0).train()
    torch.testing.assert_close(tight(x), copy.deepcopy(layer).train()(x))
    loose = convert(layer, "renorm", r_max=1e6, d_max=1e6).train()
    torch.testing.assert_close(loose(x), copy.deepcopy(layer).eval()(x), rtol=1e-4, atol=1e-4)


def test_the_gradient_does_not_flow_through_the_correction_of_renorm() -> None:
    """Ioffe 2017: r and d are constants, so the gradient is that of batch normalisation times r."""
    layer, x = make_layer(), draw()
    loose = convert(layer, "renorm", r_max=1e6, d_max=1e6).train()
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    (loose(first) * weights).sum().backward()
    variance = x.var(dim=(0, 2, 3), correction=0)
    r = ((variance + layer.eps) / (layer.running_var + layer.eps)).sqrt()
    plain = F.batch_norm(second, None, None, layer.weight * r, layer.bias, True, eps=layer.eps)
    (plain * weights).sum().backward()
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-4)


def test_standardised_weights_have_mean_zero_and_variance_one() -> None:
    module = build("test_resnet", "standardised")
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.bias is None]
    assert convolutions
    for convolution in convolutions:
        rows = convolution.weight.detach().flatten(1).double()
        torch.testing.assert_close(rows.mean(dim=1), torch.zeros(len(rows)).double(), rtol=0, atol=1e-6)
        torch.testing.assert_close(rows.var(dim=1, correction=0), torch.ones(len(rows)).double(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("backbone", CNNS)
def test_a_converted_backbone_learns_and_survives_a_checkpoint(name: str, backbone: str) -> None:
    module = build(backbone, name)
    assert not any(type(m) is nn.BatchNorm2d for m in module.modules())
    opened = open_stage(module, stage=3, stages=3, norm=NORMS.build(name))
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    module(images).square().mean().backward()
    assert opened
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
    twin = build(backbone, name)
    twin.load_state_dict(module.state_dict())
    with torch.inference_mode():
        assert torch.equal(twin.eval()(images), module.eval()(images))


@pytest.mark.parametrize("name", ["group", "layer", "instance", "standardised"])
def test_replaced_layers_see_no_other_tile(name: str) -> None:
    module = build("test_resnet", name).train()
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(module(images)[:1], module(images[:1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "learns"), [("frozen", False), ("frozen_statistics", True)])
def test_frozen_layers_do_not_learn(name: str, learns: bool) -> None:
    module = build("test_resnet", name)
    open_stage(module, stage=1, stages=1, norm=NORMS.build(name))
    layers = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert layers
    assert all(p.requires_grad is learns for m in layers for p in m.parameters())
    assert not any(m.training for m in layers)
    assert all(m.weight.requires_grad for m in module.modules() if isinstance(m, nn.Conv2d))


def test_a_backbone_without_batchnorm_is_left_alone() -> None:
    backbone = build_backbone(
        recipe.Model.model_validate({"backbone": "test_vit", "pretrained": False, "norm": "group"})
    )
    assert backbone.norm is None
    names = {type(m) for m in backbone.module.modules()}
    assert names == {type(m) for m in timm.create_model("test_vit", num_classes=0).modules()}


@pytest.mark.parametrize(
    ("images", "tiles", "pretrained", "wanted"),
    [(8, 4, True, "frozen_statistics"), (32, 2, True, "live"), (2, 1, False, "group"), (8, 4, False, "live")],
)
def test_auto_goes_by_the_effective_batch(images: int, tiles: int, pretrained: bool, wanted: str) -> None:
    train = recipe.Train.model_validate({"finetune": {"batch_images": images, "tiles_per_image": tiles}})
    name, reason = choose_norm(train, pretrained=pretrained)
    assert name == wanted
    assert str(images) in reason or str(images * tiles) in reason
