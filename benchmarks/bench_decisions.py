"""What decisions make of labels that mean nothing: never a score above chance that is called trustworthy.

    python benchmarks/bench_decisions.py DATA IMAGES PERMUTATIONS [--patients 60] [--weights FILE] [--first 0]
        [--keep FOLDER] [--set split.seeds=[0,1,2]]

DATA is a table cohort (samples.csv with image, label, patient); IMAGES of each of some patients take part. Labels are
exchanged between patients, or between images where images of a patient differ. Each permutation goes the whole way:
run, suspects of that run, then one run for each way to decide: every proposal that a rule may accept, and on the page
the suspects relabelled, the suspects left out, the fifth with the highest loss left out, and every case relabelled to
what its networks say. Features are computed once, since the pictures stay the same. Preset quick.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from smalti import workflow
from smalti.audit import (
    CHECKS,
    LABEL_CHECKS,
    Audit,
    accept_proposals,
    append_decisions,
    apply_decisions,
    find_bound_cases,
    read_decisions,
    read_findings,
    settle_decisions,
)
from smalti.audit.checks.registered import RELABEL_CHECKS, Digest
from smalti.errors import DataError, RecipeError
from smalti.recipe import Recipe, load_recipe
from smalti.review import ReviewSession
from smalti.types import score_columns
from smalti.workflow import Ground, Result

LEFT_OUT = 0.2

Way = Callable[[ReviewSession, Result, Path], None]  # writes decisions to the path


def main() -> None:
    """Print every score with the one as given, and how many were above chance and trusted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("images", type=int)
    parser.add_argument("permutations", type=int)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--first", type=int, default=0, help="number of the first permutation")
    parser.add_argument("--keep", type=Path, help="folder for tiles, features and runs; kept")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    weights = [f"model.weights={args.weights}"] if args.weights else []
    recipe = load_recipe("quick", settings=[*weights, *args.settings])
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or Path(temporary)).resolve()
        data = copy_part(args.data, folder / args.data.name, patients=args.patients, images=args.images)
        (folder / "cache").mkdir(exist_ok=True)
        project = workflow.Project(data, folder, folder / "none.csv")
        ground = workflow.inspect_ground(project, recipe, problems="skip")
        rows = []
        for number in range(args.first, args.first + args.permutations):
            for row in go_through(
                permute(ground, seed=number), recipe, project=replace(project, runs=folder / f"permutation{number}")
            ):
                rows.append(row)
                print(f"{number:3d} {describe(row)}", flush=True)
    above = [row for row in rows if row["low"] > row["chance"]]
    print(
        f"{len(rows)} runs; interval above chance: {len(above)}, of these trusted: {sum(r['trusted'] for r in above)}"
    )


def copy_part(source: Path, target: Path, *, patients: int, images: int) -> Path:
    """A folder with some images of some patients, the same ones whatever is permuted."""
    table = pd.read_csv(source / "samples.csv", dtype=str)
    names = np.sort(table["patient"].unique())
    chosen = np.random.default_rng(1).choice(names, min(patients, len(names)), replace=False)
    table = table[table["patient"].isin(chosen)].sample(frac=1, random_state=0).groupby("patient").head(images)
    for image in table["image"]:
        path = target / image
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            shutil.copyfile(source / image, path)
    table[["image", "label", "patient"]].sort_values("image").to_csv(target / "samples.csv", index=False)
    return target


def permute(ground: Ground, *, seed: int) -> Ground:
    """The ground with labels exchanged between patients, or between images where images of a patient differ."""
    rng = np.random.default_rng(100 + seed)
    labelled = ground.whole.labelled
    if ground.bound:
        given = {s.case: s.label for s in labelled}
        mixed = dict(zip(given, rng.permutation(np.array(list(given.values()))), strict=True))
        labels = [str(mixed[s.case]) for s in labelled]
    else:
        labels = [str(label) for label in rng.permutation([s.label for s in labelled])]
    samples = tuple(replace(s, label=label) for s, label in zip(labelled, labels, strict=True))
    whole = replace(ground.whole, labelled=samples)
    assert ground.seen.digest is not None
    digest = Digest(whole, ground.seen.digest.images, embeddings=ground.seen.digest.embeddings)
    findings = [f for f in ground.seen.findings if f.code not in LABEL_CHECKS]
    contradicting = CHECKS.build("contradicting-labels", whole, digest)
    findings += contradicting if isinstance(contradicting, list) else []
    seen = Audit(tuple(findings), ground.seen.outcomes, digest)
    return stand_on(replace(ground, whole=whole, seen=seen, bound=find_bound_cases(whole)), Path("none"))


def stand_on(ground: Ground, decisions: Path) -> Ground:
    """The ground with the decisions of a file."""
    known = tuple(settle_decisions(read_decisions(decisions)).values())
    cohort = apply_decisions(ground.whole, known, findings=ground.seen.findings, bound=ground.bound)
    return replace(ground, cohort=cohort, decisions=known, known=known)


