"""Label suspects after training: criteria against libraries and plain loops, planted flips, chance, files, commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy.special import expit, softmax
from scipy.stats import entropy
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from sklearn.neighbors import NearestNeighbors

from drawn_records import draw_cohort_record
from smalti import cli, workflow
from smalti.audit import Evidence, NotApplicable, find_suspects, read_evidence, read_findings, trace_images
from smalti.audit.labels import neighbours as module
from smalti.audit.labels.criteria import CRITERIA, Measured
from smalti.audit.labels.dynamics import average_scores
from smalti.audit.labels.neighbours import VOTERS, find_neighbours, regress_labels
from smalti.audit.labels.suspects import measure_skill, pool_opinions, rank_labels
from smalti.errors import RunError
from smalti.records import Dynamics, RunFolder, Traces
from smalti.report import write_report
from smalti.types import DECISION_COLUMNS, Sample
from textures import FAST, LABELLED, write_lines

CLASSES = ("a", "b", "c")


def draw_evidence(
    count: int = 90, *, apart: float = 3.0, flips: float = 0.0, seeds: int = 3, seed: int = 0
) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """Three clouds: noisy scores of each seed, courses towards them, embeddings; cases of two images; true classes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, count, p=[0.5, 0.3, 0.2])
    logits = apart * np.eye(3)[truth] + rng.normal(size=(seeds, count, 3))
    labels = truth.copy()
    wrong = np.zeros(count, bool)
    wrong[rng.choice(count, round(flips * count), replace=False)] = True
    labels[wrong] = (truth[wrong] + rng.integers(1, 3, wrong.sum())) % 3
    rows = [(i, s, e) for s in range(seeds) for e in range(6) for i in range(count)]
    image, number, epoch = (np.array(column) for column in zip(*rows, strict=True))
    courses = (logits[number, image] * (epoch[:, None] + 1) / 6 + rng.normal(0, 0.5, (len(rows), 3))).astype(np.float32)
    names = tuple(f"i{k:03d}" for k in range(count))
    embeddings = rng.normal(size=(count, 12)) + apart * np.eye(12)[truth]
    evidence = Evidence(
        images=names,
        cases=np.array([f"c{k // 2}" for k in range(count)]),
        classes=CLASSES,
        labels=labels,
        scores=softmax(logits, axis=2),
        dynamics=Dynamics(names, CLASSES, image, number, epoch, courses),
        embeddings=embeddings,
    )
    return evidence, truth, wrong


def measure(name: str, evidence: Evidence) -> Measured:
    answer = CRITERIA.find(name).call(evidence)
    assert isinstance(answer, Measured)
    return answer


# --- criteria -----------------------------------------------------------------------------------------------------


def test_label_errors_are_those_of_cleanlab() -> None:
    evidence, _, _ = draw_evidence(flips=0.1)
    mean = evidence.scores.mean(axis=0)
    found = measure("label-error", evidence)
    quality = get_label_quality_scores(evidence.labels, mean, adjust_pred_probs=True)
    assert found.values == pytest.approx(1 - quality)
    assert np.array_equal(found.named, find_label_issues(evidence.labels, mean, n_jobs=1))
    assert found.named.any()


def test_loss_and_disagreement_are_those_of_a_plain_loop() -> None:
    evidence, _, _ = draw_evidence(40, apart=1.0)
    losses, apart = measure("high-loss", evidence), measure("seeds-disagree", evidence)
    for i, label in enumerate(evidence.labels):
        seen = evidence.scores[:, i]
        assert losses.values[i] == pytest.approx(np.mean([-np.log(p[label]) for p in seen]))
        assert losses.named[i] == (losses.values[i] > np.log(3))
        assert apart.values[i] == pytest.approx(entropy(seen.mean(axis=0)) - np.mean([entropy(p) for p in seen]))
        assert apart.named[i] == (len({int(p.argmax()) for p in seen}) > 1)


