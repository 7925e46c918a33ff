"""A folder of new images: tables by image and case, refusals, and a command that is killed and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from handed import Handed
from smalti.cli import app
from smalti.errors import RunError, SmaltiError
from smalti.model import answer_folder, average_answers, list_columns, load_model
from textures import CLASSES, write_lines

COLUMNS = [f"score_{name}" for name in CLASSES]
KILLED = """
import os, signal, sys
from pathlib import Path
from smalti.model import answer_folder, load_model
def count(done, total):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
answer_folder(load_model(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), progress=count)
"""


@pytest.fixture
def new(handed: Handed, tmp_path: Path) -> Path:
    """Six images without masks in folders, two each, a broken one among them, and cases that cross the folders."""
    folder = tmp_path / "new"
    for number, path in enumerate(handed.files):
        place = folder / f"day {number // 2}" / f"x{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    broken = folder / "day 0" / "broken.png"
    broken.write_bytes((folder / "day 0" / "x0.png").read_bytes()[:300])
    names = [f"day {number // 2}/x{number}.png" for number in range(6)]
    write_lines(folder / "cases.csv", "image,case", *(f"{name},p{number % 3}" for number, name in enumerate(names)))
    return folder


def test_a_folder_is_answered_by_image_and_by_case(handed: Handed, new: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in new.rglob("*")}
    model, seen = load_model(handed.models / "solved"), []
    found = answer_folder(model, new, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    empty = dict.fromkeys(COLUMNS, "")
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False, na_values=empty)
    assert set(table["image"]) == {path.relative_to(new).as_posix() for path in new.rglob("*.png")}
    refused = table[table["refused"] != ""]
    assert refused["image"].tolist() == ["day 0/broken.png"]
    assert refused[COLUMNS].isna().all(axis=None)
    assert "truncated" in refused["refused"].item()
    assert seen == [(n, 7) for n in range(1, 8)]
    plain = model.predict([new / name for name in table["image"]])
    pd.testing.assert_frame_equal(plain[COLUMNS], table[COLUMNS], atol=1e-6)
    answered = table[table["refused"] == ""]
    by_case = pd.read_csv(tmp_path / "out" / "by_case.csv").set_index("case")
    for case, rows in answered.groupby("case"):
        assert by_case.loc[case, "images"] == len(rows)
        assert by_case.loc[case, COLUMNS].tolist() == pytest.approx(rows[COLUMNS].mean().tolist(), abs=1e-8)
        assert by_case.loc[case, "predicted"] == CLASSES[rows[COLUMNS].mean().to_numpy().argmax()]
    assert sorted(set(answered["case"])) == ["p0", "p1", "p2"]
    assert [sample.image for sample in found.fresh.samples] == table["image"].tolist()
    assert {path: path.stat().st_mtime_ns for path in new.rglob("*")} == before


def test_a_killed_command_goes_on_to_the_same_bytes(handed: Handed, new: Path, tmp_path: Path) -> None:
    model = handed.models / "colour"
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED, str(model), str(new), str(killed)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (killed / "predictions.csv").exists()
    rows = (killed / "answered.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3
    with (killed / "answered.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"image": "day 1/x')
    said: list[str] = []
    asked: list[int] = []
    answer_folder(load_model(model), new, killed, say=said.append, progress=lambda n, total: asked.append(n))
    assert asked == [4, 5, 6, 7]
    assert any("3 of 7 images are answered already" in text for text in said)
    answer_folder(load_model(model), new, whole)
    for name in ("predictions.csv", "by_case.csv", "predictions.json", "answered.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_what_changed_is_asked_again_and_nothing_else(handed: Handed, new: Path, tmp_path: Path) -> None:
    model, out = load_model(handed.models / "colour"), tmp_path / "out"
    first = answer_folder(model, new, out).table.set_index("image")
    shutil.copy(new / "day 2" / "x5.png", new / "day 0" / "x0.png")
    shutil.copy(new / "day 2" / "x5.png", new / "day 2" / "another.png")
    asked: list[int] = []
    table = answer_folder(model, new, out, progress=lambda n, total: asked.append(n)).table.set_index("image")
    assert asked == [7, 8]
    for name in ("day 0/x0.png", "day 2/another.png"):
        assert table.loc[name, COLUMNS].tolist() == pytest.approx(first.loc["day 2/x5.png", COLUMNS].tolist())


def test_answers_are_not_mixed_and_never_lie_among_the_images(handed: Handed, new: Path, tmp_path: Path) -> None:
    colour, solved = (load_model(handed.models / name) for name in ("colour", "solved"))
    out = tmp_path / "out"
    answer_folder(colour, new, out)
    for model, folder, mpp in ((solved, new, None), (colour, handed.pictures, None), (colour, new, 0.5)):
        with pytest.raises(RunError, match=r"answers of another model or folder.*Fix: --out"):
            answer_folder(model, folder, out, mpp=mpp)
    with pytest.raises(RunError, match=r"lies inside the images.*Fix: "):
        answer_folder(colour, new, new / "out")
    with pytest.raises(RunError, match=r"holds something else.*Fix: "):
        answer_folder(colour, new, handed.models)


def test_an_opacity_that_was_never_filled_is_answered_with_a_note(handed: Handed, tmp_path: Path) -> None:
    model, new, out = load_model(handed.models / "colour"), tmp_path / "new", tmp_path / "out"
    new.mkdir()
    for number, path in enumerate(handed.files[:3]):
        picture = Image.open(path).convert("RGB")
        picture.save(new / f"plain{number}.png")
        picture.putalpha(0 if number else 255)
        picture.save(new / f"x{number}.png")
    said: list[str] = []
    table = answer_folder(model, new, out, say=said.append).table.set_index("image")
    for number in range(3):
        assert table.loc[f"x{number}.png", COLUMNS].tolist() == table.loc[f"plain{number}.png", COLUMNS].tolist()
    note = "alpha-zero (2): x1.png has an opacity of 0 everywhere, which was never filled: its colours are read."
    assert said.count(note) == 1
    told: list[str] = []
    answer_folder(model, new, out, say=told.append)  # nothing is asked again, and the note is not lost
    assert note in told
    heard: list[str] = []
    model.predict([new / "x1.png", new / "plain1.png"], say=heard.append)
    assert heard == [note.replace("(2): x1.png", f"(1): {new / 'x1.png'}")]


def test_masks_beside_the_images_are_used(handed: Handed, tmp_path: Path) -> None:
    wanted = handed.read_wanted("attention")
    table = answer_folder(load_model(handed.models / "attention"), handed.pictures, tmp_path / "out").table
    assert table["image"].tolist() == [path.name for path in handed.files]
    assert abs(table[COLUMNS].to_numpy() - wanted.to_numpy()).max() < 1e-6


def test_a_model_reads_a_folder_by_data_settings_alone(handed: Handed) -> None:
    model = load_model(handed.models / "colour")
    assert list_columns(model, ["data.case=patient"]).case == "patient"
    with pytest.raises(SmaltiError, match=r"as it was trained.*Fix: "):
        list_columns(model, ["tile.size_px=32"])


def test_the_command_says_where_the_answers_are(handed: Handed, new: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["predict", str(handed.models / "colour"), str(new)])
    assert done.exit_code == 0, done.output
    assert "6 images answered, 1 refused" in done.output
    assert "result: predictions.csv and by_case.csv in predictions/new" in done.output
    assert (tmp_path / "predictions" / "new" / "by_case.csv").is_file()
    done = CliRunner().invoke(app, ["predict", str(tmp_path), str(new)])
    assert done.exit_code == 2


def test_a_case_without_an_answered_image_has_no_class() -> None:
    rows = [
        ("a", "p", "A", 0.6, 0.4, 1.0, ""),
        ("b", "p", "B", 0.1, 0.9, 1.0, ""),
        ("c", "q", "", None, None, None, "no"),
    ]
    table = pd.DataFrame(rows, columns=["image", "case", "predicted", "score_A", "score_B", "agreement", "refused"])
    by_case = average_answers(table, ("A", "B"))
    assert by_case["case"].tolist() == ["p", "q"]
    assert by_case["predicted"].tolist() == ["B", ""]
    assert by_case[["images", "refused"]].to_numpy().tolist() == [[2, 0], [0, 1]]
    assert by_case["score_B"][0] == pytest.approx(0.65)
