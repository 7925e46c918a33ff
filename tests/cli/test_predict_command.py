"""What ``predict``, ``report`` and ``export`` refuse before they do anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from smalti.cli import app
from smalti.errors import RecipeError
from smalti.model import load_model
from smalti.records.layout import MODEL_RECORD


def ask(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


def test_options_of_new_images_are_not_passed_over(tmp_path: Path) -> None:
    for words, named in (
        (["--out", "x"], "--out"),
        (["--mpp", "0.5", "--by", "sex"], "--mpp, --by"),
        (["--maps"], "--maps"),
    ):
        said = ask("predict", str(tmp_path), *words)
        assert f"{named}: for new images alone" in said
        assert "NEW_FOLDER" in said


def test_a_model_folder_is_no_run(tmp_path: Path) -> None:
    (tmp_path / MODEL_RECORD).write_text("{}", encoding="utf-8")
    assert "is a model folder" in ask("predict", str(tmp_path))
    assert "is a model folder" in ask("report", str(tmp_path))


def test_a_slip_in_a_form_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--to torchscript, or --to ./torchscrip for a folder" in ask("export", "run", "--to", "torchscrip")
    assert "is no form" not in ask("export", "run", "--to", "ONNX")
    assert not list(tmp_path.iterdir())


def test_a_device_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'gpu'.*Fix: one of auto, cuda, mps, cpu"):
        load_model(tmp_path, device="gpu")