def go_through(ground: Ground, recipe: Recipe, *, project: workflow.Project) -> Iterator[dict[str, Any]]:
    """The first run, and one for each way to decide after it; a way that changes nothing or empties a class is said."""
    folder = project.runs
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "cache").exists():
        (folder / "cache").symlink_to(folder.parent / "cache")
    first = workflow.run_on(project, ground, recipe, name="first")
    yield read_row("first", first)
    suspects = read_findings(first.path / "suspects.json").findings
    audit = replace(ground.seen, findings=(*ground.seen.findings, *suspects))
    for name, decide in WAYS.items():
        path = folder / f"{name.replace(' ', '-')}.csv"
        path.unlink(missing_ok=True)
        session = ReviewSession(ground.whole, audit, decisions_path=path, who="bench", bound=ground.bound)
        decide(session, first, path)
        try:
            decided = stand_on(ground, path)
        except DataError as error:
            print(f"    {name}: {error.problems[0].message}", flush=True)
            continue
        if decided.decisions:
            yield read_row(name, workflow.run_on(project, decided, recipe, name=path.stem))
        else:
            print(f"    {name}: nothing to decide", flush=True)


def accept_all(session: ReviewSession, first: Result, path: Path) -> None:
    """All that a rule may accept, code by code; it may not relabel."""
    findings = [f for card in session.cards.values() for f in card.findings if f.images[0] == card.image]
    for entry in CHECKS:
        try:
            accepted = accept_proposals(findings, [entry.name], decided=session.decided().values())
        except RecipeError:
            assert entry.name in RELABEL_CHECKS
            continue
        append_decisions(path, accepted)


def relabel_suspects(session: ReviewSession, first: Result, path: Path) -> None:
    """As a person who believes every suspect."""
    for finding in read_findings(first.path / "suspects.json").findings:
        session.record([finding.images[0]], "relabel", label=finding.evidence["label"], finding=finding.code,
                    entry=finding.images[0])  # fmt: skip


def exclude_suspects(session: ReviewSession, first: Result, path: Path) -> None:
    """As a person who leaves out every suspect."""
    images = [image for finding in read_findings(first.path / "suspects.json").findings for image in finding.images]
    session.record(images, "exclude", entry="suspects")


def exclude_losses(session: ReviewSession, first: Result, path: Path) -> None:
    """The images that the networks found least likely, for no finding."""
    table, _ = read_scores(first)
    worst = table.sort_values("own").index[: int(LEFT_OUT * len(table))]
    session.record(list(worst), "exclude", entry="losses", finding="blank")


def relabel_all(session: ReviewSession, first: Result, path: Path) -> None:
    """Every case that the networks see in another class, for no finding; images where labels are theirs."""
    table, classes = read_scores(first)
    unit = table["case"] if session.bound else table.index.to_series()
    said = table.groupby(unit)[score_columns(classes)].mean().idxmax(axis=1).str.removeprefix("score_")
    other = said[unit].set_axis(unit.index)
    other = other[other != table["label"]]
    for label, images in other.groupby(other):
        session.record(list(images.index), "relabel", label=str(label), entry=str(label), finding="blank")


WAYS: dict[str, Way] = {
    "every accept": accept_all,
    "suspects relabelled": relabel_suspects,
    "suspects left out": exclude_suspects,
    "highest losses left out": exclude_losses,
    "all relabelled": relabel_all,
}


def read_scores(result: Result) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Mean scores of each image out of fold, and that of its label as ``own``."""
    classes = tuple(result.scores.classes)
    table = pd.read_csv(result.path / "predictions" / "out_of_fold.csv", dtype={"label": str, "case": str})
    mean = table.groupby("image")[score_columns(classes)].mean()
    mean[["case", "label"]] = table.groupby("image")[["case", "label"]].first()
    mean["own"] = [row[f"score_{row['label']}"] for _, row in mean.iterrows()]
    return mean, classes


def read_row(name: str, result: Result) -> dict[str, Any]:
    """What is printed about a run."""
    score, given = result.scores.headline, result.scores.as_given
    as_given = given.metrics["macro_f1"].value if given and given.metrics else score.value
    return {
        "way": name, "score": score.value, "low": score.low, "high": score.high, "given": as_given,
        "chance": score.chance_prior, "trusted": result.scores.interval.trustworthy,
    }  # fmt: skip


def describe(row: dict[str, Any]) -> str:
    """One line."""
    trust = "trusted" if row["trusted"] else "not trusted"
    return (
        f"{row['way']:24s} {row['score']:.3f} ({row['low']:.3f} to {row['high']:.3f})  as given {row['given']:.3f}  "
        f"chance {row['chance']:.3f}  {trust}"
    )


if __name__ == "__main__":
    main()
