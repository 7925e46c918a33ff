"""Decisions made with predictions in view: they are recognised whatever they say of themselves, and never trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from drawn_records import draw_cohort_record, draw_environment, settle_scores
from pages import without_pages
from smalti import workflow
from smalti.audit import Audit, apply_decisions, settle_decisions, write_decisions
from smalti.errors import RunError
from smalti.evaluate import score_predictions
from smalti.ladder import describe_ladder, load_ladder, resolve_ladder, run_ladder
from smalti.ladder.tabulating import tabulate_ladder
from smalti.logbook import choose_best, read_logbook
from smalti.logbook.seal import write_seal
from smalti.predict import inference
from smalti.project import Project
from smalti.recipe import load_recipe
from smalti.records import AsGiven, Influence, Influenced, RunFolder, Source
from smalti.records.studies.ladder import LadderResult, RungState
from smalti.records.studies.seal import Seal
from smalti.report import write_article, write_ladder_report
from smalti.store import read_table, write_atomic, write_json, write_table
from smalti.types import Action, Cohort, Content, Decision, Finding, Sample, Split
from smalti.workflow.decisions.influence import record_influence, tell_trust
from smalti.workflow.paired import compare_pools
from smalti.workflow.unsealing import _find_touched
from textures import FAST

CLASSES = ("a", "b")
QUICK = (*FAST, "train.finetune.epochs=0", "train.transfer.epochs=4", "evaluate.resamples=200", "audit.checks=[]")


# --- what is recognised -------------------------------------------------------------------------------------------


def decide(image: str, action: Action = "exclude", **words: str) -> Decision:
    return Decision(image, action, "because", words.pop("who", "me"), words.pop("when", "2020-01-01"), **words)


def make_cohort(root: Path, *, sealed: int = 0, count: int = 12) -> Cohort:
    samples = [Sample(f"i{k}", root / f"i{k}", None, CLASSES[k % 2], f"c{k}", f"i{k}") for k in range(count)]
    inside = tuple(replace(s, label=None) for s in samples[:sealed])
    return Cohort(root, "table", tuple(samples[sealed:]), (), CLASSES, sealed=inside)


def stand(
    root: Path, *decisions: Decision, findings: Iterable[Finding] = (), sealed: int = 0, holding: Iterable[str] = ()
) -> workflow.Ground:
    """What a run stands on; ``holding`` images have a content, which is their name."""
    whole = make_cohort(root, sealed=sealed)
    known = tuple(settle_decisions(decisions).values())
    contents = {image: Content(f"hash of {image}") for image in holding}
    seen = Audit(tuple(findings), {})
    return workflow.Ground(apply_decisions(whole, known), whole, known, seen, contents=contents, known=known)


def begin(
    runs: Path, name: str, ground: workflow.Ground, *, started: str, data: str = "hash", learned: bool = True
) -> Influence:
    """A run folder as `prepare` begins it; with a file of predictions where it has learned."""
    path = runs / name
    draw_environment(started=started, data=data).write(path)
    draw_cohort_record(ground.cohort.root.resolve(), classes=CLASSES).write(path)
    write_decisions(path / "decisions.csv", ground.decisions)
    influence = record_influence(Project(ground.cohort.root, runs), RunFolder(path), ground, data=data)
    if learned:
        write_atomic(path / "predictions" / "folds" / "outer-fold0-seed0.csv", "image\n")
    return influence


def influenced(image: str, action: Action, source: Source) -> Influenced:
    return Influenced(image=image, action=action, source=source, followed=True)


def list_found(influence: Influence) -> list[tuple[str, str, str, bool]]:
    return [(d.image, d.action, d.source, d.followed) for d in influence.decisions]


def test_what_was_not_there_when_the_first_run_began_is_late_whatever_it_says(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    early = decide("i0")
    assert begin(runs, "one", stand(root, early, decide("i5", "keep")), started="2026-01-02").decisions == ()
    # A person writes what they like: an old time, no time, a pixel finding, the rule's name, the name of a skip.
    late = (
        decide("i1", when="1999-01-01"),
        decide("i2", when=""),
        decide("i3", "relabel", label="a", when="soon"),
        decide("i4", finding="blank", who="rule"),
        decide("i6", who="skip-problems"),
        decide("i7", "keep"),
        decide("i8", "relabel", label="a"),  # which it has already
        decide("gone"),
    )
    found = begin(runs, "two", stand(root, early, *late), started="2026-01-03")
    assert found.first == "one"
    assert list_found(found) == [
        ("i1", "exclude", "run", True),
        ("i2", "exclude", "run", True),
        ("i3", "relabel", "run", True),
        ("i4", "exclude", "run", True),
        ("i6", "exclude", "run", True),
    ]
    assert (
        found.describe()
        == "1 label was changed after run one could be seen, 4 images were left out after run one could be seen"
    )
    assert begin(runs, "one", stand(root, early, *late), started="2026-01-02").decisions == ()  # recorded once


def test_decisions_that_answer_findings_about_labels_are_never_early_enough(tmp_path: Path) -> None:
    rows = (
        decide("i0", "relabel", label="b", finding="label-suspect"),
        decide("i2", "relabel", label="b", finding="label-suspect"),
        decide("i1", finding="contradicting-labels"),
        decide("i3", "keep", finding="label-suspect"),
    )
    found = begin(tmp_path / "runs", "one", stand(tmp_path / "data", *rows), started="2026-01-02")
    assert [d[2] for d in list_found(found)] == ["networks", "labels", "networks"]
    assert (
        found.describe()
        == "2 labels were changed by what networks said, 1 image was left out for findings about labels"
    )
    assert Influence.read(tmp_path / "runs" / "one") == found


def test_a_rule_on_pixels_is_free_while_the_audit_proposes_the_same_and_nothing_is_passed_over(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    findings = [Finding("blank", "warning", (f"i{k}",), 1.0, "empty", "exclude") for k in (0, 1, 2)]
    begin(runs, "one", stand(root, findings=findings), started="2026-01-02")
    rows = [decide(f"i{k}", finding="blank", who="rule") for k in (0, 1, 2)]

    def name(*decisions: Decision, seen: Iterable[Finding] = findings) -> list[str]:
        name = f"run{len(list(runs.iterdir()))}"
        found = begin(runs, name, stand(root, *decisions, findings=seen), started="2026-01-03", learned=False)
        return [d.image for d in found.decisions]

    assert name(*rows) == []
    assert name(*rows[:2]) == ["i0", "i1"]  # one was passed over
    assert name(*rows[:2], decide("i2", "keep")) == ["i0", "i1"]
    assert name(*rows[:2], decide("i2", finding="blank")) == ["i2"]  # a person chose it
    assert name(*rows, decide("i3", finding="blank", who="rule")) == ["i3"]
    assert name(*rows, seen=()) == ["i0", "i1", "i2"]  # not looked for: nothing says that it is so


def test_who_takes_back_some_early_decisions_and_keeps_others_chooses_too(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    begin(runs, "one", stand(root, decide("i0"), decide("i1")), started="2026-01-02")
    some = begin(runs, "two", stand(root, decide("i0"), decide("i1", "reset")), started="2026-01-03")
    assert list_found(some) == [("i1", "reset", "run", True)]
    assert "taken back" in some.describe()
    assert begin(runs, "three", stand(root), started="2026-01-04").decisions == ()  # nothing but what was given


def test_only_runs_on_this_data_that_have_learned_before_count(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    late = stand(root, decide("i1"))
    begin(runs, "other", stand(tmp_path / "elsewhere"), started="2026-01-01", data="another")
    begin(runs, "idle", stand(root), started="2026-01-01", learned=False)
    (runs / "damaged" / "predictions").mkdir(parents=True)
    for name in ("environment.json", "cohort.json", "predictions/a.csv"):
        (runs / "damaged" / name).write_text("{")
    assert begin(runs, "first", late, started="2026-01-02").decisions == ()
    # A copy under another name is the same data; so is the folder under other case columns.
    assert begin(runs, "copy", stand(tmp_path / "copy", decide("i2")), started="2026-01-03").first == "first"
    assert begin(runs, "cases", stand(root, decide("i2")), started="2026-01-03", data="cases").first == "first"


def test_a_run_of_an_earlier_version_had_its_say_too(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    begin(runs, "old", stand(tmp_path / "elsewhere"), started="2026-01-02")
    (runs / "old" / "influence.json").unlink()
    old = {"identity": {"data": "hash"}, "started": "2026-01-02"}  # no version, no training
    (runs / "old" / "environment.json").write_text(json.dumps(old), encoding="utf-8")
    found = begin(runs, "new", stand(root, decide("i1")), started="2026-01-03")
    assert (found.first, list_found(found)) == ("old", [("i1", "exclude", "run", True)])


def test_a_part_of_the_data_and_more_of_it_are_the_same_data(tmp_path: Path) -> None:
    """Only bytes count: another folder, another hash of the data, fewer or more images."""
    runs, some = tmp_path / "runs", [f"i{k}" for k in range(8)]
    begin(runs, "first", stand(tmp_path / "a", holding=some), started="2026-01-02", data="all")
    part = stand(tmp_path / "b", decide("i2"), decide("i9"), holding=["i2", "i3", "i9"])
    found = begin(runs, "part", part, started="2026-01-03", data="part")
    assert (found.first, list_found(found)) == ("first", [("i2", "exclude", "run", True)])  # nobody has looked at i9
    other = stand(tmp_path / "c", decide("i9"), holding=["i9"])
    assert begin(runs, "other", other, started="2026-01-02T", data="other").decisions == ()


def test_an_ensemble_is_influenced_as_its_members_are(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    begin(runs, "first", stand(root), started="2026-01-02")
    begin(runs, "member", stand(root, decide("i1")), started="2026-01-03")
    path = runs / "whole"
    draw_environment(started="2026-01-04", data="").write(path)
    members = [runs / "first", runs / "member"]
    found = record_influence(Project(root, runs), RunFolder(path), stand(root), data="hash", members=members)
    assert list_found(found) == [("i1", "exclude", "run", True)]
    assert "1 image was left out after run first" in found.describe()


def test_a_run_that_lost_what_influenced_it_is_refused(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    begin(runs, "one", stand(root), started="2026-01-02")
    for content in ('{"known": []}', "[]", '{"known": {"a": ["exclude"]}, "first": "", "decisions": []}', "{"):
        (runs / "one" / "influence.json").write_text(content)
        with pytest.raises(RunError, match=r"influence.json.*Fix"):
            Influence.read(runs / "one")
    (runs / "one" / "influence.json").unlink()
    with pytest.raises(RunError, match=r"influence.json does not exist.*Fix"):
        Influence.read(runs / "one")
    # For others it stands as a run that knew of no decision.
    assert len(begin(runs, "two", stand(root, decide("i1")), started="2026-01-03").decisions) == 1


def test_sealed_images_that_leave_late_touch_the_sealed_score_alone(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    begin(runs, "one", stand(root, sealed=4), started="2026-01-02")
    found = begin(runs, "two", stand(root, decide("i1"), sealed=4), started="2026-01-03")
    assert [d.image for d in found.sealed] == ["i1"]
    assert (found.followed, found.describe()) == ((), "")
    names = ("i0", "i1", "i2", "i3")
    seal = Seal(data="data", share=0.3, sealed_at="2026-01-01", images=names, n_images=4, n_cases=4)
    assert _find_touched([runs / "one"], [seal]) == {}
    assert "1 sealed images were left out" in _find_touched([runs / "two"], [seal])["two"].words
    # Labels changed by what networks said that had seen the cases before these were sealed.
    begin(runs, "three", stand(root, decide("i6"), sealed=4), started="2026-01-04")
    assert _find_touched([runs / "three"], [seal]) == {}
    late = seal.model_copy(update={"runs_before": ("one",)})
    assert "may have been seen by one" in _find_touched([runs / "three"], [late])["three"].words


def test_a_ladder_knows_of_decisions_that_a_rung_does_not_follow(tmp_path: Path) -> None:
    root, runs = tmp_path / "data", tmp_path / "runs"
    ground = stand(root, decide("i0"), decide("i1"))
    assert begin(runs, "bare", workflow.restrict_decisions(ground, ()), started="2026-01-02").decisions == ()
    assert begin(runs, "all", ground, started="2026-01-03").decisions == ()  # they were there
    later = stand(root, decide("i0"), decide("i1"), decide("i2"))
    bare = begin(runs, "again", workflow.restrict_decisions(later, ()), started="2026-01-04")
    assert list_found(bare) == [("i2", "exclude", "run", False)]
    assert bare.describe() == ""


def test_scores_with_late_decisions_stand_beside_those_as_given() -> None:
    table = draw_table([f"i{k}" for k in range(60)])
    scores, given = (settle_scores(score_predictions(t, classes=CLASSES)) for t in (table[6:], table))
    assert tell_trust(scores, Influence(), None) is scores
    influence = Influence(first="one", decisions=tuple(influenced(f"i{k}", "exclude", "run") for k in range(6)))
    told = tell_trust(scores, influence, given)
    score = given.headline
    words = (
        f"6 images were left out after run one could be seen; as given it scores {score.value:.3f} "
        f"({score.low:.3f} to {score.high:.3f})"
    )
    assert told.interval.trustworthy is False
    assert told.interval.reason.startswith(words)
    assert told.as_given is not None
    assert told.as_given.words == words
    assert told.as_given.metrics == given.metrics
    assert not any(row.trustworthy for row in told.metrics.values())
    assert all(told.metrics[m].value == row.value for m, row in scores.metrics.items())
    assert "not known" in tell_trust(scores, influence, None).interval.reason
    json.dumps(told.dump(), allow_nan=False)


# --- images that were left out are scored by networks that have not seen their case ---------------------------------


def test_left_out_images_go_to_a_network_that_never_saw_their_case(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [Sample(f"i{k}", Path(f"i{k}"), None, CLASSES[k % 2], f"c{k // 2}", "") for k in range(16)]
    kept = tuple(s for k, s in enumerate(samples) if k not in (1, 4, 5, 10, 11))  # c2 and c5 are gone as a whole
    splits = []
    for seed in range(2):
        fold = np.array([(int(s.case[1:]) + seed) % 3 for s in kept])
        parts = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(3)]
        splits += [Split(seed, f, train, train[:0], outer) for f, (train, outer) in enumerate(parts)]
    cohort = replace(make_cohort(Path()), labelled=tuple(replace(s, label="a") for s in kept))
    asked: list[tuple[Split, tuple[Sample, ...]]] = []

    def remember(_: Any, split: Split, wanted: tuple[Sample, ...], **__: Any) -> pd.DataFrame:
        asked.append((split, wanted))
        rows = [(s.image, s.case, split.fold, split.seed, s.label) for s in wanted]
        return pd.DataFrame(rows, columns=["image", "case", "fold", "seed", "label"])

    monkeypatch.setattr(inference, "_predict_part", remember)
    experiment = SimpleNamespace(cohort=cohort, splits=splits, given=tuple(samples))
    outer = inference.predict_outer(experiment)  # type: ignore[arg-type]
    asked.clear()
    table = inference.predict_given(experiment, outer)  # type: ignore[arg-type]
    assert sorted(table["image"]) == sorted([s.image for s in samples] * 2)
    assert dict(zip(table["image"], table["label"], strict=True)) == {s.image: s.label for s in samples}
    assert (table.groupby(["seed", "case"])["fold"].nunique() == 1).all()
    for split, wanted in asked:
        learned = {cohort.labelled[i].case for i in np.union1d(split.train, split.inner)}
        assert not learned & {s.case for s in wanted}


@pytest.fixture(scope="module")
def cheated(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run, and one without the images that it got most wrong and with another label on a case; read only."""
    runs = tmp_path_factory.mktemp("cheated") / "runs"
    settings = [*QUICK, "split.seeds=[0,1]"]
    with without_pages():
        first = workflow.run(challenge, "default", settings=settings, runs=runs, name="first")
    table = read_table(first.path / "predictions" / "out_of_fold.csv")
    own = table.assign(own=[row[f"score_{row.label}"] for _, row in table.iterrows()]).groupby("image").own.mean()
    alone = [image for image in own.sort_values().index if int(image[-8:-4]) >= 12]
    pair = [image for image in own.index if int(image[-8:-4]) in (2, 3)]
    rows = [decide(image) for image in alone[:3]] + [decide(image, "relabel", label="A") for image in pair]
    path = write_decisions(runs.parent / "decisions.csv", rows)
    second = workflow.run(challenge, "default", settings=settings, runs=runs, name="second", decisions=path)
    return SimpleNamespace(runs=runs, first=first, second=second, excluded=alone[:3], pair=pair)


