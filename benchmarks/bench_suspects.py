"""Are flipped labels found? Average precision of label suspects beside the loss of one model on its training images.

    python benchmarks/bench_suspects.py DATA [--weights FILE] [--flips 0.1] [--repeats 5] [--planted TRUTH.csv]
        [--finetune-epochs 12] [--by-case]

Frozen features and heads (preset quick, three seeds); labels are flipped to another class at random, on clean images
only where --planted names those that are not: its wrong labels count as flips, its other problems are ranked too, and
left out in the lines that say so. With --by-case whole cases are flipped, as where a patient has one label. Features
come from --runs where they are known. With --finetune-epochs there is one more rival: the loss of a whole network,
fine-tuned on all images for so many epochs, on these images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from smalti import workflow
from smalti.audit import CRITERIA, Evidence, NotApplicable
from smalti.audit.labels.evidence import order_dynamics
from smalti.audit.labels.suspects import find_suspects, pool_opinions, rank_labels
from smalti.predict import predict_outer
from smalti.recipe import load_recipe
from smalti.records import Dynamics, RunFolder
from smalti.samples import split_cases
from smalti.train import Experiment, train_folds
from smalti.types import Cohort, Split, score_columns


def main() -> None:
    """Print the medians and ranges over the repetitions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--flips", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--planted", type=Path, help="truth/planted.csv of a drawn cohort")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--finetune-epochs", type=int, default=0)
    parser.add_argument("--by-case", action="store_true", help="flip whole cases")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    weights = [f"model.weights={args.weights}"] if args.weights else []
    recipe = load_recipe("quick", settings=["split.seeds=[0,1,2]", "audit.checks=[]", *weights, *args.settings])
    with tempfile.TemporaryDirectory() as folder:
        project = workflow.Project(args.data, args.runs, Path(folder) / "none.csv")
        ground = workflow.inspect_ground(project, recipe)
        name = Path(folder).name
        experiment = workflow.prepare(project, ground, recipe, name=name)
        planted = read_planted(args.planted)
        results = []
        for number in range(args.repeats):
            run = RunFolder(Path(folder) / f"flips{number}")
            flipped, wrong = flip_labels(experiment.cohort, planted, args.flips, seed=number, by_case=args.by_case)
            one = replace(experiment, cohort=flipped, run=run)
            results.append(measure(one, planted, wrong, finetune_epochs=args.finetune_epochs))
    print(
        f"{args.data.name}: {len(ground.cohort.labelled)} images, {args.repeats} repetitions, {args.flips:.0%} flipped"
    )
    for key in results[0]:
        values = [result[key] for result in results]
        print(f"{key:48s} {statistics.median(values):6.3f}   {min(values):.3f} to {max(values):.3f}")


def read_planted(path: Path | None) -> dict[str, str]:
    """Image -> kind of the problem that was drawn."""
    if path is None:
        return {}
    table = pd.read_csv(path)
    return dict(zip(table["image"], table["kind"], strict=True))


