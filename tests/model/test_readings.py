"""Masks are read as in training, and only what has a share in the answer is counted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from formed import RUNS
from smalti.errors import DataError, RunError
from smalti.model import list_columns, load_model
from smalti.model.bundle import write_combination
from smalti.records import RunFolder
from smalti.records.layout import MODEL, MODEL_RECORD
from textures import CLASSES

pytestmark = pytest.mark.slow
SCORES = [f"score_{name}" for name in CLASSES]


def edit(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None, **data: Any) -> Path:
    """Change the record of a model, and the section ``data`` of its members with networks."""
    record = json.loads((folder / MODEL_RECORD).read_text())
    change(record)
    for member in record["members"]:
        path = folder / member["recipe"]
        if member["networks"] and data:
            recipe = yaml.safe_load(path.read_text())
            recipe["data"].update(data)
            path.unlink()  # it may be a link
            path.write_text(yaml.safe_dump(recipe))
            record["files"][member["recipe"]] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / MODEL_RECORD).write_text(json.dumps(record))
    return folder


def copy_together(forms: Path, to: Path) -> Path:
    """Copy the model of two members."""
    return shutil.copytree(forms / "together" / MODEL, to / "model")


def test_masks_are_read_by_the_recipe_of_the_networks(forms: Path, tmp_path: Path) -> None:
    folder = edit(copy_together(forms, tmp_path), mask_inverted=True)
    model = load_model(folder, device="cpu")
    assert list_columns(model).mask_inverted is True
    pixels = np.random.default_rng(1).integers(40, 220, (128, 192, 3), dtype=np.uint8)
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[:64, :64] = 255
    for name, array in (("x.png", pixels), ("m.png", 255 - mask)):
        Image.fromarray(array).save(tmp_path / name)
    wanted = model.predict([pixels], [mask])[SCORES].to_numpy()
    for picture in (pixels, tmp_path / "x.png"):
        np.testing.assert_allclose(model.predict([picture], [tmp_path / "m.png"])[SCORES], wanted, atol=1e-6)
    assert abs(model.predict([pixels], [255 - mask])[SCORES].to_numpy() - wanted).max() > 1e-5


def test_masks_that_were_fitted_in_training_are_no_single_file(forms: Path, tmp_path: Path) -> None:
    model = load_model(edit(copy_together(forms, tmp_path), mask_fit="pad"), device="cpu")
    with pytest.raises(DataError, match=r"data.mask_fit=pad.*Fix: .*FOLDER"):
        model.predict(["x.png"], ["m.png"])


def test_members_that_read_files_differently_are_not_combined(forms: Path, tmp_path: Path) -> None:
    for name in RUNS:
        shutil.copytree(forms / name, tmp_path / name)
    members = [tmp_path / "plain", tmp_path / "rich"]
    edit(members[0] / MODEL, lambda record: record.update(bits=12))
    with pytest.raises(RunError, match=r"bits .*plain: 12, rich: None.*Fix: "):
        write_combination(RunFolder(tmp_path / "together"), members)
    edit(members[0] / MODEL, lambda record: record.update(bits=None), mask_inverted=True)
    with pytest.raises(RunError, match=r"data.mask_inverted .*plain: True, rich: None.*Fix: "):
        write_combination(RunFolder(tmp_path / "together"), members)


def test_networks_without_a_share_are_not_asked_for_agreement(forms: Path, tmp_path: Path) -> None:
    def silence(record: dict[str, Any]) -> None:
        for blend in record["members"][-1]["blends"]:
            blend["weights"] = {name: float(name.endswith("plain")) for name in blend["weights"]}

    model = load_model(edit(copy_together(forms, tmp_path), silence), device="cpu")
    assert [member.votes for member in model.members] == [True, False, False]
    alone = load_model(forms / "plain" / MODEL, device="cpu")
    pictures = list(np.random.default_rng(2).integers(40, 220, (6, 128, 128, 3), dtype=np.uint8))
    agreement = model.predict(pictures)["agreement"]
    assert agreement.isin([n / len(alone.members[0].network_of) for n in range(20)]).all()
    assert len({len(member.network_of) for member in model.members[:2]}) == 1