def test_a_run_on_late_decisions_is_scored_both_ways_and_not_trusted(cheated: SimpleNamespace) -> None:
    scores, path = cheated.second.scores, cheated.second.path
    given, own = (
        pd.read_csv(path / "predictions" / f"{n}.csv", dtype={"label": str}) for n in ("as_given", "out_of_fold")
    )
    before = read_table(cheated.first.path / "predictions" / "out_of_fold.csv")
    labels = dict(zip(before["image"], before["label"], strict=True))
    assert set(given["image"]) == set(labels)
    assert set(labels) - set(own["image"]) == set(cheated.excluded)
    assert all(labels[image] == label for image, label in zip(given["image"], given["label"], strict=True))
    columns = [c for c in given if c.startswith("score_")]
    keys = ["seed", "fold", "image"]
    kept = given[~given["image"].isin(cheated.excluded)].set_index(keys)[columns]
    pd.testing.assert_frame_equal(kept, own.set_index(keys)[columns].loc[kept.index])
    folds = pd.read_csv(path / "folds.csv", dtype=str)
    for row in given[given["image"].isin(cheated.excluded)].itertuples():
        here = folds[(folds["seed"] == str(row.seed)) & (folds["fold"] == str(row.fold)) & (folds["role"] != "outer")]
        assert row.case not in set(here["case"])
    names = np.array([c.removeprefix("score_") for c in columns])
    macro = [
        f1_score(part["label"], names[part[columns].to_numpy().argmax(axis=1)], average="macro")
        for _, part in given.groupby("seed")
    ]
    assert scores.as_given.metrics["macro_f1"].value == pytest.approx(np.mean(macro))
    assert scores.as_given.n_images == scores.n_images + 3
    assert scores.interval.trustworthy is False
    assert cheated.first.scores.as_given is None
    words = "2 labels were changed after run first could be seen, 3 images were left out after run first could be seen"
    assert f"not to be trusted: {words}; as given it scores {np.mean(macro):.3f} (" in cheated.second.describe()


