"""Sites are read from a column, a level of folders or barcodes, guessed only where that is sound, and never a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalti.cohort import Columns, inspect_folder, read_cohort
from smalti.records import hash_cohort, tabulate_samples
from smalti.types import SAMPLE_COLUMNS, Cohort


def draw(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, format="PNG")
    return root


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def has_note(cohort: Cohort, *texts: str) -> bool:
    return any(all(text in note for text in texts) for note in cohort.notes)


def listed(root: Path, head: str, *rows: str) -> Path:
    """A folder of twelve images of six patients, with a table of these columns after image, patient and label."""
    draw(root, *(f"images/{i}.png" for i in range(12)))
    write(root / "labels.csv", f"image,patient,label,{head}",
          *(f"{i}.png,p{i // 2},{'AB'[i // 2 % 2]},{row}" for i, row in enumerate(rows)))  # fmt: skip
    return root


HOSPITALS = [f"h{i // 2 % 3}" for i in range(12)]


@pytest.mark.parametrize("name", ["site", "Centre", "hospital", "Slide Scanner", "tissue_source_site", "batch"])
def test_a_column_with_a_common_name_is_the_site_and_said(tmp_path: Path, name: str) -> None:
    cohort = read_cohort(listed(tmp_path, name, *HOSPITALS))
    assert [s.site for s in cohort.labelled] == HOSPITALS
    assert has_note(cohort, f"column '{name}' of labels.csv", "3 site(s)", "h0 (4)")
    assert cohort.classes == ("A", "B")


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["h"] * 12, ""),
        ([f"h{i}" for i in range(12)], ""),
        ([f"h{i % 2}" for i in range(12)], "differs inside 6 case(s), such as p0 (h0, h1)"),
        (["h0", "h0", "h1", "h1", *["unknown"] * 8], "67% of the images have none"),
    ],
)
def test_a_guess_that_is_not_sound_is_not_taken(tmp_path: Path, cells: list[str], why: str) -> None:
    cohort = read_cohort(listed(tmp_path, "scanner", *cells))
    assert {s.site for s in cohort.labelled} == {""}
    assert has_note(cohort, "is not taken", why) == bool(why)


def test_a_named_column_is_taken_as_it_is(tmp_path: Path) -> None:
    root = listed(tmp_path, "where,scanner", *(f"{site},{'xy'[i % 2]}" for i, site in enumerate(HOSPITALS)))
    assert [s.site for s in read_cohort(root, columns=Columns(site="where")).labelled] == HOSPITALS
    crossing = read_cohort(root, columns=Columns(site="scanner"))
    assert [s.site for s in crossing.labelled] == ["x", "y"] * 6
    assert has_note(crossing, "6 case(s) lie in several sites, such as p0 (x, y)", "held out together")
    _, problems = inspect_folder(root, columns=Columns(site="ward"))
    assert [(p.code, "'ward' (site)" in p.message) for p in problems] == [("column-missing", True)]


def test_spellings_of_a_site_are_one(tmp_path: Path) -> None:
    cells = [name.upper() if i == 0 else name for i, name in enumerate(HOSPITALS)]
    assert {s.site for s in read_cohort(listed(tmp_path, "site", *cells)).labelled} == {"h0", "h1", "h2"}


def test_subgroups_are_kept_value_by_value(tmp_path: Path) -> None:
    root = listed(tmp_path, "sex,age", *(f"{'fm'[i // 2 % 2]},{'' if i < 2 else i // 4}" for i in range(12)))
    cohort = read_cohort(root, columns=Columns(subgroups=("sex", "age")))
    assert cohort.labelled[0].subgroups == (("sex", "f"),)
    assert cohort.labelled[11].subgroups == (("sex", "m"), ("age", "2"))
    table = tabulate_samples(cohort)
    assert list(table) == [*SAMPLE_COLUMNS, "subgroup_sex", "subgroup_age"]
    _, problems = inspect_folder(root, columns=Columns(subgroups=("weight",)))
    assert "data.subgroups=[" in problems[0].fix


def test_barcodes_say_the_site_where_nothing_else_does(tmp_path: Path) -> None:
    codes = [f"TCGA-{['05', '44', '55'][i % 3]}-{4000 + i}-01Z" for i in range(8)]
    draw(tmp_path, *(f"{'AB'[i // 4]}/{code}.png" for i, code in enumerate(codes)))
    cohort = read_cohort(tmp_path)
    assert {s.image.split("/")[1][5:7]: s.site for s in cohort.labelled} == {"05": "05", "44": "44", "55": "55"}
    assert has_note(cohort, "TCGA barcodes: 3 site(s)")


def test_a_level_of_folders_is_the_site(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{c}/hospital {h}/p{p}/{i}.png" for c in "AB" for h in (1, 2) for p in (7, 8) for i in range(2)))
    cohort = read_cohort(tmp_path, columns=Columns(levels=("class", "site", "case")))
    assert {s.site for s in cohort.labelled} == {"hospital 1", "hospital 2"}


def test_the_table_of_cases_may_say_sites_too(tmp_path: Path) -> None:
    draw(tmp_path, *(f"train_data/img_{i:04d}.png" for i in range(8)))
    write(tmp_path / "train_labels.csv", "sample_index,label", *(f"img_{i:04d}.png,{'AB'[i % 2]}" for i in range(8)))
    write(tmp_path / "cases.csv", "sample_index,case,site,sex",
          *(f"img_{i:04d}.png,c{i},s{i // 4},f" for i in range(8)))  # fmt: skip
    cohort = read_cohort(tmp_path)
    assert [s.site for s in cohort.labelled] == [f"s{i // 4}" for i in range(8)]
    named = read_cohort(tmp_path, columns=Columns(site="site", subgroups=("sex",)))
    assert [(s.site, s.subgroups) for s in named.labelled[:1]] == [("s0", (("sex", "f"),))]
    _, problems = inspect_folder(tmp_path, columns=Columns(site="ward"))
    assert [p.code for p in problems] == ["column-missing"]


def test_nothing_changes_without_sites_and_a_site_is_part_of_the_data(tmp_path: Path) -> None:
    plain = read_cohort(listed(tmp_path, "note", *("x" * 12)))
    assert list(tabulate_samples(plain)) == list(SAMPLE_COLUMNS)
    before = hash_cohort(plain, memo=tmp_path / "memo.json")
    (tmp_path / "labels.csv").unlink()
    sited = read_cohort(listed(tmp_path, "site", *HOSPITALS))
    assert hash_cohort(sited, memo=tmp_path / "memo.json") != before
    assert list(tabulate_samples(sited)["site"]) == HOSPITALS
