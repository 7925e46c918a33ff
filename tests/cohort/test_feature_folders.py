"""Folders of files of features: which are the bags, whose labels they have, and everything that is wrong with them."""

import h5py
import numpy as np
import pytest
from PIL import Image

from smalti.cohort import Columns, inspect_folder, read_cohort
from smalti.errors import DataError

SLIDES = [f"s{i}" for i in range(6)]


def bag(path, *, size=4, tiles=3, seed=None, name="features", values=None, attrs=None, coords=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, path.stem)) + tiles if seed is None else seed
    values = np.random.default_rng(seed).normal(size=(tiles, size)).astype("f4") if values is None else values
    with h5py.File(path, "w") as file:
        file[name] = values
        if coords:
            file["coords"] = np.arange(2 * len(values)).reshape(-1, 2) * 256
        for key, value in (attrs or {}).items():
            file.attrs[key] = value
    return path


def bags(folder, names=SLIDES, **options):
    for name in names:
        bag(folder / f"{name}.h5", **options)


def table(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


def label(names=SLIDES, form="{}"):
    return [("slide", "label"), *((form.format(name), "ab"[i % 2]) for i, name in enumerate(names))]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(map(ord, path.stem))).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def labels_of(cohort):
    return {s.image: s.label for s in cohort.labelled}


def problems_of(root, columns=None):
    return inspect_folder(root, columns=columns or Columns())[1]


@pytest.mark.parametrize("form", ["{}", "{}.svs", "{}.h5", "features/{}.h5", "/mnt/slides/{}.ndpi", "{}.ome.tif"])
def test_slides_are_found_by_what_tables_call_them(tmp_path, form):
    bags(tmp_path / "features")
    table(tmp_path / "labels.csv", *label(form=form))
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "features"
    assert labels_of(cohort) == {f"features/{s}.h5": "ab"[i % 2] for i, s in enumerate(SLIDES)}
    assert (cohort.features.size, cohort.features.several_tiles, cohort.features.placed) == (4, True, True)
    assert sum("encoder is not said (6 files)" in note for note in cohort.notes) == 1


@pytest.mark.parametrize("suffix", ["{}.svs.h5", "{}_features.h5"])
@pytest.mark.parametrize("form", ["{}", "{}.svs"])
def test_files_that_keep_more_than_the_name_of_the_slide(tmp_path, suffix, form):
    for name in SLIDES:
        bag(tmp_path / suffix.format(name))
    table(tmp_path / "labels.csv", *label(form=form))
    assert len(read_cohort(tmp_path).labelled) == 6


PATIENTS = ["TCGA-AD-6964", "TCGA-AD-6888", "TCGA-CR-7395", "TCGA-3X-AAVA"]


def test_slides_begin_with_the_barcode_of_their_patient(tmp_path):
    for patient in PATIENTS:
        bags(tmp_path / "f", [f"{patient}-01Z-00-DX1.0a1b", f"{patient}-01Z-00-DX2.77"])
    rows = [("patient", "subtype"), *((p, "xy"[i % 2]) for i, p in enumerate(PATIENTS)), ("TCGA-ZZ-0000", "x")]
    table(tmp_path / "clini.csv", *rows)
    cohort = read_cohort(tmp_path)
    assert len(cohort.labelled) == 8
    assert {s.case for s in cohort.labelled} == set(PATIENTS)
    assert {s.label for s in cohort.labelled if s.case == "TCGA-AD-6964"} == {"x"}
    assert {s.site for s in cohort.labelled} == {"AD", "CR", "3X"}
    assert any("1 'patient' have no slide here: 'TCGA-ZZ-0000'" in note for note in cohort.notes)
    assert any("begin with" in note for note in cohort.notes)


def test_a_longer_name_is_not_taken_for_its_beginning(tmp_path):
    bags(tmp_path / "f", ["p1_a", "p10_a", "p2-1", "p20-1"])
    table(tmp_path / "t.csv", ("patient", "label"), ("p1", "a"), ("p10", "b"), ("p2", "a"), ("p20", "b"))
    cohort = read_cohort(tmp_path)
    assert {s.image: s.case for s in cohort.labelled} == {
        "f/p1_a.h5": "p1", "f/p10_a.h5": "p10", "f/p2-1.h5": "p2", "f/p20-1.h5": "p20",
    }  # fmt: skip


