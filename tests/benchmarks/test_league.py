"""The league: the verdict over all sets, what peers of other environments see and answer, and what is not played again.

Nothing of fastai or AutoGluon is needed; peers written here stand for them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file
from sklearn.metrics import f1_score
from torch import nn

from smalti.errors import DataError
from smalti.models import build_backbone
from smalti.recipe import Model
from smalti.stats import Pool
from smalti.types import InputSpec

CLASSES = ("a", "b", "c")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def draw_pool(rng: np.random.Generator, *, cases: int, skill: float, seeds: int = 1, like: Pool | None = None) -> Pool:
    """Three images a case, each with a label of its own."""
    case = np.repeat(np.arange(cases), 3)
    y = rng.integers(0, 3, len(case)) if like is None else like.y_true
    logits = skill * np.eye(3)[y] + rng.gumbel(size=(seeds, len(y), 3))
    scores = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    names = tuple(f"i{n:04d}" for n in range(len(y)))
    return Pool(CLASSES, names, y, case, np.zeros((seeds, len(y)), int), scores, tuple(f"c{n}" for n in range(cases)))


def draw_pair(seed: int, *, cases: int = 20, better: float = 2.0, worse: float = 1.0, seeds: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    first = draw_pool(rng, cases=cases, skill=better, seeds=seeds)
    return first, draw_pool(rng, cases=cases, skill=worse, like=first)


# --- the verdict over all sets ------------------------------------------------------------------------------------


def score_drawn(pool: Pool, times: np.ndarray) -> float:
    """Macro-F1 of images that are written down as often as their case was drawn."""
    rows = np.repeat(np.arange(len(pool.images)), times[pool.case])
    truth = pool.y_true[rows]
    return float(np.mean([f1_score(truth, s[rows].argmax(axis=1), average="macro") for s in pool.scores]))


@pytest.mark.slow
def test_the_lead_is_that_of_resampled_tables_that_are_written_out() -> None:
    from standing import measure_lead

    pairs = [draw_pair(1, cases=12, seeds=2), draw_pair(2, cases=25)]
    lead = measure_lead(pairs, resamples=200, seed=3)
    rng, drawn = np.random.default_rng(3), []
    for first, second in pairs:
        n = first.n_cases
        times = rng.multinomial(n, np.full(n, 1 / n), size=200)
        drawn.append([score_drawn(first, t) - score_drawn(second, t) for t in times])
    once = [np.ones(first.n_cases, int) for first, _ in pairs]
    value = np.mean([score_drawn(f, t) - score_drawn(s, t) for (f, s), t in zip(pairs, once, strict=True)])
    assert lead.value == pytest.approx(value)
    assert [lead.low, lead.high] == pytest.approx(list(np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])))
    assert (lead.sets, lead.cases) == (2, 37)


def test_nobody_leads_himself_and_sides_change_the_sign() -> None:
    from standing import measure_lead

    first, second = draw_pair(4)
    same, there, back = (measure_lead([pair]) for pair in ((first, first), (first, second), (second, first)))
    assert (same.value, same.low, same.high, same.verdict) == (0, 0, 0, "cannot tell")
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))
    assert (there.verdict, back.verdict) == ("better", "worse")


def test_few_cases_give_no_verdict_however_clear_they_seem() -> None:
    from standing import measure_lead

    lead = measure_lead([draw_pair(9, cases=19, better=6.0, worse=0.0)])
    assert lead.low > 0
    assert lead.verdict == "no verdict"


def test_sets_are_drawn_apart_from_one_another() -> None:
    """Were equal sets drawn alike, their mean would be as unsure as one of them."""
    from standing import measure_lead

    pair = draw_pair(5, cases=60)
    one, four = measure_lead([pair]), measure_lead([pair] * 4)
    assert four.value == pytest.approx(one.value)
    assert (four.high - four.low) / (one.high - one.low) == pytest.approx(0.5, abs=0.06)


def test_a_lead_on_other_images_is_refused() -> None:
    from standing import measure_lead

    with pytest.raises(DataError, match="same images"):
        measure_lead([(draw_pair(6)[0], draw_pair(6, cases=19)[0])])
    with pytest.raises(ValueError, match="no set"):
        measure_lead([])


def test_leads_and_ranks_are_those_of_the_sets_where_both_played() -> None:
    from standing import measure_lead, tabulate_leads, tabulate_standing

    pairs = [draw_pair(7), draw_pair(8)]
    pools = [{("image", "auto"): first, ("image", "x"): second} for first, second in pairs]
    pools[1]["image", "y"] = pairs[1][1]
    leads = tabulate_leads(pools, first="auto").set_index("peer")
    assert list(leads["sets"]) == [2, 1]
    assert leads.loc["x", "auto_minus"] == measure_lead(pairs).value
    assert leads.loc["y", "low"] == measure_lead(pairs[1:]).low
    rows = [("s", "image", "x", 0.5, 1.0), ("s", "image", "y", 0.7, 2.0), ("s", "image", "z", 0.7, 2.0),
            ("t", "image", "x", 0.9, float("nan")), ("t", "image", "y", 0.1, 2.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["set", "by", "peer", "macro_f1", "wall_s"]).assign(cpu_s=1.0)
    found = tabulate_standing(table).set_index("peer")
    assert dict(found["rank"]) == {"x": 2.0, "y": 1.75, "z": 1.5}
    assert found.loc["x", "macro_f1"] == pytest.approx(0.7)
    assert np.isnan(found.loc["x", "wall_s"])  # a mean of those that happen to be known would be another number
    assert dict(found["sets"]) == {"x": 2, "y": 2, "z": 1}


# --- peers of other environments ----------------------------------------------------------------------------------

PEER = """
import sys
from pathlib import Path
import numpy as np
from peers.task import read_task, write_answer
folder = Path(sys.argv[1])
task, features = read_task(folder), np.load(folder / "features.npy")
outer = [rows[rows["role"] == "outer"] for rows in task.list_folds()]
assert all((rows["label"] == "").all() for rows in outer)
def answer(rows):
    return task.answer(rows, np.eye(2)[features[rows["position"], 0].astype(int)], ["b", "NA"])
