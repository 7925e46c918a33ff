"""Tables of features: which columns are features, which rows a bag, and what is wrong with them."""

import csv
import time

import numpy as np
import pytest
from PIL import Image

from smalti.cohort import Columns, inspect_folder, list_fresh, read_cohort, sniff_table
from smalti.features import read_cells, read_feature_table

RNG = np.random.default_rng(0)


def write(path, header, rows, *, delimiter=",", above=(), encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        file.writelines(f"{line}\n" for line in above)
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *rows])
    return path


def draw(n=12, size=10, *, first="slide", name="s{}", family="f{}"):
    """Header, rows and numbers of a table with a label and features."""
    values = RNG.normal(size=(n, size)).round(4)
    rows = [[name.format(i), "ab"[i % 2], *values[i]] for i in range(n)]
    return [first, "label", *(family.format(j) for j in range(size))], rows, values.astype("f4")


def read_bags(cohort):
    """Return image -> its rows of numbers, as a run reads them."""
    spec = cohort.features
    return {
        s.image: read_feature_table(s.path, spec.columns, delimiter=spec.delimiter).values[list(s.bag)]
        for s in cohort.samples
    }


def codes(root, columns=None):
    return {p.code for p in inspect_folder(root, columns=columns or Columns())[1] if not p.warning}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("above", [(), ("# exported 2026",), ("", "# a", "# b")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_one_row_a_slide(tmp_path, delimiter, above, encoding):
    header, rows, values = draw()
    write(tmp_path / "t.csv", header, rows, delimiter=delimiter, above=above, encoding=encoding)
    cohort = read_cohort(tmp_path)
    assert (cohort.layout, cohort.classes, cohort.features.several_tiles) == ("features", ("a", "b"), False)
    assert cohort.features.columns == tuple(header[2:])
    for i, (name, bag) in enumerate(read_bags(cohort).items()):
        assert name == f"s{i}"
        np.testing.assert_array_equal(bag, values[i : i + 1])


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_decimal_comma(tmp_path, delimiter):
    header, rows, values = draw()
    rows = [[str(c).replace(".", ",") for c in row] for row in rows]
    write(tmp_path / "t.csv", header, rows, delimiter=delimiter)
    cohort = read_cohort(tmp_path)
    np.testing.assert_array_equal(np.concatenate(list(read_bags(cohort).values())), values)
    assert any("comma" in note for note in cohort.notes)


def test_line_that_tells_the_delimiter(tmp_path):
    header, rows, values = draw()
    write(tmp_path / "t.csv", header, rows, delimiter=";", above=["sep=;"])
    np.testing.assert_array_equal(np.concatenate(list(read_bags(read_cohort(tmp_path)).values())), values)


def test_spreadsheet(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    header, rows, values = draw()
    book = openpyxl.Workbook()
    book.active.title = "notes"
    book.active.append(["read me"])
    sheet = book.create_sheet("data")
    for row in [header, *rows[:5], [], *rows[5:]]:
        sheet.append([float(c) if isinstance(c, np.floating) else c for c in row])
    book.save(tmp_path / "t.xlsx")
    bags = read_bags(read_cohort(tmp_path))
    assert list(bags) == [f"s{i}" for i in range(12)]
    np.testing.assert_allclose(np.concatenate(list(bags.values())), values, rtol=1e-6)


def test_one_row_a_tile(tmp_path):
    values = RNG.normal(size=(30, 9))
    rows = [[f"b{i % 6}", "xy"[i % 2], f"p{i % 3}", *values[i]] for i in range(30)]
    write(tmp_path / "t.csv", ["bag", "label", "patient", *(f"x{j}" for j in range(9))], rows)
    cohort = read_cohort(tmp_path)
    assert cohort.features.several_tiles
    assert {s.case for s in cohort.labelled} == {"p0", "p1", "p2"}
    np.testing.assert_allclose(read_bags(cohort)["b2"], values[2::6], rtol=1e-6)
    assert any("rows are tiles" in note for note in cohort.notes)


def test_rows_without_names_are_images(tmp_path):
    header, rows, _ = draw()
    write(tmp_path / "t.csv", header[1:], [row[1:] for row in rows])
    cohort = read_cohort(tmp_path)
    assert len(cohort.labelled) == 12
    assert any("each row is one image" in note for note in cohort.notes)


def test_flags_ids_indices_and_text_are_no_features(tmp_path):
    header, rows, _ = draw(family="AREA OF [CELL {}] (MM2)")
    header = ["Unnamed: 0", "id", "study_no", "hrd_high", "sex", "patient", *header[1:]]
    rows = [[i, 1000 + i, 37 * i % 101, i % 2, "mf"[i % 2], i // 2, *row[1:]] for i, row in enumerate(rows)]
    write(tmp_path / "t.csv", header, rows)
    cohort = read_cohort(tmp_path)
    assert cohort.features.columns == tuple(f"AREA OF [CELL {j}] (MM2)" for j in range(10))
    assert [s.image for s in cohort.labelled] == [str(1000 + i) for i in range(12)]
    assert {s.case for s in cohort.labelled} == {str(i) for i in range(6)}
    (note,) = [n for n in cohort.notes if n.startswith("features: 10 columns")]
    assert "'hrd_high'" in note
    assert "data.features" in note


def test_a_family_leaves_other_numbers_out_and_says_so(tmp_path):
    header, rows, _ = draw(size=20)
    rows = [[*row, 40 + i, i * 0.37] for i, row in enumerate(rows)]
    write(tmp_path / "t.csv", [*header, "age", "size_mm"], rows)
    cohort = read_cohort(tmp_path)
    assert cohort.features.size == 20
    assert any("'age', 'size_mm'" in note for note in cohort.notes)
    for asked, size in {("f*", "age"): 21, ("age", "size_mm"): 2, ("!f1*",): 9, ("*",): 22, "f*": 20}.items():
        assert read_cohort(tmp_path, columns=Columns(features=asked)).features.size == size


def test_two_families(tmp_path):
    values = RNG.normal(size=(12, 16)).round(3)
    header = ["slide", "label", "age", *(f"mean_{j}" for j in range(8)), *(f"std_{j}" for j in range(8))]
    write(tmp_path / "t.csv", header, [[f"s{i}", "ab"[i % 2], i + 40, *values[i]] for i in range(12)])
    assert read_cohort(tmp_path).features.columns == tuple(header[3:])


def test_brackets_in_a_name_are_no_pattern(tmp_path):
    header, rows, _ = draw(family="AREA OF [CELL {}]")
    write(tmp_path / "t.csv", header, rows)
    asked = ("AREA OF [CELL 1]", "AREA OF [CELL 2]")
    assert read_cohort(tmp_path, columns=Columns(features=asked)).features.columns == asked


@pytest.mark.parametrize("names", ["s{}", "s{}.png"])
def test_a_few_clinical_numbers_are_asked_about(tmp_path, names):
    rows = [[names.format(i), "ab"[i % 2], 40 + 3 * i % 17, 0.5 * i * i] for i in range(12)]
    write(tmp_path / "t.csv", ["slide", "label", "age", "size_mm"], rows)
    problems = [p for p in inspect_folder(tmp_path)[1] if p.code == "features-unsure"]
    assert len(problems) == 1
    assert "--set 'data.features=[age, size_mm]'" in problems[0].fix
    assert read_cohort(tmp_path, columns=Columns(features=("age", "size_mm"))).features.size == 2


def test_many_clinical_numbers_of_pictures_that_are_not_here(tmp_path):
    header, rows, _ = draw(name="s{}.png", family="value of {} measured")
    write(tmp_path / "t.csv", header, rows)
    assert codes(tmp_path) == {"features-unsure"}


def test_pictures_that_are_there_are_read_and_the_numbers_told(tmp_path):
    header, rows, _ = draw(name="s{}.png")
    write(tmp_path / "t.csv", header, rows)
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"s{i}.png")
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "table"
    assert any("10 columns" in note and "f0" in note and "data.features" in note for note in cohort.notes)
    assert read_cohort(tmp_path, columns=Columns(features=("f*",))).layout == "features"


def test_missing_numbers_name_row_and_column_and_the_way_out(tmp_path):
    header, rows, _ = draw(n=40)
    rows[3][4], rows[5][4], rows[5][6], rows[7][5] = "", "n/a", "-", "inf"
    write(tmp_path / "t.csv", header, rows)
    _, problems = inspect_folder(tmp_path)
    found = {p.images[0]: p for p in problems}
    assert set(found) == {"s3", "s5", "s7"}
    assert "2 number(s)" in found["s5"].message
    assert "'f2', 'f4'" in found["s5"].message
    assert '"!f2", "!f4"' in found["s5"].fix
    assert found["s7"].file == "t.csv line 9"
    assert len(read_cohort(tmp_path, skip_problems=True).labelled) == 37
    rest = read_cohort(tmp_path, columns=Columns(features=("!f2", "!f3", "!f4")))
    assert (len(rest.labelled), rest.features.size) == (40, 7)


def test_a_word_among_numbers_is_a_number_that_lacks(tmp_path):
    header, rows, _ = draw(n=100)
    rows[70][5] = "below limit"
    write(tmp_path / "t.csv", header, rows)
    (problem,) = inspect_folder(tmp_path)[1]
    assert (problem.code, problem.images) == ("features-nan", ("s70",))


def test_rows_that_are_listed_twice(tmp_path):
    header, rows, _ = draw()
    write(tmp_path / "t.csv", header, [*rows, rows[2]])
    (problem,) = inspect_folder(tmp_path)[1]
    assert (problem.code, problem.images) == ("repeated-row", ("s2",))


def test_bags_that_contradict_themselves(tmp_path):
    values = RNG.normal(size=(40, 8))
    rows = [[f"b{i // 4}", "ab"[i // 4 % 2], *values[i]] for i in range(40)]
    rows[5][1] = "a"
    write(tmp_path / "t.csv", ["bag", "label", *(f"x{j}" for j in range(8))], rows)
    (problem,) = inspect_folder(tmp_path)[1]
    assert (problem.code, problem.images) == ("bag-contradicts", ("b1",))


def test_train_and_test_tables(tmp_path):
    header, rows, values = draw(n=16)
    write(tmp_path / "train.csv", header, rows[:12])
    write(tmp_path / "test.csv", [header[0], *header[2:]], [[row[0], *row[2:]] for row in rows[12:]])
    write(tmp_path / "sample_submission.csv", ["slide", "label"], [[f"s{i}", "a"] for i in range(15, 11, -1)])
    cohort = read_cohort(tmp_path)
    assert [s.image for s in cohort.labelled] == [f"s{i}" for i in range(12)]
    assert {s.image for s in cohort.unlabelled} == {f"s{i}" for i in range(12, 16)}
    np.testing.assert_array_equal(read_bags(cohort)["s14"], values[14:15])
    assert cohort.form.rows[0].cells[0] == "s15"
    write(tmp_path / "test.csv", [header[0], *header[3:]], [[row[0], *row[3:]] for row in rows[12:]])
    assert "features-columns" in codes(tmp_path)


def test_part_column(tmp_path):
    header, rows, _ = draw(n=16)
    rows = [[*row, "train" if i < 12 else "test"] for i, row in enumerate(rows)]
    write(tmp_path / "t.csv", [*header, "split"], rows)
    cohort = read_cohort(tmp_path)
    assert (len(cohort.labelled), len(cohort.unlabelled)) == (12, 4)


def test_several_tables_are_asked_about(tmp_path):
    for name in ("fox.csv", "tiger.csv"):
        header, rows, _ = draw()
        write(tmp_path / name, header, rows)
    assert "several-tables" in codes(tmp_path)
    assert read_cohort(tmp_path, columns=Columns(table="tiger.csv")).labelled[0].path.name == "tiger.csv"


def test_damaged_tables_say_so(tmp_path):
    header, rows, _ = draw()
    write(tmp_path / "t.csv", [*header[:-1], "f0"], rows)
    assert codes(tmp_path, Columns(table="t.csv")) >= {"column-repeated"}
    write(tmp_path / "t.csv", header, [["é" + row[0], *row[1:]] for row in rows], encoding="latin-1")
    assert codes(tmp_path, Columns(table="t.csv")) >= {"table-encoding"}


def test_labels_that_read_like_numbers_or_missing_values_stay_text(tmp_path):
    header, rows, _ = draw()
    write(tmp_path / "t.csv", header, [[row[0], "01" if i % 2 else "NA", *row[2:]] for i, row in enumerate(rows)])
    assert read_cohort(tmp_path, columns=Columns(real_labels=("NA",))).classes == ("01", "NA")


def test_table_beside_a_stray_file_of_features(tmp_path):
    header, rows, _ = draw()
    write(tmp_path / "t.csv", header, rows)
    np.savez(tmp_path / "embeddings.npz", images=np.array(["s0"]), embeddings=np.zeros((1, 3), "f2"))
    cohort = read_cohort(tmp_path)
    assert (len(cohort.labelled), cohort.features.size) == (12, 10)
    assert any("embeddings.npz" in note for note in cohort.notes)


def test_row_numbers_do_not_move_with_empty_lines(tmp_path):
    header, rows, values = draw()
    path = write(tmp_path / "t.csv", header, rows)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], "", *lines[4:]]) + "\n\n")
    np.testing.assert_array_equal(np.concatenate(list(read_bags(read_cohort(tmp_path)).values())), values)
    assert read_cells(path, only=["f3"]).shape == (12, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "size"), [(30, 8000), (30_000, 12)])
def test_wide_and_long_tables_take_bounded_time(tmp_path, n, size):
    values = RNG.normal(size=(n, size)).astype("f2")
    bags = n // 5
    lines = [f"b{i % bags},{'ab'[i % bags % 2]}," + ",".join(map(str, row)) for i, row in enumerate(values.tolist())]
    (tmp_path / "t.csv").write_text("\n".join([",".join(["bag", "label", *(f"x{j}" for j in range(size))]), *lines]))
    start = time.process_time()
    cohort = read_cohort(tmp_path)
    assert (len(cohort.labelled), cohort.features.size) == (bags, size)
    assert time.process_time() - start < 10  # linear: 20,000 columns, or a million rows, in a minute


@pytest.mark.parametrize("family", ["f{}", "CELLS {} PER AREA"])
@pytest.mark.parametrize("extra", ["label_code", "fold", "age", "prob_a", "hidden 7", "x", "os_months"])
def test_what_was_not_measured_is_no_feature(tmp_path, family, extra):
    header, rows, _ = draw(n=45, family=family)
    values = RNG.normal(size=45).cumsum()
    codes = extra in {"label_code", "hidden 7"}
    rows = [[row[0], "abc"[i % 3], *row[2:], i % 3 if codes else values[i]] for i, row in enumerate(rows)]
    write(tmp_path / "t.csv", [*header, extra], rows)
    cohort = read_cohort(tmp_path)
    assert cohort.features.columns == tuple(header[2:])
    assert any(f"'{extra}'" in note for note in cohort.notes)


def test_labels_that_are_not_recognised_are_asked_for(tmp_path):
    header, rows, _ = draw(n=20)
    write(tmp_path / "t.csv", [header[0], "MSI_status", *header[2:]], rows)
    (problem,) = [p for p in inspect_folder(tmp_path)[1] if p.code == "features-no-label"]
    assert "data.label=MSI_status" in problem.fix


def test_slides_of_a_patient_of_tcga_are_one_case(tmp_path):
    header, rows, _ = draw(n=20)
    for i, row in enumerate(rows):
        row[0] = f"TCGA-AA-{1000 + i // 2}-01Z-00-DX{i % 2 + 1}"
    write(tmp_path / "t.csv", header, rows)
    assert {s.case for s in read_cohort(tmp_path).labelled} == {f"TCGA-AA-{1000 + i}" for i in range(10)}


def test_new_table_is_read_as_that_of_training(tmp_path):
    header, rows, values = draw()
    spec = read_cohort(write(tmp_path / "a" / "t.csv", header, rows).parent).features
    comma = [[str(c).replace(".", ",") for c in row] for row in rows]
    new = write(tmp_path / "b" / "t.csv", header, comma, delimiter=";")
    fresh = list_fresh(new.parent, features=spec)
    assert (fresh.wrong, [s.label for s in fresh.samples]) == ({}, ["a", "b"] * 6)
    table = read_feature_table(new, spec.columns, delimiter=sniff_table(new))
    np.testing.assert_allclose(table.values, values, rtol=1e-6)
