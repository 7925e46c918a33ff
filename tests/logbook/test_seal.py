"""The sealed part: no run sees its labels, it stays sealed, and each look at it is on record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score

from pages import without_pages
from smalti import workflow
from smalti.errors import RecipeError, RunError, SplitError
from smalti.logbook.seal import find_seal, make_seal, read_seal, write_seal
from smalti.recipe import load_recipe
from smalti.samples import choose_sealed
from smalti.store import read_table
from smalti.train import read_checkpoint
from smalti.types import Cohort, Sample
from textures import CLASSES, FAST, LABELLED, name_label, write_lines

QUICK = (*FAST, "train.finetune.epochs=0", "train.transfer.epochs=4", "evaluate.resamples=100")
BARE = (*QUICK, "audit.checks=[]")
COLUMNS = [f"score_{c}" for c in CLASSES]


@pytest.fixture(scope="module", autouse=True)
def no_report() -> Iterator[None]:
    with without_pages():
        yield


@pytest.fixture(scope="module")
def sealed(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run, a run that seals a quarter, and a run with another recipe that does not speak of the seal; read only."""
    place = tmp_path_factory.mktemp("seal")
    data, runs = Path(shutil.copytree(challenge, place / "textures")), place / "runs"
    workflow.run(data, "default", settings=BARE, runs=runs, name="before")
    said: list[str] = []
    listener = workflow.Listener(say=said.append)
    workflow.run(
        data, "default", settings=[*BARE, "split.sealed_frac=0.25"], runs=runs, name="first", listener=listener
    )
    path = find_seal(workflow.Project(data, runs))
    made = path.read_bytes()
    workflow.run(data, "default", settings=[*BARE, "tile.source=whole", "split.seeds=[0,1]"], runs=runs, name="second")
    seal = read_seal(path)
    assert seal is not None
    return SimpleNamespace(data=data, runs=runs, seal=seal, path=path, made=made, said=said)


# --- what is sealed -----------------------------------------------------------------------------------------------


def test_the_seal_takes_whole_cases_and_leaves_every_class_outside(sealed: SimpleNamespace) -> None:
    before = pd.read_csv(sealed.runs / "before" / "samples.csv").query("part == 'labelled'")
    inside = before[before["image"].isin(sealed.seal.images)]
    outside = before[~before["image"].isin(sealed.seal.images)]
    assert set(inside["case"]).isdisjoint(outside["case"])
    assert set(outside["label"]) == set(CLASSES)
    assert sealed.seal.n_images == len(inside) == len(sealed.seal.images)
    assert sealed.seal.n_cases == inside["case"].nunique()
    assert abs(len(inside) / LABELLED - 0.25) < 0.1
    assert set(inside["label"]) == set(CLASSES)
    assert sealed.seal.data == str(sealed.data)
    assert sealed.seal.runs_before == ("before",)
    assert not sealed.seal.openings
    assert any(f"{len(inside)} images) are sealed from now on" in text for text in sealed.said)


def test_it_holds_for_later_runs_that_do_not_speak_of_it(sealed: SimpleNamespace) -> None:
    assert sealed.path.read_bytes() == sealed.made
    for name, seeds in (("first", 1), ("second", 2)):
        samples = read_table(sealed.runs / name / "samples.csv")
        assert set(samples.loc[samples["part"] == "sealed", "image"]) == set(sealed.seal.images)
        table = read_table(sealed.runs / name / "predictions" / "sealed.csv")
        assert sorted(table["image"].unique()) == sorted(sealed.seal.images)
        assert (table.groupby("image").size() == 2 * seeds).all()  # each fold and seed