def test_neighbours_are_those_of_scikit_learn() -> None:
    """Votes of the nearest images of other cases, and of each class the nearest of them to show."""
    evidence, _, _ = draw_evidence(60, flips=0.2)
    points = evidence.embeddings
    assert points is not None
    scaled = (points - points.mean(axis=0)) / points.std(axis=0)
    _, order = NearestNeighbors(n_neighbors=60, metric="cosine").fit(scaled).kneighbors(scaled)
    found = find_neighbours(points, evidence.labels, evidence.cases, classes=3)
    for i in range(60):
        elsewhere = [j for j in order[i] if evidence.cases[j] != evidence.cases[i]]
        votes = np.bincount(evidence.labels[elsewhere[:VOTERS]], minlength=3)
        rest = np.bincount(evidence.labels[elsewhere], minlength=3) / 58
        assert found.shares[i] == pytest.approx((votes + rest) / (VOTERS + 1))
        for label in range(3):
            assert found.list_of(i, label) == [j for j in elsewhere if evidence.labels[j] == label][:4]
        given = evidence.labels[i]
        assert found.list_unlike(i, given) == [j for j in elsewhere if evidence.labels[j] != given][:4]


@pytest.mark.parametrize("images", [1, 2, 7])
def test_leaving_out_in_one_go_is_leaving_out_case_by_case(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    evidence, _, _ = draw_evidence(30, apart=1.5)
    cases = np.array([f"c{k * 7 % 30 // images}" for k in range(30)])  # the last of seven images has two
    points, labels = evidence.embeddings, evidence.labels
    assert points is not None
    scaled = (points - points.mean(axis=0)) / points.std(axis=0)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    monkeypatch.setattr(module, "PENALTIES", np.array([0.3]))
    penalty = 0.3 * ((scaled - scaled.mean(axis=0)) ** 2).sum() / 30  # relative to the mean eigenvalue
    found = regress_labels(points, labels, cases, classes=3)
    if images == 1:
        assert found == pytest.approx(regress_labels(points, labels, classes=3))
    for i in range(30):
        rest = cases != cases[i]
        said = Ridge(alpha=penalty).fit(scaled[rest], np.eye(3)[labels][rest]).predict(scaled[i : i + 1])[0]
        # The nearest probabilities, by the definition: lowered alike until what is above zero sums to one.
        steps = np.linspace(said.min() - 1, said.max(), 200_001)
        lowered = np.maximum(said - steps[:, None], 0)
        nearest = lowered[np.abs(lowered.sum(axis=1) - 1).argmin()]
        assert found[i] == pytest.approx(nearest, abs=1e-4)


@pytest.mark.slow
def test_leaving_out_tells_nothing_about_labels_that_mean_nothing() -> None:
    """More dimensions than images, as with a backbone: a way to the image's own label would be found."""
    right, own = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.repeat([0, 1], 30))
        points = rng.normal(size=(60, 200))
        scores = regress_labels(points, labels, classes=2)
        right.append(np.mean(scores.argmax(axis=1) == labels))
        shares = find_neighbours(points, labels, np.arange(60).astype(str), classes=2).shares
        own.append(np.mean(shares.argmax(axis=1) == labels))
    # Of what is left of two equal classes the other one is larger by one, so that a guess is right less than half.
    assert 0.3 < np.mean(right) < 0.55
    assert 0.3 < np.mean(own) < 0.55


def test_average_scores_are_the_mean_softmax() -> None:
    dynamics = draw_evidence(10)[0].dynamics
    assert dynamics is not None
    table = pd.DataFrame(softmax(dynamics.logits.astype(float), axis=1)).groupby(dynamics.image).mean()
    assert average_scores(dynamics) == pytest.approx(table.to_numpy(), abs=1e-6)


@pytest.mark.slow
def test_skill_is_the_adjusted_balanced_accuracy_and_nothing_by_chance() -> None:
    rng = np.random.default_rng(0)
    evidence, _, _ = draw_evidence(90, apart=2.0)
    scores = evidence.scores[0]
    expected = balanced_accuracy_score(evidence.labels, scores.argmax(axis=1), adjusted=True)
    assert measure_skill(scores, evidence.labels) == pytest.approx(expected)
    heard = [measure_skill(scores, rng.permutation(evidence.labels)) > 0 for _ in range(400)]
    assert np.mean(heard) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "images", "alike", "rare", "bias"),
    [(60, 1, 0.0, 0.3, 0), (60, 4, 0.7, 0.3, 0), (40, 12, 0.5, 0.3, 0), (60, 6, 0.8, 0.15, 1), (30, 4, 0.9, 0.1, 0)],
)  # fmt: skip
def test_who_knows_nothing_is_rarely_heard_however_alike_images_of_a_case_are(
    cases: int, images: int, alike: float, rare: float, bias: float
) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat((np.arange(cases) < rare * cases).astype(int), images)
    case = np.repeat(np.arange(cases).astype(str), images)
    heard = []
    for _ in range(200):
        drawn = np.sqrt(alike) * np.repeat(rng.normal(size=cases), images)
        said = expit(drawn + np.sqrt(1 - alike) * rng.normal(size=cases * images) + bias)
        heard.append(measure_skill(np.stack([1 - said, said], axis=1), labels, case) > 0)
    assert np.mean(heard) <= 0.05  # 2.5 % and 2.2 standard errors; by image up to 30 %