WRITE
"""


@pytest.fixture
def outsiders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The module, with a place for peers that are written here."""
    import outsiders

    (tmp_path / "peers").mkdir()
    shutil.copy(BENCHMARKS / "peers" / "task.py", tmp_path / "peers")
    monkeypatch.setattr(outsiders, "HERE", tmp_path)
    monkeypatch.setitem(outsiders.OUTSIDERS, "mine", outsiders.Outsider(("numpy",), "features"))
    yield outsiders
    sys.modules.pop("peers.task", None)


def draw_folds() -> pd.DataFrame:
    """Two folds of six images in three cases, of classes with names that are easily misread."""
    rows = [
        (0, fold, str(n), f"c{n // 2}", ("NA", "b")[n % 2], role)
        for fold, roles in enumerate((("outer", "train", "inner"), ("inner", "outer", "train")))
        for n, role in enumerate(np.repeat(roles, 2))
    ]
    folds = pd.DataFrame(rows, columns=["seed", "fold", "image", "case", "label", "role"])
    return folds.assign(position=folds["image"].astype(int))


def build_experiment() -> Any:
    """What a peer gets things from, with the class of an image as its first feature."""
    features = torch.tensor([[n % 2 == 0, n] for n in range(6)], dtype=torch.float32)
    spec = InputSpec(224, fixed=False, mean=(0.5,) * 3, std=(0.5,) * 3)
    return SimpleNamespace(
        backbone=SimpleNamespace(name="resnet18", spec=spec, module=nn.Linear(2, 2)),
        cohort=SimpleNamespace(classes=("NA", "b", "never"), labelled=[SimpleNamespace(path=Path(f"{n}.png"))
                                                                       for n in range(6)]),
        compare_images=lambda: features,
    )  # fmt: skip


def play_mine(outsiders: Any, folder: Path, write: str) -> pd.DataFrame:
    (outsiders.HERE / "peers" / "mine_peer.py").write_text(PEER.replace("WRITE", write))
    experiment, folds = build_experiment(), draw_folds()
    outsiders.set_task("mine", folder, experiment=experiment, folds=folds, minutes=1)
    return outsiders.ask("mine", Path(sys.executable), folder, folds=folds, classes=experiment.cohort.classes)


@pytest.mark.slow
def test_a_peer_sees_no_label_of_an_outer_image_and_its_answer_becomes_a_table(outsiders: Any, tmp_path: Path) -> None:
    write = "write_answer(folder, [answer(rows.iloc[::-1]) for rows in outer], note='as asked')"
    table = play_mine(outsiders, tmp_path / "task", write)
    assert list(table["image"]) == ["0", "1", "2", "3"]
    assert list(table["fold"]) == [0, 0, 1, 1]
    assert list(table["label"]) == ["NA", "b", "NA", "b"]
    assert list(table["case"]) == ["c0", "c0", "c1", "c1"]
    np.testing.assert_array_equal(table[["score_NA", "score_b", "score_never"]], np.eye(3)[[0, 1, 0, 1]])