@pytest.mark.parametrize("name", ["first", "second"])
def test_sealed_images_are_in_no_part_and_their_labels_nowhere(name: str, sealed: SimpleNamespace) -> None:
    """Every table of the run folder: a sealed image is named where it must be, and never with a label."""
    run = sealed.runs / name
    naming = set()
    for path in run.rglob("*.csv"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        rows = table[table["image"].isin(sealed.seal.images)] if "image" in table else table[:0]
        if len(rows):
            naming.add(path.name.split("-")[0])
            assert path.name == "cases.csv" or (rows["label"] == "").all()
    assert naming == {"samples.csv", "cases.csv", "sealed.csv", "sealed"}
    record = json.loads((run / "cohort.json").read_text(encoding="utf-8"))
    assert record["n_sealed"] == len(sealed.seal.images)
    assert record["n_labelled"] == LABELLED - len(sealed.seal.images)


def test_a_seal_is_not_moved(sealed: SimpleNamespace, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(sealed.runs, tmp_path / "runs"))
    for share, message in ((0.3, r"seals 25%.*asks for 30%.*Fix: --set split.sealed_frac=0.25"), (0.25, "")):
        recipe = load_recipe(settings=[*BARE, f"split.sealed_frac={share}"])
        project = workflow.Project(sealed.data, runs)
        if message:
            with pytest.raises(RecipeError, match=message):
                workflow.inspect_ground(project, recipe)
        else:
            assert len(workflow.inspect_ground(project, recipe).cohort.sealed) == len(sealed.seal.images)
    assert find_seal(project).read_bytes() == sealed.made


def test_a_damaged_seal_is_an_error_and_not_a_new_seal(tmp_path: Path) -> None:
    assert read_seal(tmp_path / "absent.seal.json") is None
    for text in ("{", "{}", "[]", '{"openings": [], "images": [], "runs_before": [], "more": 1}'):
        with pytest.raises(RunError, match=r"x\.seal\.json is damaged.*Fix"):
            read_seal(write_lines(tmp_path / "x.seal.json", text))


def test_a_class_of_one_case_is_never_sealed_and_a_share_that_cannot_be_is_refused() -> None:
    def draw(cases: list[tuple[str, str]]) -> Cohort:
        names = [f"i{n}" for n in range(len(cases))]
        rows = zip(names, cases, strict=True)
        samples = tuple(Sample(n, Path(n), None, label, case, n) for n, (label, case) in rows)
        return Cohort(Path(), "table", samples, (), tuple(sorted({label for label, _ in cases})))

    cohort = draw([("a", f"c{n % 8}") for n in range(16)] + [("b", "only")] * 2)
    chosen = choose_sealed(cohort, share=0.25)
    assert chosen
    assert {s.case for s in cohort.labelled if s.image in chosen}.isdisjoint({"only"})
    with pytest.raises(SplitError, match=r"no cases can be sealed.*Fix"):
        choose_sealed(draw([("a", "c0"), ("a", "c0"), ("b", "c1")]), share=0.5)


# --- what is sealed has no say ------------------------------------------------------------------------------------

HIDDEN = (0, 1, 2, 3, 4, 5, 20, 21)  # cases p0 (A), p1 (B), p2 (C), and two copies of one picture


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of a checkpoint but the times, tensors as bytes."""
    if not isinstance(value, dict | list):
        return {path: value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value)}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    leaves: dict[str, Any] = {}
    for key, inner in pairs:
        leaves |= flatten(inner, f"{path}/{key}") if key != "seconds" else {}
    return leaves


def relabel(data: Path, labels: dict[int, str]) -> None:
    rows = (f"{i},{labels.get(i, name_label(i))}" for i in range(LABELLED))
    write_lines(data / "train_labels.csv", "sample_index,label", *rows)


def spoil(data: Path) -> None:
    for number in HIDDEN:
        path = data / "train_data" / f"img_{number:04d}.png"
        noise = np.random.default_rng(number).integers(0, 256, np.asarray(Image.open(path)).shape, dtype=np.uint8)
        Image.fromarray(noise).save(path)


@pytest.fixture(scope="module")
def ways(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on the same seal: as given; labels of sealed images shuffled; their pixels noise; one label outside wrong.

    Each with its own cache, so that nothing is taken from the others.
    """
    place = tmp_path_factory.mktemp("ways")
    start = Path(shutil.copytree(challenge, place / "start" / "textures"))
    for kind in ("img", "mask"):
        shutil.copy(start / "train_data" / f"{kind}_0020.png", start / "train_data" / f"{kind}_0021.png")
    recipe = load_recipe(settings=QUICK)
    cohort = workflow.inspect_ground(workflow.Project(start, place), recipe).cohort
    images = [f"train_data/img_{i:04d}.png" for i in HIDDEN]
    seal = make_seal(cohort, images, share=0.3, runs_before=())
    found = {}
    copies = load_recipe(settings=[*QUICK, "audit.checks=[exact-duplicate]"])  # all that changes cases here
    for way in ("plain", "labels", "pixels", "outside"):
        data, runs = Path(shutil.copytree(start, place / way / "textures")), place / way / "runs"
        if way == "labels":
            relabel(data, dict(zip(HIDDEN, "CABBCAAC", strict=True)))
        elif way == "pixels":
            spoil(data)
        elif way == "outside":
            relabel(data, {12: "C"})
        write_seal(find_seal(workflow.Project(data, runs)), seal.model_copy(update={"data": str(data)}))
        found[way] = workflow.run(data, recipe if way in ("plain", "labels") else copies, runs=runs, name="r").path
    return found


def read_result(run: Path) -> dict[str, Any]:
    names = ("folds.csv", "predictions/out_of_fold.csv", "predictions/inner.csv", "predictions/test.csv", "scores.json")
    result: dict[str, Any] = {name: (run / name).read_bytes() for name in (*names, "submission.csv")}
    checkpoints = sorted((run / "checkpoints").glob("*.safetensors"))
    assert len(checkpoints) == 2
    return result | {path.name: flatten(read_checkpoint(path)) for path in checkpoints}


def test_labels_of_sealed_images_change_nothing_at_all(ways: dict[str, Path]) -> None:
    """Every file of the run folder is the same to the last byte, but for times and places."""
    plain, other = read_result(ways["plain"]), read_result(ways["labels"])
    assert other == plain
    assert read_result(ways["outside"])["predictions/out_of_fold.csv"] != plain["predictions/out_of_fold.csv"]
    timed = {"environment.json", "events.log", "history.csv", "cohort.json"}
    files = {path.relative_to(ways["plain"]) for path in ways["plain"].rglob("*") if path.is_file()}
    assert {path.relative_to(ways["labels"]) for path in ways["labels"].rglob("*") if path.is_file()} == files
    for file in files:
        if file.name not in timed and file.suffix != ".safetensors":
            assert (ways["labels"] / file).read_bytes() == (ways["plain"] / file).read_bytes(), file
    identities = [json.loads((ways[w] / "environment.json").read_text())["identity"] for w in ("plain", "labels")]
    assert identities[0] == identities[1]


def test_pixels_of_sealed_images_change_only_their_own_scores(ways: dict[str, Path]) -> None:
    assert read_result(ways["pixels"]) == read_result(ways["plain"])
    tables = [read_table(ways[way] / "predictions" / "sealed.csv")[COLUMNS] for way in ("plain", "pixels")]
    assert not np.allclose(tables[0], tables[1], atol=1e-3)


def test_findings_do_not_tell_labels_of_sealed_images(ways: dict[str, Path]) -> None:
    """The two copies have labels that contradict each other in one of the runs; the finding itself stays."""
    for way in ("plain", "labels"):
        findings = json.loads((ways[way] / "findings.json").read_text(encoding="utf-8"))["findings"]
        copies = [f for f in findings if f["code"] == "exact-duplicate"]
        assert [f["images"] for f in copies] == [["train_data/img_0021.png", "train_data/img_0020.png"]]
        assert "labels" not in copies[0]["evidence"]
        assert "contradict" not in copies[0]["message"]


def test_a_copy_of_a_sealed_image_is_sealed_with_its_whole_case(sealed: SimpleNamespace, tmp_path: Path) -> None:
    data = Path(shutil.copytree(sealed.data, tmp_path / "textures"))
    recipe = load_recipe(settings=QUICK)
    runs = Path(shutil.copytree(sealed.runs, tmp_path / "runs"))
    # Of a pair, so that its other picture has to go with it.
    outside = next(f"train_data/img_{n:04d}.png" for n in range(0, 12, 2)
                   if f"train_data/img_{n:04d}.png" not in sealed.seal.images)  # fmt: skip
    source = np.asarray(Image.open(data / sealed.seal.images[0]))
    Image.fromarray(np.ascontiguousarray(source[:, ::-1])).save(data / outside)
    shutil.copy(*(data / image.replace("img_", "mask_") for image in (sealed.seal.images[0], outside)))
    cohort = workflow.inspect_ground(workflow.Project(data, runs), recipe).cohort
    partner = outside.replace(outside[-8:-4], f"{int(outside[-8:-4]) + 1:04d}")
    assert {s.image for s in cohort.sealed} == {*sealed.seal.images, outside, partner}
    assert all(s.label is None for s in cohort.sealed)
    assert {s.case for s in cohort.sealed}.isdisjoint({s.case for s in cohort.labelled})


# --- the opening --------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(sealed: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """The runs with a seal that may be opened."""
    runs = Path(shutil.copytree(sealed.runs, tmp_path / "runs"))
    return SimpleNamespace(**{**vars(sealed), "runs": runs, "path": runs / sealed.path.name})


def score_sealed(run: Path, labels: dict[str, str]) -> float:
    """Macro-F1 of the mean scores of each sealed image, by hand."""
    table = pd.read_csv(run / "predictions" / "sealed.csv")
    means = {image: rows[COLUMNS].to_numpy().mean(axis=0) for image, rows in table.groupby("image")}
    guesses = [CLASSES[int(mean.argmax())] for mean in means.values()]
    return float(f1_score([labels[i] for i in means], guesses, labels=CLASSES, average="macro", zero_division=0))


def test_opening_scores_the_mean_of_all_networks_against_the_given_labels(closed: SimpleNamespace) -> None:
    labels = {f"train_data/img_{i:04d}.png": name_label(i) for i in range(LABELLED)}
    seal, found = workflow.open_seal(["first", "second"], runs=closed.runs)
    result = found.dump()
    expected = {name: score_sealed(closed.runs / name, labels) for name in ("first", "second")}
    assert {row["name"]: row["metrics"]["macro_f1"]["value"] for row in result["rows"]} == pytest.approx(expected)
    difference = result["rows"][1]["difference"]["macro_f1"]
    assert difference["value"] == pytest.approx(expected["second"] - expected["first"])
    assert (result["n_images"], result["n_cases"]) == (seal.n_images, seal.n_cases)
    opening = read_seal(closed.path).openings[0]  # type: ignore[union-attr]
    assert opening.runs == ("first", "second")
    assert {run: scores["macro_f1"].value for run, scores in opening.scores.items()} == pytest.approx(expected)


def test_every_opening_is_on_record_and_the_runs_stay_as_they_were(closed: SimpleNamespace) -> None:
    scores = (closed.runs / "first" / "scores.json").read_bytes()
    for count in (1, 2):
        seal, _ = workflow.open_seal(["first"], runs=closed.runs)
        assert len(seal.openings) == count
    assert read_seal(closed.path) == seal
    assert seal.model_copy(update={"openings": ()}) == closed.seal
    for opening in seal.openings:
        assert opening.runs == ("first",)
        assert abs((datetime.fromisoformat(opening.time) - datetime.now().astimezone()).total_seconds()) < 600
    lines = (closed.runs / "first" / "events.log").read_text(encoding="utf-8").splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "seal opened"]
    value = seal.openings[0].scores["first"]["macro_f1"].value
    assert [event["scores"]["value"] for event in events] == [value] * 2
    assert (closed.runs / "first" / "scores.json").read_bytes() == scores
    # The opened seal still holds.
    recipe = load_recipe(settings=BARE)
    ground = workflow.inspect_ground(workflow.Project(closed.data, closed.runs), recipe)
    assert {s.image for s in ground.cohort.sealed} == set(seal.images)