def test_page_logbook_comparison_and_article_say_it(cheated: SimpleNamespace) -> None:
    given = cheated.second.scores.as_given
    value = f"{given.metrics['macro_f1'].value:.3f}"
    page = (cheated.second.path / "report.html").read_text(encoding="utf-8")
    assert given.words in page
    assert "above what guessing reaches" not in page
    book = read_logbook(cheated.runs)
    entry = book.find("second")
    assert entry.as_given is not None
    assert (entry.trustworthy, entry.as_given.changed) == (False, given.changed)
    assert f"{entry.as_given.metrics['macro_f1'].value:.3f}" == value
    perfect = entry.metrics["macro_f1"].model_copy(update={"value": 1.0, "low": 1.0, "high": 1.0})
    better = replace(entry, metrics={"macro_f1": perfect})
    chosen = choose_best([book.find("first"), better])
    assert chosen is not None
    assert chosen.name == "first"
    table = cheated.second.path / "predictions" / "out_of_fold.csv"  # by its table it is no better
    result = workflow.compare_sources(["second", table], runs=cheated.runs).dump()
    assert result["trustworthy"] is False
    assert given.words in result["reason"]
    assert [row["as_given"] for row in result["rows"]] == [given.model_dump(), given.model_dump()]
    difference = result["rows"][1]["difference"]
    assert {d["verdict"] for d in difference.values()} == {"no verdict"}
    assert "second" in difference["macro_f1"]["why"]
    text = write_article(cheated.second.path).parent
    assert "as given" in (text / "main.tex").read_text(encoding="utf-8")
    assert value in (text / "numbers.tex").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_pages")