def test_stamp_has_a_table_of_patients_and_one_of_slides(tmp_path):
    bags(tmp_path / "uni2-0a1b2c3d", name="feats", attrs={"stamp_version": "2.3", "extractor": "uni2", "unit": "um"})
    patients = [("PATIENT", "isMSIH", "CENTER"), ("A", "yes", "u"), ("B", "no", "u"), ("C", "yes", "v"),
                ("D", "no", "w")]  # fmt: skip
    table(tmp_path / "clini.csv", *patients)
    owners = ["A", "A", "B", "C", "B", "D"]
    rows = [(f"{slide}.h5", owner) for slide, owner in zip(SLIDES, owners, strict=True)]
    table(tmp_path / "slide.csv", ("FILENAME", "PATIENT"), *rows)
    cohort = read_cohort(tmp_path, columns=Columns(label="isMSIH"))
    assert [s.case for s in cohort.labelled] == owners
    assert [s.label for s in cohort.labelled] == ["yes", "yes", "no", "yes", "no", "no"]
    assert cohort.features.encoder == "uni2"
    assert not any("not used" in note for note in cohort.notes)


def test_patients_that_contradict_themselves_are_left_out_with_their_slides(tmp_path):
    bags(tmp_path / "f", [f"p{i}_{k}" for i in range(5) for k in "ab"])
    rows = [("patient", "label"), *((f"p{i}", "ab"[i % 2]) for i in range(5)), ("p4", "b")]
    table(tmp_path / "t.csv", *rows)
    _, problems = inspect_folder(tmp_path)
    (problem,) = [p for p in problems if not p.warning]
    assert (problem.code, set(problem.images)) == ("repeated-row", {"f/p4_a.h5", "f/p4_b.h5"})
    assert len(read_cohort(tmp_path, skip_problems=True).labelled) == 8


def test_class_folders(tmp_path):
    for kind in ("luad", "lusc"):
        bags(tmp_path / kind, [f"{kind}{i}" for i in range(3)])
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "features"
    assert cohort.classes == ("luad", "lusc")
    assert len(cohort.labelled) == 6


def test_numbered_slides_of_patients_are_different_slides(tmp_path):
    for kind, patients in {"x": "ab", "y": "cd"}.items():
        for patient in patients:
            bag(tmp_path / kind / patient / "1.h5", tiles=3 + ord(patient))
            bag(tmp_path / kind / patient / "2.h5", tiles=30 + ord(patient))
    cohort = read_cohort(tmp_path, columns=Columns(levels=("class", "case")))
    assert len(cohort.labelled) == 8
    assert len({s.case for s in cohort.labelled}) == 4


@pytest.mark.parametrize("way", ["folders", "column", "sample"])
def test_part_to_predict(tmp_path, way):
    train, test = SLIDES[:4], SLIDES[4:]
    bags(tmp_path / ("train" if way == "folders" else "f"), train)
    bags(tmp_path / ("test" if way == "folders" else "f"), test)
    if way == "column":
        rows = [(*row, "test" if i > 4 else "train") for i, row in enumerate(label())]
        table(tmp_path / "labels.csv", ("slide", "label", "split"), *rows[1:])
    else:
        table(tmp_path / "labels.csv", *label(train))
    if way == "sample":
        table(tmp_path / "sample_submission.csv", ("slide", "label"), *((name, "a") for name in reversed(test)))
    cohort = read_cohort(tmp_path)
    assert [s.image.split("/")[1] for s in cohort.labelled] == [f"{s}.h5" for s in train]
    assert {s.image.split("/")[1] for s in cohort.unlabelled} == {f"{s}.h5" for s in test}
    if way == "sample":
        assert [row.cells[0] for row in cohort.form.rows] == list(reversed(test))


