"""The map of an answer: each place says what the networks say of the tile there, asked alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from handed import Handed
from smalti.model import Drawn, Model, load_model
from smalti.model.loaded import Bags, score_image
from smalti.model.mapping import map_scores
from smalti.records.layout import MODEL
from smalti.tile import frame_array, hold_scene
from smalti.types import Sample

SIDE_PX = 64  # of a tile, by the recipes of the tests
ROWS, COLUMNS = 2, 3


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """Six tiles of different tissue, without glass between them."""
    rng = np.random.default_rng(3)
    tiles = [rng.integers(60, 120 + 20 * n, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8) for n in range(ROWS * COLUMNS)]
    lines = [np.hstack(tiles[row * COLUMNS : (row + 1) * COLUMNS]) for row in range(ROWS)]
    return np.vstack(lines)


def open_model(folder: Path) -> Model:
    """A model that refuses nothing, for the drawn pictures are no tissue."""
    model = load_model(folder, device="cpu")
    return Model(model.folder, model.record, model.members)


def cut(model: Model, pixels: NDArray[np.uint8]) -> Bags:
    """What the members of a model see of a picture."""
    stores = {}
    for member in model.members:
        if member.backbone is not None:
            scene, tile_px = frame_array("x", pixels, None), member.member.tile_px or 0
            stores[member.tiling] = hold_scene(scene, member.recipe.tile, tile_px=tile_px, given=False, name="x")
    return Bags(stores)


@pytest.mark.parametrize("name", ["plain", "rich", "together"])
def test_each_place_says_what_the_networks_say_of_its_tile_alone(
    forms: Path, picture: NDArray[np.uint8], name: str
) -> None:
    model = open_model(forms / name / MODEL)
    answer, seen = model.map_answer(Drawn("x", "x", picture, None))
    assert seen is not None
    assert answer.scores is not None
    label, networks = int(np.argmax(answer.scores)), sum(len(m.network_of) for m in model.members)
    assert (seen.networks, seen.scale, seen.heat.shape) == (networks, 1.0, picture.shape[:2])
    for row in range(0, ROWS * SIDE_PX, SIDE_PX):
        for column in range(0, COLUMNS * SIDE_PX, SIDE_PX):
            tile = picture[row : row + SIDE_PX, column : column + SIDE_PX]
            _, single = score_image(model.members, cut(model, tile), classes=model.classes)
            place = seen.heat[row : row + SIDE_PX, column : column + SIDE_PX]
            assert place == pytest.approx(single[:, label].mean(), abs=1e-5), (row, column)
            if name != "together":  # whose answer weighs its networks
                alone = model.predict([tile])[f"score_{model.classes[label]}"].item()
                assert place == pytest.approx(alone, abs=1e-5)


def test_an_image_of_one_tile_has_no_map(forms: Path, picture: NDArray[np.uint8]) -> None:
    answer, seen = open_model(forms / "plain" / MODEL).map_answer(Drawn("x", "x", picture[:SIDE_PX, :SIDE_PX], None))
    assert (answer.refused, seen) == ("", None)


def test_a_refused_image_has_no_map(forms: Path, challenge: Path, picture: NDArray[np.uint8]) -> None:
    model = load_model(forms / "plain" / MODEL, device="cpu")
    path = sorted((challenge / "test_data").glob("img_*.png"))[0]
    answer, seen = model.map_answer(Sample("x", path, None, None, "x", "x"))
    assert (answer.refused, seen is not None) == ("", True)
    answer, seen = model.map_answer(Drawn("x", "x", picture, None))  # noise is no tissue
    assert (answer.refused != "", seen) == (True, None)


def test_networks_that_read_the_mask_say_nothing_of_a_tile(handed: Handed) -> None:
    model = load_model(handed.models / "finetuned", device="cpu")
    look = cut(model, np.full((2 * SIDE_PX, 2 * SIDE_PX, 3), 120, np.uint8))
    assert map_scores(model.members, look, classes=model.classes, label=0, size_px=(128, 128)) is None