def test_an_ensemble_of_such_runs_is_one(cheated: SimpleNamespace, challenge: Path) -> None:
    made = workflow.run(
        challenge,
        "default",
        settings=[*QUICK, "split.seeds=[0,1]", "ensemble.members=[second]"],
        runs=cheated.runs,
        name="blend",
        decisions=cheated.runs.parent / "decisions.csv",
    )
    mine, member = made.scores.as_given, cheated.second.scores.as_given
    assert mine.metrics["macro_f1"].value == pytest.approx(member.metrics["macro_f1"].value)
    assert made.scores.interval.trustworthy is False


# --- ladders and comparisons ----------------------------------------------------------------------------------------


def draw_table(images: list[str], *, skill: float = 2.0) -> pd.DataFrame:
    rng = np.random.default_rng(len(images))
    truth = np.array([int(i[1:]) % 2 for i in images])
    said = 1 / (1 + np.exp(-skill * (2 * truth - 1) - rng.normal(0, 2, len(images))))
    rows = [(i, f"c{int(i[1:]) // 2}", int(i[1:]) // 2 % 3, 0, CLASSES[t]) for i, t in zip(images, truth, strict=True)]
    table = pd.DataFrame(rows, columns=["image", "case", "fold", "seed", "label"])
    return table.assign(score_a=1 - said, score_b=said)


def write_run(path: Path, table: pd.DataFrame, *decisions: Decision, changes: Iterable[Influenced] = ()) -> None:
    write_atomic(path / "recipe.yaml", load_recipe("quick", settings=["evaluate.resamples=100"]).to_yaml())
    write_table(path / "predictions" / "out_of_fold.csv", table)
    draw_cohort_record(path, classes=CLASSES).write(path)
    influence = Influence(first="first", decisions=tuple(changes))
    scores = settle_scores(score_predictions(table, classes=CLASSES))
    tell_trust(scores, influence, scores).write(path)
    write_decisions(path / "decisions.csv", decisions)
    influence.write(path)


def revive(content: dict[str, Any]) -> LadderResult:
    return LadderResult.model_validate({key: value for key, value in content.items() if key != "version"})


def tabulate(runs: Path, *names: str) -> dict[str, Any]:
    steps = resolve_ladder(load_ladder("purge"))[: len(names)]
    states = {s.name: RungState(key="", status="done", run=name) for s, name in zip(steps, names, strict=True)}
    project = Project(runs / "data", runs)
    return tabulate_ladder(project, steps, states, name="x", about="", started="", finished="now", margin=0.02).dump()


@pytest.mark.slow
def test_a_ladder_on_late_decisions_has_no_verdict_and_no_trusted_score(tmp_path: Path) -> None:
    images = [f"i{k}" for k in range(120)]
    left = images[20:]
    out = [decide(image) for image in images[:20]]
    late = [influenced(d.image, "exclude", "run") for d in out]
    write_run(tmp_path / "all", draw_table(images), changes=[d.model_copy(update={"followed": False}) for d in late])
    kept = draw_table(left, skill=20)  # however large the difference
    write_run(tmp_path / "kept", kept, *out, changes=late)
    result = tabulate(tmp_path, "all", "kept")
    rows = result["rungs"][:2]
    gap = rows[1]["difference"]["macro_f1"]
    assert gap["low"] > 0
    assert (gap["verdict"], gap["why"]) == (
        "no verdict",
        "20 images were set aside or changed with predictions in view; only sealed cases could judge it: "
        "--set split.sealed_frac=0.2 from the first run on",
    )
    assert [row["trustworthy"] for row in rows] == [False, False]
    assert rows[0]["as_given"]["n_images"] == 120  # what it scored on all
    assert all("as given it scores" in row["trust_reason"] for row in rows)
    lines = describe_ladder(revive(result))
    assert any("1 no verdict" in line for line in lines)
    assert any(line.startswith("no verdict: 20 images") for line in lines)
    root = str(tmp_path.resolve() / "data")
    seal = Seal(data=root, share=0.2, sealed_at="2026-01-01", images=("x",), n_images=1, n_cases=1)
    write_seal(tmp_path / "data.seal.json", seal)
    assert "--open-seal" in tabulate(tmp_path, "all", "kept")["rungs"][1]["difference"]["macro_f1"]["why"]
    write_json(tmp_path / "ladder" / "ladder.json", {"ladder": "purge", "about": "", **result, "finished": "now"})
    page = write_ladder_report(tmp_path / "ladder").read_text(encoding="utf-8")
    assert "no verdict on 1" in page
    assert "as given" in page
    assert "1 helped" not in page
    article = write_article(tmp_path / "ladder").read_text(encoding="utf-8")
    assert "there is no verdict" in article


@pytest.mark.slow
def test_late_decisions_set_whole_cases_aside_and_are_not_heard_where_no_rung_follows_them(tmp_path: Path) -> None:
    images = [f"i{k}" for k in range(40)]
    late = influenced("i4", "relabel", "networks")
    row = decide("i4", "relabel", label="b", finding="label-suspect")
    write_run(tmp_path / "all", draw_table(images), changes=[late.model_copy(update={"followed": False})])
    table = draw_table(images)
    table.loc[4, "label"] = "b"
    write_run(tmp_path / "changed", table, row, changes=[late])
    result = tabulate(tmp_path, "all", "changed")
    assert result["n_images"] == 38  # i5 is of the same case
    assert sum(result["set_aside"].values()) == 2
    write_decisions(tmp_path / "data.decisions.csv", [row])
    other = draw_table(images, skill=2.5)
    write_run(tmp_path / "unheard", other, changes=[late.model_copy(update={"followed": False})])
    result = tabulate(tmp_path, "all", "unheard")
    assert (result["n_images"], result["set_aside"]) == (40, {})
    assert result["rungs"][1]["difference"]["macro_f1"]["verdict"] != "no verdict"
    assert "as given" not in str(result["rungs"][1]["trust_reason"])


def test_a_comparison_with_such_a_run_has_no_verdict() -> None:
    from smalti.stats import pool_predictions

    images = [f"i{k}" for k in range(90)]
    pools = {n: pool_predictions(draw_table(images, skill=s), classes=CLASSES) for n, s in (("a", 1.0), ("b", 20.0))}
    plain = compare_pools(pools, confidence=0.95).dump()["rows"][1]["difference"]["macro_f1"]
    given = {"b": AsGiven(changed="", words="labels were changed", n_images=None, n_cases=None, metrics=None)}
    told = compare_pools(pools, confidence=0.95, given=given).dump()
    found = told["rows"][1]["difference"]["macro_f1"]
    assert {k: v for k, v in found.items() if k not in ("verdict", "why")} == {
        k: v for k, v in plain.items() if k not in ("verdict", "why")
    }
    assert found["verdict"] == "no verdict"
    assert plain["verdict"] == "better"
    assert told["trustworthy"] is False


@pytest.mark.slow
def test_decisions_that_change_while_a_ladder_runs_stop_it(
    challenge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(challenge, tmp_path / "textures"))
    runs = tmp_path / "runs"
    path = workflow.find_decisions(workflow.Project(data, runs))
    ladder = tmp_path / "two.yaml"
    ladder.write_text("preset: quick\nrungs:\n  - {name: one}\n  - {name: two, set: [predict.decision=prior]}\n")
    made: list[str] = []

    def pretend(change: Callable[[], object]) -> Callable[..., None]:
        def run_on(project: Project, *_: Any, name: str, **__: Any) -> None:
            made.append(name)
            table = draw_table([f"i{k}" for k in range(20)])
            write_run(project.runs / name, table)
            if len(made) == 1:
                change()

        return run_on

    row = decide("train_data/img_0012.png")
    monkeypatch.setattr(workflow, "run_on", pretend(lambda: write_decisions(path, [row])))
    climb = lambda: run_ladder(data, ladder, settings=QUICK, runs=runs)  # noqa: E731
    with pytest.raises(RunError, match=r"decisions changed while the ladder ran.*img_0012.*What is done is kept.*Fix"):
        climb()
    assert len(made) == 1
    path.unlink()
    climb()
    assert len(made) == 2  # the first counts again
    write_decisions(path, [row])
    climb()
    assert len(made) == 4  # with other decisions both are other rungs