def test_trident_job_asks_which_encoder(tmp_path):
    job = tmp_path / "20x_256px_0px_overlap"
    for name in SLIDES:
        picture(tmp_path / f"thumbnails/{name}.jpg")
        picture(tmp_path / f"contours/{name}.jpg")
        picture(job / f"visualization/{name}.jpg")
        bag(job / f"patches/{name}_patches.h5", values=np.zeros((3, 2), "i8"), name="coords", coords=False)
        bag(job / f"features_uni_v1/{name}.h5")
        bag(job / f"features_conch_v1/{name}.h5", seed=1)
        bag(job / f"slide_features_titan/{name}.h5", size=7, values=np.ones((7,), "f4"), coords=False)
    table(tmp_path / "labels.csv", *label(form="{}.svs"))
    (problem,) = problems_of(tmp_path)
    assert problem.code == "features-several"
    folder = "20x_256px_0px_overlap"
    for name in ("features_uni_v1", "features_conch_v1", "slide_features_titan"):
        assert f"--set data.features={folder}/{name} " in f"{problem.fix} ".replace(";", " ")
    cohort = read_cohort(tmp_path, columns=Columns(features=f"{folder}/features_conch_v1"))
    assert len(cohort.labelled) == 6
    assert cohort.features.encoder == "conch_v1"
    slides = read_cohort(tmp_path, columns=Columns(features=f"{folder}/slide_features_titan"))
    assert (slides.features.size, slides.features.several_tiles) == (7, False)


def test_clam_folder_has_twins(tmp_path):
    import torch

    for name in SLIDES:
        picture(tmp_path / f"masks/{name}.jpg")
        picture(tmp_path / f"stitches/{name}.jpg")
        bag(tmp_path / f"patches/{name}.h5", values=np.zeros((3, 2), "i8"), name="coords", coords=False)
        values = h5py.File(bag(tmp_path / f"h5_files/{name}.h5"))["features"][:]
        (tmp_path / "pt_files").mkdir(exist_ok=True)
        torch.save(torch.tensor(values), tmp_path / f"pt_files/{name}.pt")
    table(tmp_path / "process_list.csv", ("slide_id", "process", "status"), *((f"{s}.svs", 0, "done") for s in SLIDES))
    table(tmp_path / "labels.csv", *label())
    cohort = read_cohort(tmp_path)
    assert [s.image for s in cohort.labelled] == [f"h5_files/{s}.h5" for s in SLIDES]
    assert any("6 more with the same features" in note for note in cohort.notes)
    for file in (tmp_path / "h5_files").iterdir():
        file.unlink()
    assert [s.path.suffix for s in read_cohort(tmp_path).labelled] == [".pt"] * 6


def test_two_forms_in_one_folder_are_twins_where_they_are_equal(tmp_path):
    for name in SLIDES:
        values = h5py.File(bag(tmp_path / f"f/{name}.h5"))["features"][:]
        np.savez(tmp_path / f"f/{name}.npz", features=values)
    table(tmp_path / "labels.csv", *label())
    assert {s.path.suffix for s in read_cohort(tmp_path).labelled} == {".h5"}
    for name in SLIDES:
        np.savez(tmp_path / f"f/{name}.npz", features=np.ones((1, 9), "f4"))  # of the slide
    (problem,) = problems_of(tmp_path)
    assert 'data.features="f/*.npz"' in problem.fix
    assert read_cohort(tmp_path, columns=Columns(features="f/*.npz")).features.size == 9


@pytest.mark.parametrize("stray", ["model.pt", "embeddings.npz", "weights/net.pt", "runs/features.h5"])
def test_strays_beside_pictures_disturb_nothing(tmp_path, stray):
    import torch

    for kind in "ab":
        for i in range(3):
            picture(tmp_path / f"{kind}/{kind}{i}.png")
    (tmp_path / stray).parent.mkdir(exist_ok=True)
    if stray.endswith("pt"):
        torch.save({"w": torch.zeros(3, 3), "v": torch.zeros(3, 3)}, tmp_path / stray)
    elif stray.endswith("npz"):
        np.savez(tmp_path / stray, images=np.array(["a"]), embeddings=np.zeros((6, 3), "f2"))
    else:
        bag(tmp_path / stray)
    cohort = read_cohort(tmp_path)
    assert (cohort.layout, len(cohort.labelled)) == ("class-folders", 6)