def test_a_run_on_a_copy_learns_from_nothing_sealed_and_opens_the_same_seal(
    closed: SimpleNamespace, tmp_path: Path
) -> None:
    """Other names, another folder: what is learned from shares no bytes with what is sealed."""
    data = Path(shutil.copytree(closed.data, tmp_path / "renamed"))
    ends = ("train_data/img_0100.png", "train_data/mask_0100.png")
    old = next(i for i in closed.seal.images)
    for source, end in zip((old, old.replace("img_", "mask_")), ends, strict=True):
        (data / source).rename(data / end)
    for name in ("train_labels.csv", "cases.csv"):
        text = (data / name).read_text(encoding="utf-8")
        (data / name).write_text(text.replace(f"\n{int(old[-8:-4])},", "\n100,"), encoding="utf-8")
    workflow.run(data, "default", settings=BARE, runs=closed.runs, name="copy")
    table = read_table(closed.runs / "copy" / "predictions" / "sealed.csv")
    images = {ends[0], *closed.seal.images} - {old}
    assert set(table["image"]) == images
    assert not images & set(read_table(closed.runs / "copy" / "folds.csv")["image"])
    seal, _ = workflow.open_seal(["copy"], runs=closed.runs)
    assert seal.openings[0].runs == ("copy",)
    assert read_seal(closed.path) == seal
    assert not list(closed.runs.glob("renamed*.seal.json"))


def test_what_cannot_be_opened_says_why_and_is_not_recorded(closed: SimpleNamespace) -> None:
    with pytest.raises(RunError, match=r"before has no scores of the sealed part.*Fix"):
        workflow.open_seal(["first", "before"], runs=closed.runs)
    record = closed.runs / "second" / "cohort.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps(content | {"root": "/elsewhere/textures"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"different data.*/elsewhere/textures.*Fix"):
        workflow.open_seal(["first", "second"], runs=closed.runs)
    assert closed.path.read_bytes() == closed.made
    closed.path.unlink()
    with pytest.raises(RunError, match=r"nothing is sealed.*textures\.seal\.json.*Fix.*split.sealed_frac"):
        workflow.open_seal(["first"], runs=closed.runs)
    assert not closed.path.exists()


def test_a_damaged_seal_is_never_to_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "data.seal.json"
    for content in ("", "{", "[]", '{"images": [1]}'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match=r"damaged.*Fix: restore it from a copy"):
            read_seal(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RunError, match=r"damaged.*Fix: restore"):
        read_seal(path)