@pytest.mark.slow
def test_a_peer_gets_the_whole_network_whatever_smalti_reads_of_it(
    outsiders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (outsiders.HERE / "peers" / "mine_peer.py").write_text("")
    monkeypatch.setitem(outsiders.OUTSIDERS, "mine", replace(outsiders.OUTSIDERS["mine"], needs="weights"))
    model = Model(backbone="test_resnet", pretrained=False, embedding="stages")
    experiment = build_experiment()
    experiment.recipe, experiment.backbone = SimpleNamespace(model=model), build_backbone(model)
    outsiders.set_task("mine", tmp_path, experiment=experiment, folds=draw_folds(), minutes=1)
    network = timm.create_model("test_resnet", pretrained=False, num_classes=0)
    network.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "message"),
    [
        ("raise SystemExit('out of memory')", r"mine ended with 1: out of memory\. Fix: read .*log\.txt"),
        ("write_answer(folder, [answer(outer[0])], note='')", "answered 2 rows and was asked for 4"),
        ("write_answer(folder, [answer(r) for r in [outer[0], *outer]], note='')", "answered 6 rows and was asked"),
    ],
)
def test_a_peer_that_fails_or_answers_something_else_is_refused(
    outsiders: Any, tmp_path: Path, write: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        play_mine(outsiders, tmp_path / "task", write)


def test_a_task_is_known_by_its_content_and_the_code_of_its_peer(outsiders: Any, tmp_path: Path) -> None:
    script = outsiders.HERE / "peers" / "mine_peer.py"
    script.write_text("first")

    def ask(folds: pd.DataFrame, minutes: float = 1) -> str:
        return outsiders.set_task(
            "mine", tmp_path / "task", experiment=build_experiment(), folds=folds, minutes=minutes
        )

    same, folds = ask(draw_folds()), draw_folds()
    assert ask(folds) == same
    assert ask(folds, minutes=2) != same
    assert ask(folds.assign(case="c")) != same
    script.write_text("second")
    assert ask(folds) != same


def test_interpreters_that_cannot_play_are_told_at_once(outsiders: Any, tmp_path: Path) -> None:
    assert outsiders.read_interpreters([f"mine={sys.executable}"]) == {"mine": Path(sys.executable)}
    with pytest.raises(DataError) as caught:
        outsiders.read_interpreters(["yours=python", f"fastai={tmp_path}/python", f"autogluon={sys.executable}"])
    for part in ("yours=python", "there is no file", "it lacks autogluon.tabular"):
        assert part in str(caught.value)


# --- what is not played again -------------------------------------------------------------------------------------


def test_a_table_is_played_again_only_where_something_else_was_asked(tmp_path: Path) -> None:
    import league

    calls = []

    def work() -> pd.DataFrame:
        calls.append(len(calls))
        return pd.DataFrame({"image": ["x"], "score_a": [float(len(calls))]})

    stem = tmp_path / "set-fastai-2.5m"
    first = league.play_table(stem, "this", work)
    assert league.play_table(stem, "this", work) == first
    assert len(calls) == 1
    league.play_table(stem, "that", work)
    assert len(calls) == 2
    assert pd.read_csv(first.source)["score_a"].item() == 2

    def fail() -> pd.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        league.play_table(stem, "another", fail)
    league.play_table(stem, "that", work)  # which stands there, but whose seconds were taken away
    assert len(calls) == 3


def test_a_run_that_was_broken_off_has_no_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import league

    def run(data: Path, recipe: str, *, runs: Path, name: str, **rest: Any) -> Any:
        (runs / name).mkdir(exist_ok=True)
        return SimpleNamespace(path=runs / name)

    monkeypatch.setattr(league.workflow, "run", run)
    place = league.Place(tmp_path / "set", (), tmp_path)
    first = league.play_run(place, "quick", 1)
    assert league.play_run(place, "quick", 1) == first
    assert first.wall_s >= 0
    (tmp_path / "set-auto-1m").mkdir()
    assert np.isnan(league.play_run(place, "auto", 1).wall_s)
    assert np.isnan(league.play_run(place, "auto", 1).cpu_s)
    assert league.play_run(place, "auto", 2).source.name == "set-auto-2m"
