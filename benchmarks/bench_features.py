"""``auto`` on given features beside a tuned logistic regression: the same folds, paired by case.

    python benchmarks/bench_features.py [../shared/data] [--sets hif-a uni_crc180 ...] [--seeds 0 1 2] [--runs FOLDER]

The sets are tables of features; ``NAME:site`` splits by site. The peer standardises the mean of the tiles of a bag and
fits scikit-learn's logistic regression, C chosen by the log loss of five inner folds that keep cases whole (sites,
where sites are split), classes weighed alike. It sees no label of an outer case. ``auto`` is the portfolio as it comes.
Macro-F1 by case with its interval, log loss, the paired difference with its verdict, and what each member scores alone.
"""

from __future__ import annotations

import argparse
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smalti import workflow
from smalti.cohort import read_cohort
from smalti.evaluate import Pair, compare_pairs, measure_margins
from smalti.records import RunFolder
from smalti.records.layout import FOLDS, MEMBERS
from smalti.stats import Pool, pool_predictions, score_pool
from smalti.store import read_table
from smalti.tile import open_given
from smalti.types import PREDICTION_COLUMNS, score_columns

SETS = ("hif-a", "hif-a:site", "uni_crc180", "musk1", "fox", "tiger", "elephant")
STRENGTHS = tuple(10.0**power for power in range(-4, 3))


def find_data(root: Path, name: str, runs: Path) -> Path:
    """The folder of a set; a single table of ``mil`` gets a folder of its own."""
    if (root / name).is_dir():
        return root / name
    folder = runs / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "mil" / f"{name}.csv", folder / f"{name}.csv")
    return folder


def read_means(data: Path, runs: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The mean (D,) of the tiles of each image, and its site."""
    cohort = read_cohort(data)
    store = open_given(cohort, cache=runs / "cache")
    means = {s.image: store.read_bag(store.position(s.image)).mean(axis=0, dtype=np.float64) for s in cohort.labelled}
    return means, {s.image: s.site for s in cohort.labelled}


def tune_logistic(
    folds: pd.DataFrame, means: dict[str, np.ndarray], sites: dict[str, str], *, classes: tuple[str, ...], by_site: bool
) -> pd.DataFrame:
    """The out-of-fold table of the peer, in the folds of a run."""
    tables = []
    for (seed, _), part in folds.groupby(["seed", "fold"]):
        outer, rest = part[part["role"] == "outer"], part[part["role"] != "outer"]
        groups = rest["image"].map(sites) if by_site else rest["case"]
        inner = StratifiedGroupKFold(5, shuffle=True, random_state=int(seed))
        x, y = np.stack([means[i] for i in rest["image"]]), rest["label"].to_numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
        search = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, scoring="neg_log_loss", cv=inner)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(x, y, groups=groups.to_numpy())
        table = outer[list(PREDICTION_COLUMNS)].reset_index(drop=True)
        scores = search.predict_proba(np.stack([means[i] for i in outer["image"]]))
        order = [list(search.classes_).index(name) for name in classes]
        tables.append(pd.concat([table, pd.DataFrame(scores[:, order], columns=score_columns(classes))], axis=1))
    return pd.concat(tables, ignore_index=True)


def describe(name: str, pool: Pool) -> str:
    """Macro-F1 with its interval, and log loss."""
    margins = measure_margins(pool, confidence=0.95)
    score, loss = margins["macro_f1"], margins["log_loss"]
    return f"  {name:16} {score.value:.4f} ({score.low or 0:.3f} to {score.high or 1:.3f})  log loss {loss.value:.4f}"


def play(root: Path, name: str, *, seeds: list[int], runs: Path) -> None:
    """Run, tune and compare on one set."""
    short, _, group = name.partition(":")
    data, own = find_data(root, short, runs), runs / name.replace(":", "-")
    settings = [f"split.seeds={seeds}", *([f"split.group={group}"] if group else [])]
    run = RunFolder(workflow.run(data, "auto", settings=settings, runs=own, name="auto").path)
    table = run.read_out_of_fold()
    classes = tuple(c.removeprefix("score_") for c in table if str(c).startswith("score_"))
    peer_file = own / "logistic.csv"
    if not peer_file.is_file():
        means, sites = read_means(data, own)
        folds = read_table(run.path / FOLDS)
        tune_logistic(folds, means, sites, classes=classes, by_site=bool(group)).to_csv(peer_file, index=False)
    peer = read_table(peer_file)
    pools = {
        "auto": pool_predictions(table, classes=classes),
        "tuned logistic": pool_predictions(peer, classes=classes),
    }
    print(f"{name}: {len(pools['auto'].images)} bags, {pools['auto'].n_cases} cases, {len(seeds)} seed(s)")
    for who, pool in pools.items():
        print(describe(who, pool))
    first, second = (score_pool(pool) for pool in pools.values())
    (found,) = compare_pairs([Pair("auto", "tuned logistic", first, second)])
    for metric in ("macro_f1", "log_loss"):
        gap = found[metric]
        print(f"  {metric}: {gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f}) {gap.verdict} {gap.why}")
    members = read_table(run.path / MEMBERS)
    alone = members[members["status"] == "done"]
    print("  " + ", ".join(f"{r.member} {float(r.macro_f1):.3f} ({float(r.weight):.2f})" for r in alone.itertuples()))


def main() -> None:
    """Play all sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("bench-features"))
    args = parser.parse_args()
    for name in args.sets:
        play(args.root, name, seeds=args.seeds, runs=args.runs)


if __name__ == "__main__":
    main()
