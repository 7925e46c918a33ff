"""A model that was moved says what its run said, in a process that has nothing else; and says so in any order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from handed import RECIPES, Handed
from smalti.model import load_model, predicting
from textures import CLASSES

COLUMNS = [f"score_{name}" for name in CLASSES]
FRESH = """
import sys
from pathlib import Path
import smalti
pictures, out = Path(sys.argv[1]), Path(sys.argv[2])
files, masks = sorted(pictures.glob("img_*.png")), sorted(pictures.glob("mask_*.png"))
for folder in map(Path, sys.argv[3:]):
    smalti.load_model(folder, device="cpu").predict(files, masks).to_csv(out / f"{folder.name}.csv", index=False)
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Give torch its number of threads back."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def said(handed: Handed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """What each model says in a fresh process, elsewhere, without a hub or a home."""
    place = tmp_path_factory.mktemp("elsewhere")
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HOME": str(place), "HF_HOME": str(place), "TORCH_HOME": str(place)}
    folders = [str(handed.models / name) for name in RECIPES]
    command = [sys.executable, "-c", FRESH, str(handed.pictures), str(place), *folders]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: pd.read_csv(place / f"{name}.csv", keep_default_na=False) for name in RECIPES}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_moved_model_says_what_its_run_said(name: str, said: dict[str, pd.DataFrame], handed: Handed) -> None:
    table, wanted = said[name], handed.read_wanted(name)
    assert [Path(image).name for image in table["image"]] == [Path(image).name for image in wanted.index]
    np.testing.assert_allclose(table[COLUMNS], wanted, atol=1e-6)
    assert table["predicted"].tolist() == [CLASSES[i] for i in wanted.to_numpy().argmax(axis=1)]
    assert (table["refused"] == "").all()
    assert table["agreement"].between(0, 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["solved", "attention", "finetuned"])
def test_order_company_threads_and_arrays_change_nothing(name: str, handed: Handed, one_thread: None) -> None:
    import torch

    model = load_model(handed.models / name, device="cpu")
    plain = model.predict(handed.files, handed.masks).set_index("image")[COLUMNS]
    torch.set_num_threads(2)
    turned = model.predict(handed.files[::-1], handed.masks[::-1]).set_index("image")[COLUMNS]
    np.testing.assert_allclose(turned.loc[plain.index], plain, atol=1e-5)
    pictures = [np.asarray(Image.open(path)) for path in handed.files[2:4]]
    marks = [np.asarray(Image.open(path)) for path in handed.masks[2:4]]
    np.testing.assert_allclose(model.predict(pictures, marks)[COLUMNS], plain[2:4], atol=1e-5)
    np.testing.assert_allclose(model.predict(pictures, handed.masks[2:4])[COLUMNS], plain[2:4], atol=1e-5)
    np.testing.assert_allclose(model.predict(handed.files[2:4], marks)[COLUMNS], plain[2:4], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["solved", "finetuned"])
def test_a_large_image_is_cut_on_disk_to_the_same_answer(
    name: str, handed: Handed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = load_model(handed.models / name, device="cpu")
    held = model.predict(handed.files[:2], handed.masks[:2])
    monkeypatch.setattr(predicting, "is_large", lambda *_, **__: True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    np.testing.assert_allclose(model.predict(handed.files[:2], handed.masks[:2])[COLUMNS], held[COLUMNS], atol=1e-6)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_agreement_is_the_share_of_networks_that_name_the_class(handed: Handed) -> None:
    table = load_model(handed.models / "finetuned", device="cpu").predict(handed.files, handed.masks)
    single = pd.read_csv(handed.models / "finetuned.test.csv").sort_values("image", kind="stable")
    single["said"] = [CLASSES[i] for i in single[COLUMNS].to_numpy().argmax(axis=1)]
    for row, (_, group) in zip(table.itertuples(), single.groupby("image"), strict=True):
        assert row.agreement == pytest.approx((group["said"] == row.predicted).mean())


@pytest.mark.slow
def test_cases_masks_and_what_cannot_be_read(handed: Handed, tmp_path: Path) -> None:
    model = load_model(handed.models / "colour", device="cpu")
    broken = tmp_path / "broken.png"
    broken.write_bytes(handed.files[0].read_bytes()[:200])
    small, grey = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    table = model.predict(
        [handed.files[0], broken, tmp_path / "none.png", small, grey],
        [None, small[..., 0], None, grey[:20], None],
        cases=["p", "p", "q", "r", "r"],
    )
    assert table["case"].tolist() == ["p", "p", "q", "r", "r"]
    assert (table["refused"] == "").tolist() == [True, False, False, False, False]
    assert (table["predicted"] == "").tolist() == [False, True, True, True, True]
    assert table[COLUMNS].isna().all(axis=1).tolist() == [False, True, True, True, True]
    assert "its mask has shape" in table["refused"][3]
