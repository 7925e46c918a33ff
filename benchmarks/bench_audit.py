"""Precision and recall of the audit on planted problems, per kind, over several seeds.

    python benchmarks/bench_audit.py [SOURCE ...] [--seeds 0 1 2] [--keep FOLDER] [--list]

SOURCE is a data folder. One with its own ``truth/planted.csv`` (``smalti demo`` draws it) is scored as it is. Of any
other, problems are planted into copies (``planting.py``), one for each seed, and the folder itself is audited too: what
it says there of foreign, painted and blank images counts as false alarms. Without SOURCE a cohort is drawn.
--keep leaves the planted folders and their findings for ``bench_peers.py``; --list names what was missed and what was
wrong.

recall     share of the planted that the kind's own code names; of pairs, those that it joins
any code   the same by whatever code (a painted copy is found as a near-duplicate, too)
precision  share of what the code names that is foreign, painted or blank (kinds of images), a planted pair
           (duplicates), of this kind (labels)
wrong      the rest, as a number

Medians over the seeds, with the range; ``-`` where the audit has no such check.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from planting import plant
from scoring import (
    IMAGE_KINDS,
    PAIR_KINDS,
    Flags,
    Planted,
    Score,
    describe,
    list_missed,
    list_wrong,
    read_flags,
    read_truth,
    score_images,
    score_labels,
    score_pairs,
)
from smalti.audit import audit_cohort, write_findings
from smalti.cohort import read_cohort
from smalti.demo import draw_cohort

CODES = {
    "foreign": ("foreign",),
    "painted": ("painted",),
    "blank": ("blank",),
    "exact-duplicate": ("exact-duplicate",),
    "near-duplicate": ("near-duplicate",),
    "contradicting": ("contradicting-labels",),
    "wrong-label": ("label-suspect",),
}
ROW = "{:<16} {:<21} {:>8}  {:<21} {:<21} {:<21} {}"
Trial = tuple[list[Planted], Flags]


def pick_scorer(kind: str) -> Callable[..., Score]:
    """How a kind is scored."""
    if kind in PAIR_KINDS:
        return score_pairs
    return score_images if kind in IMAGE_KINDS else score_labels


def audit_folder(folder: Path, findings: Path) -> Flags:
    """Audit a data folder, keep the findings and the seconds that it took."""
    start = time.perf_counter()
    audit = audit_cohort(read_cohort(folder))
    seconds = time.perf_counter() - start
    findings.parent.mkdir(parents=True, exist_ok=True)
    write_findings(findings, audit)
    findings.with_name("seconds.txt").write_text(f"{seconds:.2f}\n")
    return read_flags(findings)


def run_trials(source: Path, work: Path, *, seeds: list[int]) -> list[Trial]:
    """Audit a folder with its own truth, or planted copies of it."""
    if (source / "truth" / "planted.csv").exists():
        if not (work / source.name).exists():
            (work / source.name).symlink_to(source.resolve())  # for bench_peers
        return [(read_truth(source), audit_folder(source, work / f"{source.name}.audit" / "findings.json"))]
    trials = []
    for seed in seeds:
        target = work / f"{source.name}-{seed}"
        truth = read_truth(target) if target.exists() else plant(source, target, seed=seed)
        trials.append((truth, audit_folder(target, work / f"{target.name}.audit" / "findings.json")))
    return trials


def print_scores(name: str, trials: list[Trial], *, listing: bool) -> None:
    """A row per kind."""
    print(f"\n{name}: {len(trials)} planted cohort(s)")
    print(ROW.format("kind", "code", "planted", "recall", "any code", "precision", "wrong"))
    for kind, codes in CODES.items():
        scores = [pick_scorer(kind)(truth, flags, kind=kind, codes=codes) for truth, flags in trials]
        cells = ["-"] * 4
        if known := all(flags.codes.intersection(codes) for _, flags in trials):
            cells = [
                describe([s.recall for s in scores]),
                describe([s.named / s.planted for s in scores if s.planted]),
                describe([s.precision for s in scores]),
                describe([s.wrong for s in scores], digits=0),
            ]
        print(ROW.format(kind, ", ".join(codes), describe([s.planted for s in scores], digits=0), *cells))
        for number, (truth, flags) in enumerate(trials if listing and known else []):
            for missed in list_missed(truth, flags, kind=kind, codes=codes):
                print(f"    missed, trial {number}: {missed}")
            for wrong in list_wrong(truth, flags, kind=kind, codes=codes):
                print(f"    wrong, trial {number}: {wrong}")


def print_false_alarms(source: Path, work: Path) -> None:
    """What the audit says of the source as it came."""
    flags = audit_folder(source, work / f"{source.name}.audit" / "findings.json")
    images = len(read_cohort(source).samples)
    alarmed = set()
    for kind in IMAGE_KINDS:
        if not flags.codes.intersection(CODES[kind]):
            print(f"untouched {source.name}: {kind}: -")
            continue
        named = sorted(set().union(*(flags.images.get(code, set()) for code in CODES[kind])))
        alarmed.update(named)
        print(f"untouched {source.name}: {kind}: {len(named)} of {images}{': ' if named else ''}{', '.join(named)}")
    print(f"untouched {source.name}: false alarms {len(alarmed) / images:.1%}")
    for kind in PAIR_KINDS:
        pairs = sorted(" = ".join(sorted(pair)) for pair in flags.pairs.get(kind, set()))
        print(f"untouched {source.name}: {kind}: {len(pairs)} pair(s){': ' if pairs else ''}{', '.join(pairs)}")
    others = {code: len(names) for code, names in flags.images.items() if code not in (*IMAGE_KINDS, *PAIR_KINDS)}
    print(f"untouched {source.name}: other findings: {others or 'none'}")


def main() -> None:
    """Print a table for each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="*")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.keep or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for source in args.sources or [draw_cohort(Path(scratch) / "demo-data")]:
            print_scores(source.name, run_trials(source, work, seeds=args.seeds), listing=args.list)
            if not (source / "truth" / "planted.csv").exists():
                print_false_alarms(source, work)


if __name__ == "__main__":
    main()