@pytest.mark.slow
def test_who_knows_the_patient_and_no_label_is_not_heard() -> None:
    """Embeddings that tell patients apart tell any label of a patient, until the whole case is left out."""
    heard = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        cases = np.repeat(np.arange(40).astype(str), 5)
        labels = np.repeat(rng.permutation(np.repeat([0, 1], 20)), 5)
        points = np.repeat(rng.normal(size=(40, 64)), 5, axis=0) + rng.normal(0, 0.3, (200, 64))
        shares = find_neighbours(points, labels, cases, classes=2).shares
        heard += [
            measure_skill(s, labels, cases) > 0 for s in (shares, regress_labels(points, labels, cases, classes=2))
        ]
        alone = np.arange(200).astype(str)
        assert measure_skill(find_neighbours(points, labels, alone, classes=2).shares, labels, cases) > 0.9
    assert np.mean(heard) <= 0.1


def test_where_a_label_belongs_to_the_case_a_finding_is_about_the_case() -> None:
    evidence, _, _ = draw_evidence(90)
    cases = np.array([f"c{k // 3}" for k in range(90)])
    case = np.arange(90) // 3
    truth = np.arange(30) % 3
    rng = np.random.default_rng(0)
    logits = 3 * np.eye(3)[truth[case]] + rng.normal(size=(3, 90, 3))
    given = truth.copy()
    given[[4, 11]] = (truth[[4, 11]] + 1) % 3
    scores = softmax(logits, axis=2)
    bound = replace(evidence, cases=cases, labels=given[case], scores=scores, dynamics=None, embeddings=None)
    findings, _ = find_suspects(bound)
    assert findings  # confident learning lists as many as it is sure of
    assert {f.images for f in findings} <= {tuple(evidence.images[3 * k : 3 * k + 3]) for k in (4, 11)}
    opinion = pool_opinions(bound)
    assert not isinstance(opinion, NotApplicable)
    assert set(np.argsort(-rank_labels(bound, opinion))[:6] // 3) == {4, 11}
    for finding in findings:
        members = [evidence.images.index(image) for image in finding.images]
        mean = scores.mean(axis=0)[members].mean(axis=0)
        assert list(finding.evidence["pooled"].values()) == pytest.approx(mean, abs=1e-3)
    # Recorded of the data as they were read: one image that a decision changed does not unbind the others.
    one = bound.labels.copy()
    one[0] = (one[0] + 1) % 3
    assert all(len(f.images) == 1 for f in find_suspects(replace(bound, labels=one))[0])
    assert any(len(f.images) == 3 for f in find_suspects(replace(bound, labels=one, label_by_case=True))[0])


# --- suspects -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_flipped_labels_are_found_with_the_label_to_propose(seed: int) -> None:
    evidence, truth, wrong = draw_evidence(flips=0.1, seed=seed)
    findings, outcomes = find_suspects(evidence)
    opinion = pool_opinions(evidence)
    assert not isinstance(opinion, NotApplicable)
    assert sum(opinion.weights.values()) == pytest.approx(1)
    assert opinion.scores.sum(axis=1) == pytest.approx(np.ones(90))
    assert average_precision_score(wrong, rank_labels(evidence, opinion)) > 0.9
    listed = [evidence.images.index(f.images[0]) for f in findings]
    assert len(listed) == len(set(listed))  # one finding for each image
    assert wrong[listed].sum() >= 0.6 * wrong.sum()  # confident learning lists as many as it is sure of
    assert wrong[listed].mean() >= 0.7
    assert [f.score for f in findings] == sorted((f.score for f in findings), reverse=True)
    assert outcomes["label-suspect"].found == len(findings)
    for i, finding in zip(listed, findings, strict=True):
        found = finding.evidence
        assert (finding.code, finding.proposal) == ("label-suspect", "relabel")
        assert found["given"] == CLASSES[evidence.labels[i]]
        assert found["label"] != found["given"]
        assert found["label"] == CLASSES[truth[i]] or not wrong[i]
        assert set(found["criteria"]) == {entry.name for entry in CRITERIA}
        for key, label in (("nearest_given", found["given"]), ("nearest_proposed", found["label"])):
            near = [evidence.images.index(name) for name in found[key]]
            assert near
            assert {CLASSES[evidence.labels[j]] for j in near} == {label}
            assert evidence.cases[i] not in evidence.cases[near]
    json.dumps([f.evidence for f in findings], allow_nan=False)


@pytest.mark.slow
def test_labels_that_mean_nothing_are_not_questioned() -> None:
    """Nothing tells the labels, so nothing can tell which are wrong: it says so, and a ranking would be chance."""
    silent, precisions = 0, []
    for seed in range(20):
        evidence, _, wrong = draw_evidence(flips=0.1, seed=seed)
        shuffled = replace(evidence, labels=np.random.default_rng(seed).permutation(evidence.labels))
        findings, outcomes = find_suspects(shuffled)
        opinion = pool_opinions(shuffled)
        if isinstance(opinion, NotApplicable):
            silent += 1
            assert not findings
            assert outcomes["label-suspect"].found is None
        else:
            precisions.append(average_precision_score(wrong, rank_labels(shuffled, opinion)))
        precisions.append(average_precision_score(wrong, measure("high-loss", shuffled).values))
    assert silent >= 14  # of three witnesses one may be lucky
    assert np.mean(precisions) == pytest.approx(0.1, abs=0.06)


def test_what_a_run_lacks_is_not_applicable() -> None:
    evidence, _, _ = draw_evidence(flips=0.1)
    bare = replace(evidence, scores=evidence.scores[:1], dynamics=None, embeddings=None)
    findings, outcomes = find_suspects(bare)
    lacking = {name for name, outcome in outcomes.items() if outcome.found is None}
    assert lacking == {"margin-area", "forgotten", "seeds-disagree", "neighbours", "left-out"}
    assert findings
    assert all(f.evidence["nearest_given"] == [] for f in findings)
    assert all(trace.history == trace.alike == trace.unlike == () for trace in trace_images(bare))


def test_a_class_without_images_makes_label_errors_not_applicable() -> None:
    evidence, _, _ = draw_evidence(30)
    rest = evidence.restrict({i for i, y in zip(evidence.images, evidence.labels, strict=True) if y != 2})
    _, outcomes = find_suspects(rest)
    assert outcomes["label-error"] == outcomes["label-suspect"]
    assert str(outcomes["label-suspect"]) == "not applicable: a class has no image"


def test_a_class_of_one_image_is_no_error() -> None:
    evidence, _, _ = draw_evidence(30, flips=0.1)
    first = int(np.flatnonzero(evidence.labels == 2)[0])
    kept = [name for i, name in enumerate(evidence.images) if evidence.labels[i] != 2 or i == first]
    findings, _ = find_suspects(evidence.restrict(kept))
    assert all(f.evidence["given"] != "c" for f in findings)


def test_restricted_evidence_knows_nothing_of_the_others() -> None:
    evidence, _, _ = draw_evidence(flips=0.15)
    kept = set(evidence.images[:60])
    part = evidence.restrict(kept)
    text = json.dumps([f.evidence | {"image": f.images} for f in find_suspects(part)[0]])
    text += repr(trace_images(part))
    assert not any(name in text for name in evidence.images[60:])
    again = evidence.restrict(evidence.images)
    assert [f.images for f in find_suspects(again)[0]] == [f.images for f in find_suspects(evidence)[0]]


def test_traces_say_what_the_networks_said() -> None:
    evidence, _, _ = draw_evidence(40, flips=0.1)
    for i, trace in enumerate(trace_images(evidence)):
        assert trace.image == evidence.images[i]
        assert trace.loss == pytest.approx(evidence.losses[i], abs=1e-4)
        assert list(trace.scores.values()) == pytest.approx(evidence.scores[:, i].mean(axis=0), abs=1e-4)
        assert [epoch for epoch, _ in trace.history] == list(range(6))
        labels = dict(zip(evidence.images, evidence.labels, strict=True))
        assert {labels[name] for name in trace.alike} == {evidence.labels[i]}
        assert evidence.labels[i] not in {labels[name] for name in trace.unlike}


@pytest.mark.slow
def test_cleanlab_is_imported_only_where_it_is_needed() -> None:
    code = "import sys, smalti, smalti.audit, smalti.cli, smalti.workflow; sys.exit('cleanlab' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- files and commands -------------------------------------------------------------------------------------------


def test_a_run_leaves_suspects_and_traces(finished: Any, challenge: Path) -> None:
    labels = pd.read_csv(challenge / "train_labels.csv", dtype=str)["label"].tolist()
    suspects = read_findings(finished.path / "suspects.json")
    assert list(suspects.outcomes) == [*(entry.name for entry in CRITERIA), "label-suspect"]
    traces = {trace.image: trace for trace in Traces.read(finished.path).images}
    assert len(traces) == LABELLED
    evidence = read_evidence(finished.path)
    assert set(evidence.images) == set(traces)
    assert all(image.startswith("train_data/") for image in traces)
    for image, trace in traces.items():
        label = labels[int(image[-8:-4])]
        assert evidence.classes[evidence.labels[evidence.images.index(image)]] == label
        assert len(trace.history) >= 1
        assert trace.alike
        assert image not in (*trace.alike, *trace.unlike)
    table = pd.read_csv(finished.path / "predictions" / "out_of_fold.csv")
    for image, rows in table.groupby("image"):
        given = [row[f"score_{row['label']}"] for _, row in rows.iterrows()]
        assert traces[str(image)].loss == pytest.approx(-np.log(given).mean(), abs=1e-4)


def test_the_report_shows_suspects_and_says_why_there_are_none(finished: Any, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    for name in ("cohort.json", "suspects.json", "recipe.yaml"):
        (run.path).mkdir(exist_ok=True)
        (run.path / name).write_bytes((finished.path / name).read_bytes())
    evidence, _, _ = draw_evidence(flips=0.1)
    findings, outcomes = find_suspects(evidence)
    stored = json.loads((run.path / "suspects.json").read_text())
    stored["findings"] = [vars_of(f) for f in findings]
    stored["outcomes"] = {name: str(result) for name, result in outcomes.items()}
    (run.path / "suspects.json").write_text(json.dumps(stored))
    page = write_report(run).read_text(encoding="utf-8")
    assert "Label suspects" in page
    assert findings[0].images[0] in page
    (run.path / "suspects.json").unlink()
    assert "there is no suspects.json" in write_report(run).read_text(encoding="utf-8")


def vars_of(finding: Any) -> dict[str, Any]:
    return {name: getattr(finding, name) for name in finding.__slots__ if name != "blind"}


def write_flipped_run(folder: Path, samples: tuple[Sample, ...], *, flipped: int) -> Path:
    """A run folder of another tool: scores that are sure of every label but that of one case."""
    classes = sorted({str(s.label) for s in samples})
    (folder / "predictions").mkdir(parents=True)
    draw_cohort_record(folder, classes=classes).write(folder)
    rows = []
    for s in samples:
        said = (
            classes.index(str(s.label))
            if s.case != samples[flipped].case
            else (classes.index(str(s.label)) + 1) % len(classes)
        )
        scores = [0.9 if k == said else 0.1 / (len(classes) - 1) for k in range(len(classes))]
        rows.append([s.image, s.case, 0, 0, s.label, *scores])
    header = ["image", "case", "fold", "seed", "label", *(f"score_{c}" for c in classes)]
    pd.DataFrame(rows, columns=header).to_csv(folder / "predictions" / "out_of_fold.csv", index=False)
    return folder


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from rich.console import Console
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Any:
        monkeypatch.setattr(cli.console, "out", Console(highlight=False, width=300))
        return CliRunner().invoke(cli.app, [str(word) for word in words])

    return run


@pytest.mark.slow
def test_the_audit_with_a_run_lists_suspects_and_no_rule_relabels_them(
    challenge: Path, tmp_path: Path, invoke: Callable[..., Any]
) -> None:
    from smalti.cohort import read_cohort

    samples = read_cohort(challenge).labelled
    run = write_flipped_run(tmp_path / "made", samples, flipped=5)
    only = ("--set", "audit.checks=[label-suspect]")
    result = invoke("audit", challenge, "--run", run, *only)
    assert result.exit_code == 0, result.output
    assert "--accept" not in result.output
    assert "smalti review" in result.output
    findings = read_findings(tmp_path / "runs" / "textures.audit" / "findings.json").findings
    pair = tuple(s.image for s in samples if s.case == samples[5].case)
    assert [(f.images, f.evidence["given"]) for f in findings] == [(pair, samples[5].label)]
    assert samples[5].image in (tmp_path / "runs" / "textures.audit" / "report.html").read_text(encoding="utf-8")
    result = invoke("audit", challenge, *only)
    assert "not applicable: no trained run is named" in result.output
    result = invoke("audit", challenge, "--run", run, *only, "--accept", "label-suspect")
    assert result.exit_code != 0
    assert "no rule may change labels" in result.output
    assert "smalti review" in result.output
    assert not (tmp_path / "runs" / "textures.decisions.csv").exists()


@pytest.mark.slow
def test_sealed_images_are_no_suspects(challenge: Path, tmp_path: Path) -> None:
    """Of a run from before the seal, which knows them all."""
    from smalti.cohort import read_cohort
    from smalti.recipe import load_recipe

    samples = read_cohort(challenge).labelled
    recipe = load_recipe(settings=[*FAST, "split.sealed_frac=0.25", "audit.checks=[label-suspect]"])
    project = workflow.Project(challenge, tmp_path)
    sealed = workflow.inspect_ground(project, recipe).whole.sealed
    assert sealed
    flipped = next(i for i, s in enumerate(samples) if s.image == sealed[0].image)
    run = write_flipped_run(tmp_path / "made", samples, flipped=flipped)
    seen = workflow.inspect_ground(project, recipe, run=run).seen
    assert {name: str(result) for name, result in seen.outcomes.items()} == {"label-suspect": "nothing found"}
    flipped = next(i for i, s in enumerate(samples) if s.image not in {one.image for one in sealed})
    run = write_flipped_run(tmp_path / "other", samples, flipped=flipped)
    seen = workflow.inspect_ground(project, recipe, run=run).seen
    assert [f.images for f in seen.findings] == [tuple(s.image for s in samples if s.case == samples[flipped].case)]
    assert not {s.image for s in sealed} & {name for f in seen.findings for name in f.evidence["nearest_given"]}


@pytest.mark.slow
def test_labels_are_those_that_the_run_used(challenge: Path, tmp_path: Path) -> None:
    """Relabelled images have their new label, excluded ones are not there."""
    header = ",".join(DECISION_COLUMNS)
    rows = ["train_data/img_0013.png,relabel,C,,me,now,", "train_data/img_0014.png,exclude,,,me,now,"]
    decisions = write_lines(tmp_path / "decisions.csv", header, *rows)
    settings = [*FAST, "train.finetune.epochs=0", "train.transfer.epochs=2", "audit.checks=[]"]
    made = workflow.run(challenge, "default", settings=settings, runs=tmp_path / "runs", decisions=decisions)
    evidence, traces = read_evidence(made.path), {trace.image: trace for trace in Traces.read(made.path).images}
    assert "train_data/img_0014.png" not in traces
    assert evidence.classes[evidence.labels[evidence.images.index("train_data/img_0013.png")]] == "C"
    assert len(traces) == LABELLED - 1


def test_other_images_in_each_seed_are_refused(finished: Any, tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    (tmp_path / "cohort.json").write_bytes((finished.path / "cohort.json").read_bytes())
    table = pd.read_csv(finished.path / "predictions" / "out_of_fold.csv")
    table.iloc[1:].to_csv(tmp_path / "predictions" / "out_of_fold.csv", index=False)
    with pytest.raises(RunError, match="other images in each seed"):
        read_evidence(tmp_path)