def flip_labels(
    cohort: Cohort, planted: Mapping[str, str], share: float, *, seed: int, by_case: bool
) -> tuple[Cohort, NDArray[np.bool_]]:
    """The cohort with other labels on a share of its clean images, or of its cases, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    clean = [i for i, s in enumerate(cohort.labelled) if s.image not in planted]
    wrong = np.array([planted.get(s.image) == "wrong-label" for s in cohort.labelled])
    labelled = list(cohort.labelled)
    units = [[i] for i in clean]
    if by_case:
        cases = [s.case for s in cohort.labelled]
        units = [[i for i in clean if cases[i] == case] for case in dict.fromkeys(cases[i] for i in clean)]
    for number in rng.choice(len(units), round(share * len(units)), replace=False):
        others = [name for name in cohort.classes if name != labelled[units[number][0]].label]
        label = str(rng.choice(others))
        for i in units[number]:
            labelled[i] = replace(labelled[i], label=label)
            wrong[i] = True
    return replace(cohort, labelled=tuple(labelled)), wrong


def measure(
    experiment: Experiment, planted: Mapping[str, str], wrong: NDArray[np.bool_], *, finetune_epochs: int
) -> dict[str, float]:
    """Average precision of each way to rank the labels, and what the list of suspects holds."""
    evidence = learn(experiment)
    rankings = rank_in_fold(experiment, evidence, finetune_epochs=finetune_epochs) | rank_out_of_fold(evidence)
    kinds = [planted.get(name, "clean") for name in evidence.images]
    alone = np.isin(kinds, ["clean", "wrong-label"])
    result = {name: float(average_precision_score(wrong, values)) for name, values in rankings.items()}
    if not alone.all():
        for name, values in rankings.items():
            result[f"{name}, other problems aside"] = float(average_precision_score(wrong[alone], values[alone]))
    ratio = result["pooled suspicion"] / result["in-fold loss, one head"]
    found = {evidence.images.index(image) for f in find_suspects(evidence)[0] for image in f.images}
    hits = sum(wrong[i] for i in found)
    return result | {
        "pooled suspicion / in-fold loss": ratio,
        "suspects listed": float(len(found)),
        "suspects that were wrong (precision)": hits / max(1, len(found)),
        "wrong labels listed (recall)": hits / wrong.sum(),
    }


def learn(experiment: Experiment) -> Evidence:
    """Train the folds of all seeds; what the run then knows."""
    run, cohort = experiment.run, experiment.cohort
    run.path.mkdir()
    experiment = replace(experiment, splits=split_cases(cohort, experiment.recipe.split))
    train_folds(experiment)
    table = predict_outer(experiment)
    images = tuple(s.image for s in cohort.labelled)
    columns = score_columns(cohort.classes)
    seeds = [rows.set_index("image").loc[list(images), columns] for _, rows in table.groupby("seed")]
    return Evidence(
        images=images,
        cases=np.array([s.case for s in cohort.labelled]),
        classes=cohort.classes,
        labels=cohort.targets,
        scores=np.stack([rows.to_numpy() for rows in seeds]),
        dynamics=order_dynamics(Dynamics.read_file(run.predictions / "dynamics.npz"), images),
        embeddings=experiment.compare_images().numpy(),
    )


def rank_in_fold(experiment: Experiment, evidence: Evidence, *, finetune_epochs: int) -> dict[str, NDArray[np.float64]]:
    """The loss of models on the images that they learned from: smalti's head and network, and scikit-learn's head."""
    rankings = {"in-fold loss, one head": _lose_in_fold(experiment, evidence, name="head")}
    if finetune_epochs:
        finetune = experiment.recipe.train.finetune.model_copy(update={"epochs": finetune_epochs})
        train = experiment.recipe.train.model_copy(update={"finetune": finetune})
        whole = replace(experiment, recipe=experiment.recipe.model_copy(update={"train": train}))
        rankings["in-fold loss, one network"] = _lose_in_fold(whole, evidence, name="network")
    points = StandardScaler().fit_transform(evidence.embeddings)
    fitted = LogisticRegression(max_iter=1000).fit(points, evidence.labels).predict_proba(points)
    given = fitted[np.arange(len(points)), evidence.labels]
    return rankings | {"in-fold loss, logistic regression": -np.log(given)}


def _lose_in_fold(experiment: Experiment, evidence: Evidence, *, name: str) -> NDArray[np.float64]:
    run = RunFolder(experiment.run.path / name)
    run.path.mkdir()
    everything = np.arange(len(evidence.images))
    splits = (Split(0, 0, train=everything, inner=everything[:0], outer=everything),)
    one = replace(experiment, run=run, splits=splits)
    train_folds(one)
    table = predict_outer(one).set_index("image").loc[list(evidence.images)]
    return -np.log(table[score_columns(evidence.classes)].to_numpy()[everything, evidence.labels])


def rank_out_of_fold(evidence: Evidence) -> dict[str, NDArray[np.float64]]:
    """The criteria one by one, cleanlab as it comes, and the pooled suspicion."""
    answers = {entry.name: CRITERIA.build(entry.name, evidence) for entry in CRITERIA}
    finite = {k: np.nan_to_num(v.values, posinf=1e9) for k, v in answers.items() if not isinstance(v, NotApplicable)}
    ranked = find_label_issues(
        evidence.labels, evidence.mean_scores, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    # As cleanlab lists them: its issues in its order, everything else behind.
    cleanlab = np.zeros(len(evidence.images))
    cleanlab[ranked] = np.arange(len(ranked), 0, -1)
    opinion = pool_opinions(evidence)
    pooled = np.zeros(len(cleanlab)) if isinstance(opinion, NotApplicable) else rank_labels(evidence, opinion)
    return finite | {"cleanlab find_label_issues": cleanlab, "pooled suspicion": pooled}


if __name__ == "__main__":
    main()
