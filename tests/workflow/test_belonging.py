"""Seals and decisions belong to what images hold: copies, renamed, changed and namesake folders, hand-made files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn_records import draw_cohort_record
from smalti import workflow
from smalti.audit import Audit, read_decisions
from smalti.errors import DataError
from smalti.logbook.seal import find_seal, list_seals, read_seal, write_seal
from smalti.recipe import load_recipe
from smalti.review import ReviewSession
from smalti.store import hash_file
from smalti.types import Cohort
from smalti.workflow import Ground
from textures import write_lines

LOOK = "audit.checks=[exact-duplicate]"
HEADER = "image,action,label,reason,who,when"


def name_image(number: int) -> str:
    return f"i{number:02d}.png"


def draw_table(folder: Path, *, seed: int = 0, cases: dict[int, str] | None = None) -> Path:
    """Twelve labelled images of noise and one to predict, with a table; the first eight are pairs of one case."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(13):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / name_image(number))
    return write_table(folder, cases or {})


def write_table(folder: Path, cases: dict[int, str], *, numbers: Iterable[int] = range(13)) -> Path:
    lines = ["image,label,case,part"]
    for n in numbers:
        case = cases.get(n, f"p{n // 2}" if n < 8 else f"s{n}")
        label = "AB"[n // 2 % 2] if n < 12 else ""
        lines.append(f"{name_image(n)},{label},{case},{'train' if label else 'test'}")
    write_lines(folder / "samples.csv", *lines)
    return folder


def look(data: Path, runs: Path, *settings: str, decisions: Path | None = None) -> tuple[Ground, str]:
    """The ground as every command has it, and all that was said."""
    said: list[str] = []
    project = workflow.Project(data, runs, decisions, workflow.Listener(say=said.append))
    ground = workflow.inspect_ground(project, load_recipe(settings=[LOOK, *settings]))
    return ground, "\n".join(said)


def list_sealed(ground: Ground) -> set[str]:
    return {s.image for s in ground.cohort.sealed}


def copy_as_folders(source: Cohort, target: Path, images: list[str], *, suffix: str = ".png") -> Path:
    """Class folders with some images under other names; every image a case of its own."""
    labels = {s.image: s.label for s in source.labelled}
    for number, image in enumerate(images):
        path = target / str(labels[image]) / f"x{number:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".png":
            shutil.copy(source.root / image, path)
        else:
            Image.open(source.root / image).save(path)
    return target


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_table(tmp_path / "a" / "data")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    path = tmp_path / "runs"
    path.mkdir()
    return path


# --- seals --------------------------------------------------------------------------------------------------------


def test_a_copy_under_another_name_has_the_same_images_sealed(data: Path, runs: Path, tmp_path: Path) -> None:
    first, _ = look(data, runs, "split.sealed_frac=0.25")
    made = (runs / "data.seal.json").read_bytes()
    copied, said = look(Path(shutil.copytree(data, tmp_path / "other")), runs)
    assert list_sealed(copied) == list_sealed(first) != set()
    assert all(s.label is None for s in copied.cohort.sealed)
    assert f"{len(list_sealed(first))} images here are sealed in {runs / 'data.seal.json'}" in said
    # It is the seal of the copy as well: no second one is made, and another share is refused.
    again, _ = look(tmp_path / "other", runs, "split.sealed_frac=0.25")
    assert list_sealed(again) == list_sealed(first)
    assert again.seals == (runs / "data.seal.json",)
    assert list(list_seals(runs)) == [runs / "data.seal.json"]
    assert (runs / "data.seal.json").read_bytes() == made


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_part_of_the_data_with_other_names_cases_and_files_has_its_sealed_images(
    suffix: str, data: Path, runs: Path, tmp_path: Path
) -> None:
    first, _ = look(data, runs, "split.sealed_frac=0.25")
    hidden = sorted(list_sealed(first))
    images = [*hidden[:2], *(s.image for s in first.cohort.labelled)]
    source = replace(first.whole, labelled=look(data, tmp_path / "none")[0].whole.labelled)
    ground, said = look(copy_as_folders(source, tmp_path / "part", images, suffix=suffix), runs)
    numbers = {Path(s.image).stem for s in ground.cohort.sealed}
    assert numbers == {"x000", "x001"}
    assert "2 images here are sealed in" in said


def test_a_sealed_image_takes_the_case_that_it_has_here_with_it(data: Path, runs: Path, tmp_path: Path) -> None:
    first, _ = look(data, runs, "split.sealed_frac=0.25")
    other = Path(shutil.copytree(data, tmp_path / "other"))
    image = min(list_sealed(first))
    partner = min({s.image for s in first.cohort.labelled})
    for number, gone in enumerate(list_sealed(first) - {image}):
        noise = np.random.default_rng([1, number]).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(other / gone)
    write_table(other, {n: "z" if name_image(n) in (image, partner) else str(n) for n in range(13)})
    ground, _ = look(other, runs)
    assert list_sealed(ground) == {image, partner}


def test_an_image_that_is_renamed_in_its_folder_stays_sealed(data: Path, runs: Path) -> None:
    first, _ = look(data, runs, "split.sealed_frac=0.25")
    images = sorted(list_sealed(first))
    one = int(images[0][1:3])
    other = next(n for n in range(12) if name_image(n) not in images)
    paths = [data / name_image(n) for n in (one, other)]
    keep = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(keep), strict=True):
        path.write_bytes(content)
    ground, _ = look(data, runs)
    assert {name_image(one), name_image(other)} <= list_sealed(ground)


