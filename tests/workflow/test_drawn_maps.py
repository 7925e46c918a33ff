"""Maps beside the answers of a folder: one for each answered image, kept, and drawn anew where the image changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from smalti import cli


def test_maps_are_drawn_kept_and_drawn_anew_with_their_image(forms: Path, challenge: Path, tmp_path: Path) -> None:
    new, out = tmp_path / "new", tmp_path / "out"
    new.mkdir()
    first, second = sorted((challenge / "test_data").glob("img_*.png"))[:2]
    shutil.copy(first, new / "a.png")
    Image.open(first).convert("RGB").save(new / "a.tif")  # the same name but for its suffix
    (new / "broken.png").write_bytes(first.read_bytes()[:200])
    command = ["predict", str(forms / "plain"), str(new), "--out", str(out), "--device", "cpu"]
    runner = CliRunner()
    assert runner.invoke(cli.app, command).exit_code == 0
    assert not (out / "maps").exists()
    done = runner.invoke(cli.app, [*command, "--maps"])
    assert done.exit_code == 0, done.output
    assert "2 maps in" in done.output
    paths = sorted((out / "maps").iterdir())
    assert [path.name for path in paths] == ["a.png.png", "a.tif.png"]
    for path in paths:
        with Image.open(path) as drawn, Image.open(first) as image:
            assert drawn.size == image.size
            assert not np.array_equal(np.asarray(drawn), np.asarray(image.convert("RGB")))
    times = [path.stat().st_mtime_ns for path in paths]
    assert runner.invoke(cli.app, [*command, "--maps"]).exit_code == 0
    assert [path.stat().st_mtime_ns for path in paths] == times
    shutil.copy(second, new / "a.png")
    assert runner.invoke(cli.app, command).exit_code == 0  # without maps: that of the earlier image must not stay
    assert [path.name for path in (out / "maps").iterdir()] == ["a.tif.png"]
    assert runner.invoke(cli.app, [*command, "--maps"]).exit_code == 0
    with Image.open(out / "maps" / "a.png.png") as drawn, Image.open(second) as image:
        assert drawn.size == image.size


def test_maps_of_the_images_of_a_run_are_those_of_explain(forms: Path) -> None:
    refused = CliRunner().invoke(cli.app, ["predict", str(forms / "plain"), "--maps"])
    assert (refused.exit_code, "smalti explain" in refused.output) == (2, True)
