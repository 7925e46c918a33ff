"""The definitions of glass, tissue and optical density, all measured on the same drawn images."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from smalti.tissue.density import (
    DENSITY,
    STAIN_DENSITY,
    measure_absorbance,
    measure_log_light,
    measure_relative_density,
)
from smalti.tissue.foreground import (
    find_dense,
    find_glass_colour,
    find_light,
    find_stain,
    find_tissue,
    split_by_density,
)
from tissues import draw_tissue

Picture = NDArray[np.uint8]
SIDE = 256


def draw_half(left: Picture | tuple[int, int, int], *, glass: tuple[int, int, int] = (244, 243, 245)) -> Picture:
    """Draw glass with something on its left half; a camera adds noise."""
    noise = np.random.default_rng(0).normal(0, 1, (SIDE, SIDE, 3))
    picture = np.clip(np.array(glass) + noise, 0, 255).astype(np.uint8)
    half = np.broadcast_to(left, (SIDE, SIDE, 3)) if isinstance(left, tuple) else left
    picture[:, : SIDE // 2] = half[:, : SIDE // 2]
    return picture


def share_tissue(picture: Picture) -> dict[str, float]:
    """Return the share of the image that each definition calls tissue, or at least not glass."""
    pixels = picture.reshape(-1, 3)
    light = np.percentile(pixels, 99, axis=0)
    _, stained = find_stain(np.maximum(measure_absorbance(picture, find_glass_colour(light)), 0))
    dense, clear = split_by_density(pixels.astype(np.float64), light)
    return {
        "mask": float(find_tissue(picture).mean()),
        "stain": float(stained.mean()),
        "not light": float(1 - find_light(picture, grey=False).mean()),
        "not light and grey": float(1 - find_light(picture, grey=True).mean()),
        "dense": float(dense.mean()),
        "not clear": float(1 - clear.mean()),
        "any channel": float(find_dense(STAIN_DENSITY[pixels], channels="any").mean()),
        "all channels": float(find_dense(STAIN_DENSITY[pixels], channels="all").mean()),
    }


def test_all_definitions_agree_on_stained_tissue_beside_white_glass() -> None:
    shares = share_tissue(draw_half(draw_tissue(0, amount=3.0)))
    assert shares.pop("all channels") < 0.2  # eosin alone lets red light pass
    assert shares == pytest.approx(dict.fromkeys(shares, 0.5), abs=0.06)


@pytest.mark.parametrize(
    ("left", "tissue", "glass"),
    [
        # Grey dirt is darker than glass, but not stained.
        ((110, 110, 110), {"mask", "not light", "not light and grey", "dense", "not clear", "any channel"}, {"stain"}),
        # Pale paint has a colour and lets most light through.
        (
            (250, 205, 225),
            {"mask", "stain", "not light and grey", "any channel"},
            {"not light", "all channels", "dense", "not clear"},
        ),
    ],
)
def test_definitions_differ_as_their_reasons_say(left: tuple[int, int, int], tissue: set[str], glass: set[str]) -> None:
    shares = share_tissue(draw_half(left))
    assert {name: shares[name] for name in tissue} == pytest.approx(dict.fromkeys(tissue, 0.5), abs=0.03)
    assert {name: shares[name] for name in glass} == pytest.approx(dict.fromkeys(glass, 0.0), abs=0.03)


def test_only_definitions_that_know_the_light_of_the_image_find_glass_under_a_dim_lamp() -> None:
    dim = draw_half((draw_tissue(0, amount=3.0) * 0.7).astype(np.uint8), glass=(171, 170, 172))
    shares = share_tissue(dim)
    relative = {"stain", "dense", "not clear"}
    assert {name: shares[name] for name in relative} == pytest.approx(dict.fromkeys(relative, 0.5), abs=0.06)
    absolute = {"not light", "not light and grey", "any channel"}
    assert {name: shares[name] for name in absolute} == pytest.approx(dict.fromkeys(absolute, 1.0), abs=0.01)


def test_an_image_without_glass_or_without_tissue_is_all_mask() -> None:
    assert find_tissue(draw_tissue(1, amount=1.5)).mean() > 0.99
    assert find_tissue(draw_half((250, 250, 250), glass=(250, 250, 250))).all()


def test_scales_of_density_differ_by_a_factor_and_an_offset() -> None:
    levels = np.arange(256)
    np.testing.assert_allclose(DENSITY, -np.log10((levels + 1) / 256), atol=1e-6)
    np.testing.assert_allclose(STAIN_DENSITY, -np.log((levels + 1) / 240), atol=1e-6)
    picture = draw_tissue(2)
    natural = measure_absorbance(picture, 255)
    np.testing.assert_allclose(natural, np.log(10) * DENSITY[picture], atol=0.02 * natural.max())
    pixels = picture.reshape(-1, 3).astype(np.float64)
    relative = measure_relative_density(pixels, np.full(3, 255.0))
    np.testing.assert_allclose(relative, DENSITY[picture].reshape(-1, 3).mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(
        measure_log_light(picture[..., 1], offset=1), np.log(10) * DENSITY[picture[..., 1]], atol=1e-5
    )