def test_what_is_sealed_with_a_case_later_is_sealed_in_copies_too(data: Path, runs: Path, tmp_path: Path) -> None:
    first, _ = look(data, runs, "split.sealed_frac=0.25")
    late = min({s.image for s in first.cohort.labelled})
    case = next(s.case for s in first.cohort.sealed)
    write_table(data, {int(late[1:3]): case})
    assert late in list_sealed(look(data, runs)[0])
    copied = Path(shutil.copytree(data, tmp_path / "other"))
    write_table(copied, {n: str(n) for n in range(13)})
    assert list_sealed(look(copied, runs)[0]) == list_sealed(first) | {late}


@pytest.mark.slow
def test_another_folder_of_the_same_name_has_a_seal_of_its_own(data: Path, runs: Path, tmp_path: Path) -> None:
    first, _ = look(data, runs, "split.sealed_frac=0.25")
    other = draw_table(tmp_path / "b" / "data", seed=7)
    assert not list_sealed(look(other, runs)[0])
    second, _ = look(other, runs, "split.sealed_frac=0.3")
    assert {path.name for path in list_seals(runs)} > {"data.seal.json"}
    assert len(list_seals(runs)) == 2
    assert second.seals == (find_seal(workflow.Project(other, runs)),) != first.seals
    assert list_sealed(look(data, runs)[0]) == list_sealed(first)


def test_runs_on_a_copy_are_runs_before_the_seal(data: Path, runs: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(data, tmp_path / "other"))
    apart = draw_table(tmp_path / "apart", seed=7)
    for name, root in (("early", copied), ("foreign", apart)):
        ground, _ = look(root, runs, "audit.checks=[]")  # hashes are kept in the cache
        draw_cohort_record(ground.cohort.root.resolve()).write(runs / name)
    look(data, runs, "split.sealed_frac=0.25")
    seal = read_seal(runs / "data.seal.json")
    assert seal is not None
    assert seal.runs_before == ("early",)


@pytest.mark.parametrize("left", ["there", "gone", "elsewhere"])
def test_a_seal_that_is_older_than_hashes(left: str, data: Path, runs: Path, tmp_path: Path) -> None:
    first, _ = look(data, runs, "split.sealed_frac=0.25")
    path = runs / "data.seal.json"
    seal = read_seal(path)
    assert seal is not None
    write_seal(path, seal.model_copy(update={"files": (), "pixels": (), "cases": ()}))
    other = tmp_path / {"there": "other", "gone": "b/data", "elsewhere": "other"}[left]
    shutil.copytree(data, other)
    if left != "there":
        shutil.rmtree(data)
    ground, said = look(other, runs)
    assert list_sealed(ground) == (list_sealed(first) if left != "elsewhere" else set())
    assert ("taken by their names" in said) is (left == "gone")
    assert ("it is not followed here" in said) is (left == "elsewhere")
    if left == "there":
        assert read_seal(path).files == seal.files  # type: ignore[union-attr]


