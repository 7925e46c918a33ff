"""The report: every number of scores.json, nothing from elsewhere, harmless text, and no crash on missing files."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from drawn_records import settle_scores
from smalti.audit import Audit, CheckResult, write_decisions, write_findings
from smalti.errors import RunError
from smalti.evaluate import highest_losses, score_predictions
from smalti.recipe import load_recipe
from smalti.records import Asked, CohortRecord, Environment, LeftOut, RunFolder, Stains
from smalti.report import write_report
from smalti.report.figures.gallery import encode_picture
from smalti.store import hash_text, write_atomic, write_table
from smalti.types import HISTORY_COLUMNS, SAMPLE_COLUMNS, Decision, Finding

pytestmark = pytest.mark.slow

CLASSES = ("HER2(+)", "Luminal A", "Luminal B", "Triple negative")
SHARES = (0.2, 0.4, 0.28, 0.12)
N_IMAGES, N_FOLDS, SEEDS = 120, 5, (0, 1)


def draw_picture(generator: np.random.Generator, kind: int) -> Image.Image:
    """Something pink with darker dots; more of them for later classes."""
    picture = Image.new("RGB", (240, 200), (238, 205, 222))
    pen = ImageDraw.Draw(picture)
    for _ in range(40 + 30 * kind):
        col, row, radius = generator.uniform(0, 240), generator.uniform(0, 200), generator.uniform(2, 4 + kind)
        pen.ellipse((col - radius, row - radius, col + radius, row + radius), fill=(110, 70, 140))
    return picture


def draw_scores(generator: np.random.Generator, labels: np.ndarray, skill: float, n_classes: int) -> np.ndarray:
    logits = generator.normal(size=(len(labels), n_classes))
    logits[np.arange(len(labels)), labels] += skill
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def tabulate_predictions(samples: pd.DataFrame, classes: tuple[str, ...], *, skill: float, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    labels = samples["label"].map({name: i for i, name in enumerate(classes)}).to_numpy()
    tables = []
    for number in SEEDS:
        folds = generator.integers(0, N_FOLDS, size=N_IMAGES)[samples["case"].factorize()[0]]
        table = samples[["image", "case"]].assign(fold=folds, seed=number, label=samples["label"])
        scores = draw_scores(generator, labels, skill, len(classes))
        for position, name in enumerate(classes):
            table[f"score_{name}"] = scores[:, position]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def write_pictures(root: Path, samples: pd.DataFrame, classes: tuple[str, ...]) -> None:
    generator = np.random.default_rng(3)
    (root / "train_data").mkdir(parents=True)
    for name, label in zip(samples["image"], samples["label"], strict=True):
        draw_picture(generator, classes.index(label)).save(root / name)


def tabulate_history() -> pd.DataFrame:
    generator = np.random.default_rng(4)
    rows = []
    for seed in SEEDS:
        for fold in range(N_FOLDS):
            for phase, epochs, start in (("transfer", int(generator.integers(18, 40)), 1.4), ("finetune", 8, 0.9)):
                for epoch in range(epochs):
                    loss = start * np.exp(-epoch / 15) + generator.normal(0, 0.02)
                    rows.append((seed, fold, phase, epoch, 1e-3, loss, loss + 0.2 + 0.003 * epoch, 0.7 - loss / 3, 0.4))
    return pd.DataFrame(rows, columns=list(HISTORY_COLUMNS))


def tabulate_folds(predictions: pd.DataFrame) -> pd.DataFrame:
    tables = []
    for (seed, fold), _ in predictions.groupby(["seed", "fold"]):
        rows = predictions[predictions["seed"] == seed]
        learned = np.where(rows["case"].str[-1] == "3", "inner", "train")
        role = np.where(rows["fold"] == fold, "outer", learned)
        tables.append(rows[["image", "case", "label"]].assign(seed=seed, fold=fold, role=role))
    return pd.concat(tables)[["seed", "fold", "image", "case", "label", "role"]]


def build_run(path: Path, *, classes: tuple[str, ...] = CLASSES, skill: float = 1.6, n_cases: int = 80) -> RunFolder:
    """A run folder with all its files, and a data folder with drawn images beside it."""
    generator = np.random.default_rng(1)
    case_labels = generator.choice(len(classes), size=n_cases, p=SHARES)
    cases = np.arange(N_IMAGES) % n_cases
    samples = pd.DataFrame({"image": [f"train_data/img_{i:04d}.png" for i in range(N_IMAGES)], "mask": ""})
    samples["label"] = [classes[case_labels[case]] for case in cases]
    samples["case"] = [f"case_{case:03d}" for case in cases]
    samples["part"], samples["index"], samples["repair"] = "labelled", samples["image"].str[11:], ""
    write_pictures(path / "data", samples, classes)
    run = RunFolder(path / "runs" / "demo-default")
    out_of_fold = tabulate_predictions(samples, classes, skill=skill, seed=5)
    inner = tabulate_predictions(samples, classes, skill=skill + 0.3, seed=6)
    write_tables(run, samples, out_of_fold, inner, classes=classes)
    write_records(run, path / "data", samples, classes=classes)
    settle_scores(score_predictions(out_of_fold, classes=classes, inner=inner)).write(run.path)
    return run


def write_tables(
    run: RunFolder, samples: pd.DataFrame, out_of_fold: pd.DataFrame, inner: pd.DataFrame, *, classes: tuple[str, ...]
) -> None:
    unlabelled = pd.DataFrame({"image": [f"test_data/img_{i:04d}.png" for i in range(30)], "part": "unlabelled"})
    unlabelled["case"], unlabelled["index"] = unlabelled["image"], unlabelled["image"].str[10:]
    everything = pd.concat([samples, unlabelled]).fillna("")[list(SAMPLE_COLUMNS)]
    write_table(run.path / "samples.csv", everything)
    write_table(run.predictions / "out_of_fold.csv", out_of_fold)
    write_table(run.predictions / "inner.csv", inner)
    write_table(run.path / "history.csv", tabulate_history())
    write_table(run.path / "folds.csv", tabulate_folds(out_of_fold))
    labels = np.random.default_rng(7).choice(np.array(classes, dtype=object), size=30, p=SHARES)
    write_table(run.path / "submission.csv", pd.DataFrame({"sample_index": unlabelled["index"], "label": labels}))


def write_records(run: RunFolder, root: Path, samples: pd.DataFrame, *, classes: tuple[str, ...]) -> None:
    names = list(samples["image"])
    write_atomic(run.recipe_path, load_recipe().to_yaml())
    Environment(
        identity={"data": "0f" * 12, "recipe": hash_text(load_recipe().to_yaml())},
        training="",
        started="2026-01-05T10:00:00+00:00",
        python="3.12.1",
        system="Linux-6.1-x86_64",
        processor="x86_64",
        cores=2,
        memory_gb=15.6,
        libraries={"smalti": "0.1.0", "torch": "2.11.0", "numpy": "2.4.0"},
        command=("smalti", "run", "data"),
        device={"name": "CPU", "precision": "32-true", "reason": "no accelerator was found"},
    ).write(run.path)
    left_out = [
        LeftOut(image="train_data/img_0907.png", reason="blank: 99 % of the pixels are white", who="rule"),
        LeftOut(image="train_data/img_0911.png", reason="foreign picture with a shared mask", who="person"),
    ]
    CohortRecord(
        root=str(root),
        layout="challenge",
        classes=classes,
        n_labelled=N_IMAGES,
        n_unlabelled=30,
        n_cases=samples["case"].nunique(),
        notes=("cases were read from cases.csv",),
        left_out=tuple(left_out),
        submission=Asked(labels={1: {name: name for name in classes}}),
    ).write(run.path)
    summary = "3 of 45 images were left as they are: 2 blank, 1 painted."
    Stains(normalise="macenko", summary=summary, left={}, left_tiles={}, references={}).write(run.path)
    message = f"{names[0]} and {names[1]} show the same field"
    finding = Finding("near-duplicate", "warning", (names[0], names[1]), 0.97, message, "exclude")
    outcomes = {"near-duplicate": CheckResult(1), "blank": CheckResult(0), "green-slime": CheckResult(None, "no masks")}
    write_findings(
        run.path / "findings.json",
        Audit((finding,), outcomes),
    )
    write_decisions(
        run.path / "decisions.csv",
        [Decision(row.image, "exclude", row.reason, row.who, "2026-01-05T09:00:00+00:00") for row in left_out],
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return build_run(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def page(run: RunFolder) -> str:
    return write_report(run).read_text(encoding="utf-8")


class Collector(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def parse(page: str) -> Collector:
    collector = Collector()
    collector.feed(page)
    return collector


def test_images_whose_stain_was_left_alone_are_told(page: str) -> None:
    assert "2 blank, 1 painted" in page
    assert "(macenko)" in page


def test_is_one_small_file_that_needs_nothing_else(run: RunFolder, page: str) -> None:
    tags = parse(page).tags
    addresses = [
        v for _, attrs in tags for k, v in attrs.items() if k in {"src", "href", "xlink:href", "srcset", "data"}
    ]
    assert addresses
    assert all(address and address.startswith(("#", "data:image/jpeg;base64,")) for address in addresses)
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "embed", "base"}
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", page)
    assert (run.path / "report.html").stat().st_size < 3_000_000
    assert sorted(p.name for p in run.path.iterdir() if p.name.startswith(".")) == []


def test_the_score_to_expect_of_images_to_predict_is_wider_than_the_interval(run: RunFolder, page: str) -> None:
    score = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))["metrics"]["macro_f1"]
    said = re.search(r"Expect a macro-F1 of ([0-9.]+) to ([0-9.]+) on the 30\s+images to predict", page)
    assert said is not None
    assert float(said[1]) < score["low"] < score["value"] < score["high"] < float(said[2])


def test_tells_the_numbers_of_scores_json(run: RunFolder, page: str) -> None:
    scores = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))
    text = " ".join(parse(page).words)
    for metric in scores["metrics"].values():
        assert f"{metric['value']:.3f}" in text
        assert f"{metric['low']:.3f} to {metric['high']:.3f}" in text
        assert f"{metric['chance_majority']:.3f}" in text
        assert f"{metric['chance_prior']:.3f}" in text
    for name, values in scores["per_class"].items():
        assert name in text
        assert f"{values['f1_low']:.2f} to {values['f1_high']:.2f}" in text
    assert f"{scores['optimism']:+.2f}" in text
    assert "120 images of 80 cases, 4 classes, 5 folds, 2 seeds" in text
    assert "Triple negative" in text
    assert "blank: 99 % of the pixels are white" in text


def test_shows_the_24_images_with_the_highest_loss(run: RunFolder, page: str) -> None:
    table = pd.read_csv(run.predictions / "out_of_fold.csv")
    worst = highest_losses(table, classes=CLASSES)
    alts = [attrs["alt"] for tag, attrs in parse(page).tags if tag == "img"]
    assert [re.findall(r"Image (\S+):", str(alt))[0] for alt in alts] == list(worst["image"])
    assert len(alts) == 24


def test_every_drawing_and_picture_has_words(page: str) -> None:
    tags = parse(page).tags
    assert all(attrs.get("alt") for tag, attrs in tags if tag == "img")
    drawings = [attrs for tag, attrs in tags if attrs.get("role") == "img"]
    assert len(drawings) == sum(tag == "svg" for tag, _ in tags) == 8  # the score, reliability, 3 curves of 2 phases
    assert all(attrs.get("aria-label") for attrs in drawings)


def test_ids_are_unique_in_links(page: str) -> None:
    tags = parse(page).tags
    sections = [attrs["id"] for tag, attrs in tags if tag == "section"]
    links = [str(attrs["href"])[1:] for tag, attrs in tags if tag == "a"]
    assert links == sections
    assert len(set(sections)) == len(sections)


def test_text_from_data_is_harmless(tmp_path: Path) -> None:
    nasty = ('<script>alert("1")</script>', "$x_{$ & <b>", "plain", '"><img src=x onerror=alert(2)>')
    run = build_run(tmp_path, classes=nasty)
    tags = parse(write_report(run).read_text(encoding="utf-8")).tags
    assert "script" not in {tag for tag, _ in tags}
    assert not any(key.startswith("on") for _, attrs in tags for key in attrs)
    assert all(str(attrs["src"]).startswith("data:image/jpeg") for tag, attrs in tags if tag == "img")


@pytest.mark.parametrize(
    "kept", [(), ("recipe.yaml",), ("scores.json",), ("scores.json", "predictions/out_of_fold.csv")]
)
def test_missing_files_are_not_applicable(run: RunFolder, tmp_path: Path, kept: tuple[str, ...]) -> None:
    bare = RunFolder(tmp_path / "bare")
    for name in kept:
        write_atomic(bare.path / name, (run.path / name).read_bytes())
    bare.path.mkdir(exist_ok=True)
    text = " ".join(parse(write_report(bare).read_text(encoding="utf-8")).words)
    assert "not applicable: there is no cohort.json" in text
    assert ("there is no scores.json" in text) == ("scores.json" not in kept)
    if len(kept) == 2:
        assert "the run folder does not say where the data folder is" in text


def test_missing_data_folder_and_damaged_pictures_are_said(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    for path in (tmp_path / "data").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:200])
    assert "cannot be read in" in write_report(run).read_text(encoding="utf-8")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    page = write_report(run).read_text(encoding="utf-8")
    assert "the data folder" in page
    assert "is not there" in page
    assert "data:image" not in page


def test_pictures_outside_the_data_folder_are_not_shown(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    secret = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(secret, format="PNG")
    (tmp_path / "secret.png").write_bytes(secret.getvalue())
    path = run.predictions / "out_of_fold.csv"
    table = pd.read_csv(path)
    worst = highest_losses(table, classes=CLASSES, count=1)["image"][0]
    for spoilt in (path, run.path / "folds.csv"):
        write_table(spoilt, pd.read_csv(spoilt).replace({"image": {worst: "../secret.png"}}))
    alts = [
        str(attrs["alt"]) for tag, attrs in parse(write_report(run).read_text(encoding="utf-8")).tags if tag == "img"
    ]
    assert len(alts) == 23
    assert not any("secret" in alt for alt in alts)


def test_few_cases_and_no_skill_are_said_plainly(tmp_path: Path) -> None:
    page = write_report(build_run(tmp_path, skill=0.0, n_cases=15)).read_text(encoding="utf-8")
    assert "not told apart from guessing" in page
    assert "The interval cannot be trusted: there are only 15 cases" in page


def test_a_leak_in_the_folds_is_said(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    assert "Checked here: in every fold and seed" in write_report(run).read_text(encoding="utf-8")
    folds = pd.read_csv(run.path / "folds.csv")
    held_out = folds[folds["role"] == "outer"].iloc[0]
    same = (folds[["seed", "fold"]] == held_out[["seed", "fold"]]).all(axis=1)
    folds.loc[folds.index[(folds["role"] == "train") & same][0], "case"] = held_out["case"]
    write_table(run.path / "folds.csv", folds)
    assert "1 case straddles the parts of a fold" in write_report(run).read_text(encoding="utf-8")


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    (run.path / "scores.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        write_report(run)


def test_writes_the_same_page_twice(run: RunFolder, page: str) -> None:
    def strip(text: str) -> str:
        return re.sub(r"written \S+", "", text)

    assert strip(write_report(run).read_text(encoding="utf-8")) == strip(page)


def test_what_a_finding_outlines_is_drawn_where_it_lies(tmp_path: Path) -> None:
    Image.new("RGB", (600, 900), (200, 120, 160)).save(tmp_path / "a.png")
    square = [[300, 100], [300, 400], [600, 400], [600, 100]]  # (row, col)
    address = encode_picture(tmp_path, "a.png", outline=[square])
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")
    scale = max(picture.size) / 900

    pixels = np.asarray(picture).astype(int)

    def is_yellow(row: int, col: int) -> bool:
        down, across = round(row * scale), round(col * scale)
        near = pixels[down - 3 : down + 4, across - 3 : across + 4]
        return bool((near[..., 1] - near[..., 2]).max() > 0)  # the picture itself has more blue than green

    assert all(is_yellow(row, col) for row, col in ((300, 250), (450, 400), (600, 250), (450, 100)))
    assert not any(is_yellow(row, col) for row, col in ((450, 250), (100, 250), (800, 250)))
