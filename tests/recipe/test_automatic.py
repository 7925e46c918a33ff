"""What ``auto`` stands for: one head for all that is compared, no knob that nothing reads; suspects without epochs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from pages import without_pages
from smalti import workflow
from smalti.audit import read_findings
from smalti.audit.labels.evidence import Evidence
from smalti.audit.labels.suspects import find_suspects, pool_opinions, rank_labels
from smalti.errors import RecipeError
from smalti.ladder import Ladder, load_ladder, resolve_ladder
from smalti.models import POOLERS
from smalti.project import SILENT, Listener
from smalti.recipe import PLAIN_POOLERS, Train, list_documents, list_turned, load_recipe, settle_choices
from smalti.records import Traces
from smalti.train import HEADS, check_parts, train_folds
from smalti.tune.space import Space, load_space
from smalti.tune.tuning import _settle
from smalti.types import score_columns
from smalti.workflow.prepare.settling import settle_recipe
from textures import CLASSES, FAST, LABELLED, name_label, write_lines

# The drawn cohort with a small network and nothing turned of what a head does in steps.
PLAIN = [text for text in FAST if not text.startswith("train.transfer")]


def resolve(*settings: str, preset: str = "quick") -> tuple[Any, str]:
    heard: list[str] = []
    recipe = settle_recipe(
        load_recipe(preset, settings=["model.pretrained=false", *settings]), listener=Listener(say=heard.append)
    )
    return recipe, "\n".join(heard)


# --- the head -----------------------------------------------------------------------------------------------------


def test_plain_poolers_are_those_that_learn_nothing() -> None:
    assert set(PLAIN_POOLERS) == {entry.name for entry in POOLERS if not POOLERS.build(entry.name, 8, 2).learns}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["model.pooler=gated_attention"], "pooler 'gated_attention' learns"),
        (["model.fusion=gate"], "model.fusion=gate"),
        (["train.finetune.epochs=3"], "fine-tuned"),
        (["train.transfer.loss=focal"], "would not read train.transfer.loss"),
        (["train.transfer.rate_test=true"], "rate_test"),
        (["train.transfer.lr=0.1", "model.dropout=0.5"], "train.transfer.lr, model.dropout"),
        (["train.transfer.epochs=7"], "train.transfer.epochs"),
    ],
)
def test_quick_learns_in_steps_where_it_must_and_says_why(settings: list[str], why: str) -> None:
    recipe, heard = resolve(*settings)
    check_parts(recipe)
    assert recipe.model.head == "steps"
    assert "head steps: " in heard
    assert why in heard


@pytest.mark.parametrize(
    "setting", ["model.pooler=topk", "train.transfer.views=4", "train.transfer.class_weights=none", "predict.views=8"]
)
def test_quick_is_solved_where_nothing_else_learns(setting: str) -> None:
    recipe, heard = resolve(setting)
    check_parts(recipe)
    assert recipe.model.head in {entry.name for entry in HEADS}
    assert f"head {recipe.model.head}: " in heard
    again, more = recipe, []
    again = settle_recipe(recipe, listener=Listener(say=more.append))
    assert (again, more) == (recipe, [])  # what is settled stays, and is not said twice


def test_what_a_solved_head_does_not_read_is_said() -> None:
    recipe, heard = resolve("model.head=ridge", "train.transfer.lr=0.1", "model.dropout=0.4")
    assert recipe.model.head == "ridge"
    assert "nothing reads train.transfer.lr, model.dropout" in heard
    assert "nothing reads" not in resolve("model.head=ridge")[1]
    assert "nothing reads" not in resolve("model.head=steps", "train.transfer.lr=0.1")[1]
    with pytest.raises(Exception, match=r"head 'ridge' is solved.*model\.head=steps"):
        check_parts(resolve("model.head=ridge", "model.pooler=attention")[0])


def test_what_is_compared_is_read_at_the_same_place_of_the_network() -> None:
    lite, other = "model.backbone=tf_efficientnet_lite0", "model.backbone=resnet18"
    alone, heard = resolve(lite)
    assert alone.model.embedding == "stages"
    assert "embedding stages: " in heard
    assert resolve(other)[0].model.embedding == "last", "it was not measured"
    assert resolve(lite, "model.embedding=last")[0].model.embedding == "last"
    assert resolve(lite, "train.finetune.epochs=2")[0].model.embedding == "last"
    assert resolve("model.backbone=described:colour")[0].model.embedding == "last"
    for settings in ([other], [lite, "model.head=steps"]):
        both, _ = settle_choices([load_recipe("quick", settings=part) for part in ([lite], settings)])
        assert [recipe.model.embedding for recipe in both] == ["last", "last"]


def test_a_description_beside_a_network_with_stages_can_be_trained() -> None:
    recipes = [
        load_recipe("quick", settings=[f"model.backbone={name}"])
        for name in ("described:colour", "tf_efficientnet_lite0")
    ]
    settled, notes = settle_choices(recipes)
    assert [recipe.model.embedding for recipe in settled] == ["last", "stages"]
    assert sum(note.startswith("embedding") for note in notes) == 1
    for recipe in settled:
        check_parts(recipe)


def test_stages_are_refused_where_the_network_learns_or_is_none() -> None:
    with pytest.raises(RecipeError, match=r"train\.finetune\.epochs=0"):
        check_parts(load_recipe("default", settings=["model.embedding=stages"]))
    with pytest.raises(RecipeError, match=r"model\.embedding=last"):
        check_parts(
            load_recipe(
                "quick", settings=["model.head=logistic", "model.backbone=described:colour", "model.embedding=stages"]
            )
        )
    check_parts(load_recipe("quick", settings=["model.head=logistic", "model.embedding=stages"]))


def test_other_presets_keep_their_steps() -> None:
    for preset in ("default", "start", "scratch"):
        assert resolve(preset=preset)[0].model.head == "steps"
    over = load_recipe("demo", overlays=["scratch"])
    check_parts(over)
    assert (over.model.head, over.model.backbone, over.tile.field_px) == ("steps", "test_resnet", None)


# --- what is compared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_documents("ladder"))
def test_no_rung_turns_what_its_head_does_not_read(name: str) -> None:
    steps = resolve_ladder(load_ladder(name))
    for step in steps:
        model, train = step.recipe.model, step.recipe.train
        assert "auto" not in {model.head, model.backbone, model.embedding}
        if model.head != "steps" and not train.finetune.epochs:
            assert list_turned(model, train, plain=Train()) == ()
        check_parts(step.recipe)
    assert len({step.recipe.model.embedding for step in steps if not step.recipe.ensemble.members}) == 1
    if name not in {"heads", "features"}:  # they compare heads
        assert len({step.recipe.model.head for step in steps}) == 1


def test_one_rung_that_needs_steps_gives_them_to_all_and_until_changes_no_head() -> None:
    rungs: list[dict[str, Any]] = [{"name": "mean"}, {"name": "max", "set": ["model.pooler=max"]}]
    heard: list[str] = []
    ladder = Ladder.model_validate({"preset": "quick", "rungs": rungs})
    steps = resolve_ladder(ladder, listener=Listener(say=heard.append))
    assert {step.recipe.model.head for step in steps} == {"logistic"}
    rungs += [{"name": "gated", "from": "mean", "set": ["model.pooler=gated_attention"]}]
    rungs += [{"name": "ridge", "from": "mean", "set": ["model.head=ridge"]}]
    ladder = Ladder.model_validate({"preset": "quick", "rungs": rungs})
    steps = resolve_ladder(ladder, listener=Listener(say=heard.append))
    assert [step.recipe.model.head for step in steps] == ["steps", "steps", "steps", "ridge"]
    assert [step.recipe.model.head for step in resolve_ladder(ladder, until="max")] == ["steps", "steps"]
    assert any("head logistic" in text for text in heard)
    assert any("head steps: pooler 'gated_attention' learns" in text for text in heard)


def test_a_search_settles_once_for_all_its_trials() -> None:
    assert load_space("transfer").build_recipe({}).model.head == "steps"
    heard: list[str] = []
    rates = Space.model_validate({"knobs": [{"knob": "train.transfer.lr", "low": 1e-3, "high": 1e-1, "log": True}]})
    settings = _settle(rates, ("model.pretrained=false",), listener=Listener(say=heard.append))
    plain, turned = (rates.build_recipe(v, settings).model for v in ({}, {"train.transfer.lr": 0.003}))
    assert plain == turned
    assert (plain.head, "auto" in plain.backbone) == ("steps", False)
    assert any("train.transfer.lr" in text for text in heard)
    tiles = Space.model_validate({"knobs": [{"knob": "tile.max_tiles", "low": 4, "high": 16, "whole": True}]})
    assert tiles.build_recipe({}, _settle(tiles, (), listener=SILENT)).model.head == "logistic"
    assert _settle(tiles, ("model.head=steps", "model.backbone=resnet18"), listener=SILENT) == (
        "model.head=steps", "model.backbone=resnet18", "model.embedding=last",
    )  # fmt: skip


def test_settling_loses_nothing_else() -> None:
    recipe = load_recipe("quick", settings=["split.folds=3", "predict.views=2"])
    (settled,), _ = settle_choices([recipe])
    settings = ["split.folds=3", "predict.views=2"]
    settings += [f"model.head={settled.model.head}", f"model.backbone={settled.model.backbone}"]
    settings += [f"model.embedding={settled.model.embedding}"]
    assert settled == load_recipe("quick", settings=settings)


# --- the audit after training -------------------------------------------------------------------------------------


def look(embed: Callable[..., Any], x: Any, labels: Any, cases: Any, *, name: str) -> Evidence:
    """What a run with a solved head leaves for the audit."""
    from smalti.predict import predict_outer

    experiment = embed(x, labels, "model.head=logistic", "split.seeds=[0,1]", cases=cases, name=name)
    train_folds(experiment)
    table = predict_outer(experiment)
    assert not (experiment.run.predictions / "dynamics.npz").exists()
    classes = experiment.cohort.classes
    seeds = [rows.set_index("image").sort_index() for _, rows in table.groupby("seed")]
    order = [s.image for s in experiment.cohort.labelled]
    return Evidence(
        images=tuple(order),
        cases=np.array([s.case for s in experiment.cohort.labelled]),
        classes=classes,
        labels=np.array([classes.index(str(s.label)) for s in experiment.cohort.labelled]),
        scores=np.stack([rows.loc[order, score_columns(classes)].to_numpy() for rows in seeds]),
        embeddings=np.asarray(x),
    )


def test_flipped_labels_are_found_without_epochs_and_none_where_labels_mean_nothing(embed: Callable[..., Any]) -> None:
    rng = np.random.default_rng(4)
    truth, cases = rng.choice(3, 150), np.arange(150)
    x = rng.normal(size=(150, 10)) + 3 * np.eye(10)[truth]
    wrong = np.isin(np.arange(150), rng.choice(150, 12, replace=False))
    given = np.where(wrong, (truth + rng.integers(1, 3, 150)) % 3, truth)
    evidence = look(embed, x, given, cases, name="flipped")
    findings, outcomes = find_suspects(evidence)
    for criterion in ("margin-area", "forgotten"):
        assert str(outcomes[criterion]).startswith("not applicable: no dynamics")
        assert "solved" in outcomes[criterion].reason
    assert outcomes["seeds-disagree"].found is not None
    opinion = pool_opinions(evidence)
    assert average_precision_score(wrong, rank_labels(evidence, opinion)) > 0.9  # type: ignore[arg-type]
    named = [int(f.images[0][1:]) for f in findings]
    assert wrong[named].mean() > 0.8
    assert wrong[named].sum() >= 8
    assert all(str(truth[i]) == f.evidence["label"] for i, f in zip(named, findings, strict=True) if wrong[i])

    noise = look(embed, rng.normal(size=(150, 10)), given, cases, name="noise")
    findings, outcomes = find_suspects(noise)
    assert (findings, outcomes["label-suspect"].found is None) == ([], True)


@pytest.mark.slow
def test_a_quick_run_with_a_solved_head_is_audited_after_training(challenge: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(challenge, tmp_path / "data"))
    flipped = [*range(LABELLED)][4:6]  # both images of a case
    other = {n: CLASSES[(CLASSES.index(name_label(n)) + 1) % 3] for n in flipped}
    rows = [f"{n},{other.get(n, name_label(n))}" for n in range(LABELLED)]
    write_lines(data / "train_labels.csv", "sample_index,label", *rows)
    settings = [*PLAIN, "train.finetune.epochs=0", "split.seeds=[0,1]", "audit.checks=[]"]
    result = workflow.run(data, "quick", settings=settings, runs=tmp_path / "runs", name="one")
    recipe = (result.path / "recipe.yaml").read_text(encoding="utf-8")
    assert "head: logistic" in recipe
    assert "auto" not in recipe.split("model:")[1].split("predict:")[0].replace("norm: auto", "").split("train:")[0]
    suspects = read_findings(result.path / "suspects.json")
    assert str(suspects.outcomes["margin-area"]).startswith("not applicable: no dynamics")
    assert suspects.outcomes["neighbours"].found is not None
    traces = {trace.image: trace for trace in Traces.read(result.path).images}
    assert len(traces) == LABELLED
    assert all(trace.history == () and trace.alike for trace in traces.values())
    page = (result.path / "report.html").read_text(encoding="utf-8")
    assert "no dynamics were recorded" in page
    recipe = load_recipe("quick", settings=[*settings, "audit.checks=[label-suspect]"])
    seen = workflow.inspect_ground(workflow.Project(data, tmp_path / "looked"), recipe, run=result.path).seen
    assert [f.images for f in seen.findings] == [f.images for f in suspects.findings]
    with without_pages():
        again = workflow.run(data, "quick", settings=settings, runs=tmp_path / "others", name="one")
    for name in ("recipe.yaml", "predictions/out_of_fold.csv", "submission.csv", "suspects.json"):
        assert (result.path / name).read_bytes() == (again.path / name).read_bytes()
    assert pd.read_csv(result.path / "heads.csv")["head"].unique().tolist() == ["logistic"]