def test_a_folder_whose_images_are_all_sealed_is_refused(data: Path, runs: Path, tmp_path: Path) -> None:
    first, _ = look(data, runs, "split.sealed_frac=0.5")
    source = look(data, tmp_path / "none")[0].whole
    part = copy_as_folders(source, tmp_path / "part", sorted(list_sealed(first)))
    with pytest.raises(DataError, match=r"every case of A, B in .*part is sealed \(.*data\.seal\.json\).*Fix"):
        look(part, runs)


def test_a_seal_of_which_nothing_is_left_is_refused(data: Path, runs: Path) -> None:
    look(data, runs, "split.sealed_frac=0.25")
    shutil.rmtree(data)
    draw_table(data, seed=9)
    seal = read_seal(runs / "data.seal.json")
    assert seal is not None
    for image in seal.images:
        (data / image).unlink()
    write_table(
        data, {n: f"new{n}" for n in range(13)}, numbers=[n for n in range(13) if (data / name_image(n)).exists()]
    )
    with pytest.raises(DataError, match=r"none of the images that .*data\.seal\.json seals.*Fix"):
        look(data, runs)


def test_without_pixels_it_is_said_what_is_not_recognised(data: Path, runs: Path, tmp_path: Path) -> None:
    look(data, runs, "split.sealed_frac=0.25")
    copied = Path(shutil.copytree(data, tmp_path / "other"))
    ground, said = look(copied, runs, "audit.checks=[]")
    assert list_sealed(ground)  # by the bytes of files
    assert "copies of sealed images in other files are not recognised" in said


# --- decisions ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rows_by_hand_are_taken_as_about_the_folder_once_and_said(data: Path, runs: Path, tmp_path: Path) -> None:
    """A namesake that comes later has a file of its own, and what is decided there leaves the first alone."""
    path = write_lines(runs / "data.decisions.csv", HEADER, f"{name_image(3)},exclude,,torn,me,")
    ground, said = look(data, runs)
    assert len(ground.cohort.labelled) == 11
    assert f"1 decision(s) in {path} had no fingerprint" in said
    assert f"taken as about {data}, and fingerprinted now" in said
    row = read_decisions(path)[0]
    assert (row.content, row.folder, row.reason) == (hash_file(data / name_image(3)), str(data), "torn")
    written = path.read_bytes()
    ground, said = look(data, runs)
    assert len(ground.cohort.labelled) == 11
    assert "fingerprint" not in said

    other = draw_table(tmp_path / "b" / "data", seed=7)
    ground, said = look(other, runs)
    apart = workflow.find_decisions(workflow.Project(other, runs))
    assert not ground.decisions
    assert apart.name.startswith("data-")
    assert f"{path} is about another folder and is not followed; decisions about {other} are in {apart}" in said
    shutil.copy(other / name_image(4), other / name_image(5))
    ground, _ = look(other, runs, "audit.accept=[exact-duplicate]")
    assert [d.image for d in read_decisions(apart)] == [name_image(5)]
    assert path.read_bytes() == written
    assert len(look(data, runs)[0].cohort.labelled) == 11


def test_where_two_folders_are_known_rows_by_hand_are_refused_until_it_is_said(
    data: Path, runs: Path, tmp_path: Path
) -> None:
    other = draw_table(tmp_path / "b" / "data", seed=7)
    draw_cohort_record(data).write(runs / "one")
    path = write_lines(runs / "data.decisions.csv", HEADER, f"{name_image(3)},exclude,,about a,me,")
    text = path.read_bytes()
    with pytest.raises(DataError, match=rf"about {other} or about {data}.*i03.*Fix: 'smalti audit .*--decisions"):
        look(other, runs)
    assert path.read_bytes() == text
    assert len(look(data, runs, decisions=path)[0].cohort.labelled) == 11  # said by name
    assert not look(other, runs)[0].decisions
    assert len(look(data, runs)[0].cohort.labelled) == 11


def test_a_copy_or_a_renamed_folder_follows_what_was_decided_about_its_images(
    data: Path, runs: Path, tmp_path: Path
) -> None:
    write_lines(runs / "data.decisions.csv", HEADER, f"{name_image(3)},exclude,,torn,me,")
    look(data, runs)
    renamed = data.rename(data.with_name("new"))
    ground, said = look(renamed, runs)
    assert len(ground.cohort.labelled) == 11
    assert "the decisions in" in said
    moved = renamed.rename(tmp_path / "data")
    assert len(look(moved, runs)[0].cohort.labelled) == 11