def test_pictures_and_features_are_asked_about(tmp_path):
    bags(tmp_path / "features")
    for name in SLIDES:
        picture(tmp_path / f"images/{name}.png")
    table(tmp_path / "labels.csv", *label())
    found = [p for p in problems_of(tmp_path) if p.code == "features-or-pictures"]
    assert len(found) == 1
    assert "data.features=features" in found[0].fix
    assert "data.features=none" in found[0].fix
    assert read_cohort(tmp_path, columns=Columns(features="features")).layout == "features"
    assert read_cohort(tmp_path, columns=Columns(features="none")).layout == "table"
    # A text with a suffix means the slide whose features are read, and not the picture.
    table(tmp_path / "labels.csv", *label(form="images/{}.png"))
    cohort = read_cohort(tmp_path, columns=Columns(features="features"))
    assert {s.path.suffix for s in cohort.labelled} == {".h5"}


def test_all_problems_come_at_once_and_can_be_skipped(tmp_path):
    folder = tmp_path / "f"
    names = [f"g{i}" for i in range(8)]
    bags(folder, names)
    bag(folder / "mixed.h5", size=5)
    bag(folder / "encoder.h5", attrs={"encoder": "other"})
    bag(folder / "said.h5", attrs={"encoder": "usual"})
    bag(folder / "said2.h5", attrs={"encoder": "usual"})
    bag(folder / "nan.h5", values=np.array([[1, np.nan, 1, 1], [1, 1, 1, 1], [np.inf, 1, 1, 1]], "f4"))
    bag(folder / "empty.h5", values=np.zeros((0, 4), "f4"), coords=False)
    bag(folder / "zero.h5", values=np.zeros((2, 4), "f4"), coords=False)
    bag(folder / "large.h5", values=np.full((2, 4), 1e300), coords=False)
    (folder / "cut.h5").write_bytes((folder / "g0.h5").read_bytes()[:900])
    bag(folder / "unlisted.h5")
    rows = label([*names, "mixed", "encoder", "said", "said2", "nan", "empty", "zero", "large", "cut", "absent", "g0"])
    table(tmp_path / "labels.csv", *rows)
    with pytest.raises(DataError) as caught:
        read_cohort(tmp_path)
    found = {(p.code, name) for p in caught.value.problems if not p.warning for name in p.images}
    assert found == {
        ("features-mixed", "f/mixed.h5"), ("features-mixed", "f/encoder.h5"), ("features-nan", "f/nan.h5"),
        ("features-empty", "f/empty.h5"), ("features-zero", "f/zero.h5"), ("features-nan", "f/large.h5"),
        ("features-damaged", "f/cut.h5"), ("file-without-row", "f/unlisted.h5"), ("row-without-file", "absent"),
        ("repeated-row", "f/g0.h5"),
    }  # fmt: skip
    assert all(p.fix for p in caught.value.problems)
    (nan,) = [p for p in caught.value.problems if p.images == ("f/nan.h5",)]
    assert "2 of 3" in nan.message
    cohort = read_cohort(tmp_path, skip_problems=True)
    assert [s.path.stem for s in cohort.labelled] == [*names[1:], "said", "said2"]
    assert cohort.features.encoder == "usual"


def test_folder_that_is_asked_for_and_not_there(tmp_path):
    bags(tmp_path / "f")
    table(tmp_path / "labels.csv", *label())
    assert "features-missing" in {p.code for p in problems_of(tmp_path, Columns(features="g"))}


def test_only_broken_files_are_named(tmp_path):
    bags(tmp_path / "f")
    for file in (tmp_path / "f").iterdir():
        file.write_bytes(b"\x89HDF\r\n\x1a\n")
    table(tmp_path / "labels.csv", *label())
    found = problems_of(tmp_path)
    assert {name for p in found if p.code == "features-damaged" for name in p.images} == {f"f/{s}.h5" for s in SLIDES}


def test_files_of_different_tools_lie_in_one_cohort(tmp_path):
    import torch

    bags(tmp_path, SLIDES[:2], attrs={"unit": "um", "extractor": "e"}, name="feats")
    bags(tmp_path, SLIDES[2:4], attrs={"encoder": "e"})
    for name in SLIDES[4:]:
        torch.save(torch.ones(2, 4) + ord(name[1]), tmp_path / f"{name}.pt")
    table(tmp_path / "labels.csv", *label())
    cohort = read_cohort(tmp_path)
    assert len(cohort.labelled) == 6
    assert not cohort.features.placed
    assert any("micrometres" in note and "2 files" in note for note in cohort.notes)