def test_an_image_that_changed_since_is_refused_by_name_with_all_others(data: Path, runs: Path) -> None:
    rows = [f"{name_image(n)},exclude,,torn,me," for n in (3, 4)]
    path = write_lines(runs / "data.decisions.csv", HEADER, *rows)
    look(data, runs)
    shutil.copy(data / name_image(9), data / name_image(3))
    with path.open("a") as file:
        file.write("none.png,exclude,,x,me,,,,,\n")
    with pytest.raises(DataError) as caught:
        look(data, runs)
    assert [(p.code, p.file.split()[-1]) for p in caught.value.problems] == [
        ("decision-content", "2"), ("decision-image", "4"),
    ]  # fmt: skip
    assert "is another image than the one that was decided about" in str(caught.value)
    path.write_text(path.read_text().replace("none.png,exclude", f"{name_image(3)},reset"))
    assert {d.image for d in look(data, runs)[0].decisions} == {name_image(4)}


def test_a_renamed_image_is_refused_with_its_new_name(data: Path, runs: Path) -> None:
    write_lines(runs / "data.decisions.csv", HEADER, "i12.png,keep,,fine,me,")
    look(data, runs)
    (data / "i12.png").rename(data / "i99.png")
    (data / "samples.csv").write_text((data / "samples.csv").read_text().replace("i12.png", "i99.png"))
    with pytest.raises(DataError, match=r"no image 'i12.png'.*write 'i99.png'"):
        look(data, runs)


def test_rows_about_images_of_another_folder_do_nothing_and_that_is_said(
    data: Path, runs: Path, tmp_path: Path
) -> None:
    rows = [f"{name_image(3)},exclude,,torn,me,", "i12.png,keep,,fine,me,"]
    path = write_lines(runs / "data.decisions.csv", HEADER, *rows)
    look(data, runs)
    part = Path(shutil.copytree(data, tmp_path / "part", ignore=shutil.ignore_patterns("i12.png")))
    write_table(part, {}, numbers=range(12))
    ground, said = look(part, runs, decisions=path)
    assert [d.image for d in ground.decisions] == [name_image(3)]
    assert f"1 images in {path} are not in {part}, such as i12.png" in said


def test_a_file_in_the_data_folder_is_followed_and_not_written_to(data: Path, runs: Path) -> None:
    path = write_lines(data / "decisions.csv", HEADER, f"{name_image(3)},exclude,,torn,me,")
    text = path.read_bytes()
    ground, said = look(data, runs, decisions=path)
    assert len(ground.cohort.labelled) == 11
    assert path.read_bytes() == text
    assert "taken as about" in said
    assert ground.decisions[0].content == hash_file(data / name_image(3))


def test_images_that_cannot_be_read_are_decided_by_content_too(data: Path, runs: Path) -> None:
    """An image that was repaired since is another one: leaving it out for ever would be said by nobody."""
    path = data / name_image(3)
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    project, recipe = workflow.Project(data, runs), load_recipe(settings=[LOOK])
    workflow.inspect_ground(project, recipe, problems="skip")
    assert len(workflow.inspect_ground(project, recipe).cohort.labelled) == 11
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"i03\.png' is another image"):
        workflow.inspect_ground(project, recipe)


def test_what_is_decided_on_the_page_says_what_it_is_about(data: Path, runs: Path) -> None:
    ground, _ = look(data, runs)
    path = workflow.find_decisions(workflow.Project(data, runs))
    session = ReviewSession(ground.whole, Audit((), {}), decisions_path=path, who="me", contents=ground.contents)
    session.record([name_image(3)], "exclude", entry="one")
    session.record([name_image(4)], "exclude", entry="two")
    session.undo("two", entry="three")
    rows = read_decisions(path)
    assert [row.content for row in rows] == [hash_file(data / row.image) for row in rows]
    assert {row.folder for row in rows} == {str(data)}
    assert "fingerprint" not in look(data, runs)[1]


def test_names_that_lead_out_of_the_folder_or_to_no_file_are_only_names(data: Path, runs: Path) -> None:
    os.mkfifo(data / "pipe.png")
    names = ["/etc/hostname", "../../runs/data.decisions.csv", "pipe.png", "."]
    write_lines(runs / "data.decisions.csv", f"{HEADER},content", *(f"{n},keep,,x,me,,abc" for n in names))
    assert workflow.find_decisions(workflow.Project(data, runs)).name != "data.decisions.csv"  # nothing of it is here
