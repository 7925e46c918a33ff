"""Do two checkouts of smalti write the same results, byte for byte?

python benchmarks/bench_same.py BEFORE AFTER [--data FOLDER ...] [--set KNOB=VALUE ...] [--only quick tune ...]
                                [--python PYTHON [PYTHON]] [--words] [--keep FOLDER]

BEFORE and AFTER are folders with src/smalti. One small cohort is drawn with BEFORE; each command runs on it in a
process of its own, once per checkout, with one thread. --data adds folders; --set holds for these alone
(data.label=grade). --keep keeps cohort and runs in a new folder.
Compared are predictions, scores, findings, folds, submissions, the tables of ladder and search, and heat maps.

A file is equal in one of three ways:
  bytes   the same bytes
  values  other bytes, but every value of BEFORE is in AFTER. Times and the hashes in run names do not count, so that
          ladder.json, tune.json and trials.csv are never above this. Moved and added values are named below the table.
  words   as values, but sentences are worded differently, with the same numbers in them
The exit status is 1 if any file differs, or is missing in AFTER; also if words differ, unless --words is given.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

LABELLED, UNLABELLED = 32, 8
SHRINK = 4  # drawn images have sides of 600 to 1,400 px, and the audit takes its time on them
DRAW = "import pathlib, sys; from smalti.demo import draw_cohort; draw_cohort(pathlib.Path(sys.argv[1]), workers=1, "
DRAW += f"labelled={LABELLED}, unlabelled={UNLABELLED})"
SMALL = ("train.device=cpu", "split.folds=2", "evaluate.resamples=200", "tile.min_tiles=1", "tile.max_tiles=2")
TRANSFER = (*SMALL, "tile.size_px=96", "model.backbone=tf_efficientnet_lite0")
TINY = (*SMALL, "tile.size_px=64", "model.backbone=test_resnet", "model.pretrained=false")
SEEDS = "split.seeds=[0,1]"
EPOCHS = ("train.finetune.epochs=2", "train.finetune.tiles_per_image=2")
LADDER = """
about: Does the same ladder give the same scores?
preset: quick
rungs:
  - {name: whole, set: [tile.source=whole]}
  - {name: tiles, set: [tile.source=tiles]}
  - {name: cleaned, decisions: true, set: ["audit.accept=[blank, exact-duplicate]"]}
"""
SPACE = """
preset: quick
set: [model.head=steps, train.transfer.epochs=4]
knobs:
  - {knob: train.transfer.lr, low: 1.0e-3, high: 1.0e-1, log: true}
  - {knob: model.dropout, choices: [0.0, 0.5]}
"""
COMMANDS: dict[str, tuple[str, ...]] = {  # in this order; DATA stands for the data folder
    "audit": ("audit", "DATA"),
    "quick": ("run", "DATA", "--recipe", "quick", "--name", "quick", *TRANSFER, SEEDS),
    "scratch": ("run", "DATA", "--recipe", "scratch", "--name", "scratch", *TINY, SEEDS, *EPOCHS),
    "ensemble": (
        *("run", "DATA", "--recipe", "quick", "--name", "both"), *TRANSFER, SEEDS, "ensemble.members=[quick, scratch]"
    ),
    "ladder": ("ladder", "DATA", "--ladder", "ladder.yaml", *TINY),
    "tune": ("tune", "DATA", "--space", "space.yaml", "--trials", "4", "--folds", "2", "--curves", "0", *TINY),
    "explain": ("explain", "runs/quick", "--images", "2"),
}  # fmt: skip
NEEDS = {"ensemble": ("quick", "scratch"), "explain": ("quick",)}
RESULTS = (
    "*/findings.json", "*/suspects.json", "*/folds.csv", "*/scores.json", "*/submission.csv", "*/explanation.json",
    "*/ladder.json", "*/tune.json", "*/trials.csv", "*/predictions/*.*", "*/heatmaps/*/*.*",
)  # fmt: skip
TIMES = frozenset({"started", "finished", "seconds", "peak_memory_gb"})
HASH = re.compile(r"-[0-9a-f]{6,}\b")  # at the end of the name of a run, ladder or search
NUMBER = re.compile(r"\d+(?:\.\d+)?")
SENTENCE_SPACES = 3  # a text with as many spaces is a sentence, not a name
WORST = ("bytes", "values", "words", "differ")


@dataclass(frozen=True, slots=True)
class Side:
    """One checkout, the Python that runs it, and the folder that it works in."""

    name: str
    checkout: Path
    python: str
    folder: Path

    def run(self, *words: str) -> tuple[float, str]:
        """Run Python with ``words``; return seconds of processor time and the error text, empty for exit status 0."""
        environment = os.environ | {"PYTHONPATH": str(self.checkout / "src"), "OMP_NUM_THREADS": "1"}
        with (self.folder / "output.txt").open("w+b") as output:
            process = subprocess.Popen(
                [self.python, *words], cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
            output.seek(0)
            text = output.read().decode("utf-8", "replace").strip()
        return usage.ru_utime + usage.ru_stime, (text or "no message") if status else ""

    def list_results(self) -> dict[Path, tuple[int, int]]:
        """Return path -> size and time of each file of results that is there now."""
        paths = {path for pattern in RESULTS for path in (self.folder / "runs").glob(pattern) if path.is_file()}
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(paths)}

    def carry_out(self, command: str, data: Path, settings: list[str]) -> tuple[float, str, dict[str, Path]]:
        """Run a command; return its seconds, its error, and name -> path of the files that it wrote."""
        before, words = self.list_results(), COMMANDS[command]
        chosen = [*(w for w in words if "=" in w), *(settings if "DATA" in words else ())]
        arguments = [str(data) if w == "DATA" else w for w in words if "=" not in w]
        arguments += [w for setting in chosen for w in ("--set", setting)]
        if command != "explain":
            arguments += ["--runs", "runs"]
        seconds, error = self.run("-m", "smalti", *arguments)
        written = [path for path, stamp in self.list_results().items() if before.get(path) != stamp]
        files = {HASH.sub("-#", str(path.relative_to(self.folder / "runs"))): path for path in written}
        if len(files) < len(written):
            raise SystemExit(f"two files of '{command}' have one name without the hash: {written}")
        return seconds, error, files


@dataclass(slots=True)
class Answer:
    """How one file of BEFORE compares with the same of AFTER: a word of WORST, and what to say about it."""

    state: str
    detail: str = ""


@dataclass(slots=True)
class Row:
    """One command: seconds of both sides and an answer for each file."""

    command: str
    seconds: list[float] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    error: str = ""


def main() -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--python", nargs="+", default=[sys.executable])
    parser.add_argument("--words", action="store_true", help="sentences may be worded differently")
    parser.add_argument("--keep", type=Path, help="a new folder for cohort and runs, which stay")
    args = parser.parse_args()
    wanted = {name for asked in args.only for name in (asked, *NEEDS.get(asked, ()))}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        root = (args.keep or Path(name)).resolve()
        for number, data in enumerate([None, *args.data]):
            place = root / (data.name if data else "drawn")
            sides = [
                open_side(side, checkout, args.python[-1 if side == "after" else 0], place / side)
                for side, checkout in (("before", args.before), ("after", args.after))
            ]
            folder = data.resolve() if data else draw_once(sides[0], root / "cohort")
            settings = args.settings if number else []
            rows += [compare_command(command, sides, folder, settings) for command in COMMANDS if command in wanted]
    return print_table(rows, words=args.words)


def open_side(name: str, checkout: Path, python: str, folder: Path) -> Side:
    """Make the folder of a side with its ladder and space, and make sure that its smalti is the checkout's."""
    folder.mkdir(parents=True)
    (folder / "ladder.yaml").write_text(LADDER)
    (folder / "space.yaml").write_text(SPACE)
    side = Side(name, checkout.resolve(), python, folder)
    found = "import sys, smalti; sys.exit(not smalti.__file__.startswith(sys.argv[1]))"
    if side.run("-c", found, str(side.checkout / "src"))[1]:
        raise SystemExit(f"{python} does not import smalti from {side.checkout / 'src'}")
    return side


def draw_once(side: Side, folder: Path) -> Path:
    """Draw a cohort as ``smalti demo`` does, with fewer images and smaller ones."""
    _, error = side.run("-c", DRAW, str(folder))
    if error:
        raise SystemExit(f"drawing the cohort failed: {error.splitlines()[-1]}")
    shutil.rmtree(folder / "truth")
    for path in sorted(folder.rglob("*.png")):
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        size = (pixels.shape[1] // SHRINK, pixels.shape[0] // SHRINK)
        way = cv2.INTER_NEAREST if path.name.startswith("mask") else cv2.INTER_AREA
        cv2.imwrite(str(path), cv2.resize(pixels, size, interpolation=way))
    return folder


def compare_command(command: str, sides: list[Side], data: Path, settings: list[str]) -> Row:
    """Run a command on both sides and compare what it wrote."""
    row = Row(f"{data.name}: {command}")
    found: list[dict[str, Path]] = []
    for side in sides:
        seconds, error, files = side.carry_out(command, data, settings)
        print(f"{row.command}, {side.name}: {seconds:.0f} s, {len(files)} files", file=sys.stderr, flush=True)
        row.seconds.append(seconds)
        found.append(files)
        if error or not files:
            row.error = f"{side.name} failed: {(error or 'it wrote no results').splitlines()[-1]}"
            return row
    before, after = found
    for name, path in before.items():
        row.answers[name] = compare_files(path, after[name]) if name in after else Answer("differ", "missing in AFTER")
    for name in after.keys() - before.keys():
        row.answers[name] = Answer("values", "only in AFTER")
    return row


def compare_files(before: Path, after: Path) -> Answer:
    """Compare two files by their bytes, else by their values."""
    if before.read_bytes() == after.read_bytes():
        return Answer("bytes")
    if before.suffix not in {".json", ".geojson", ".csv", ".npz"}:
        return Answer("differ", "other bytes")
    try:
        old, new = (dict(list_values(read_content(path))) for path in (before, after))
    except ValueError as error:
        return Answer("differ", f"cannot be read: {error}")
    return compare_values(old, new)


def compare_values(old: dict[str, str], new: dict[str, str]) -> Answer:
    """Compare path -> value of two files; a value may move to another path, and a sentence may be reworded."""
    reworded = ""
    for path in old.keys() & new.keys():
        if old[path] == new[path]:
            continue
        told = f"{path}: {old[path]!r:.200} became {new[path]!r:.200}"
        if not is_reworded(old[path], new[path]):
            return Answer("differ", told)
        reworded = reworded or told
    gone, added = ({p: v for p, v in a.items() if p not in b} for a, b in ((old, new), (new, old)))
    left = Counter(gone.values()) - Counter(added.values())
    if left:
        path = next(p for p, v in gone.items() if v in left)
        return Answer("differ", f"{path}: {gone[path]!r:.200} is nowhere in AFTER")
    more = len(added) - len(gone)
    counts = [f"{len(gone)} values moved, the first from {min(gone)}"] if gone else []
    counts += [f"{more} values added"] if more else []
    return Answer("words" if reworded else "values", "; ".join([*([reworded] if reworded else []), *counts]))


def is_reworded(old: str, new: str) -> bool:
    """Tell whether two texts are sentences, not names or numbers, and have the same numbers in them."""
    sentences = min(old.count(" "), new.count(" ")) >= SENTENCE_SPACES
    return sentences and NUMBER.findall(old) == NUMBER.findall(new)


def read_content(path: Path) -> Any:
    """Read JSON, a table as a list of rows, or arrays as name -> type, shape and hash."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {n: f"{a.dtype} {a.shape} {hashlib.sha256(a.tobytes()).hexdigest()[:12]}" for n, a in arrays.items()}
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else json.load(file)


def list_values(content: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, value as text) of everything in nested lists and mappings but times and what is empty."""
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in pairs:
            if key not in TIMES:
                yield from list_values(value, f"{path}.{key}" if path else str(key))
    elif content is not None and content != "":
        yield path, write_value(content)


def write_value(value: Any) -> str:
    """Write a number in one way wherever it comes from, and a name of a run without its hash."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except ValueError:
        return HASH.sub("-#", value)
    return str(value) if math.isnan(number) else repr(number)


def print_table(rows: list[Row], *, words: bool) -> int:
    """Print a line for each command and one for each file that needs a word; return the exit status."""
    passed = {"bytes", "values", *(["words"] if words else [])}
    width = max(len(row.command) for row in rows)
    print(f"{'command':{width}s}  files  bytes  values  words  differ  s before  s after")
    for row in rows:
        states = Counter(answer.state for answer in row.answers.values())
        seconds = [f"{s:.0f}" for s in row.seconds] + ["-"] * (2 - len(row.seconds))
        print(
            f"{row.command:{width}s}  {len(row.answers):5d}  {states['bytes']:5d}  {states['values']:6d}  "
            f"{states['words']:5d}  {states['differ']:6d}  {seconds[0]:>8s}  {seconds[1]:>7s}"
        )
        if row.error:
            print(f"    FAILED: {row.error}")
        for state in reversed(WORST):
            for name, answer in sorted(row.answers.items()):
                if answer.state == state and answer.detail:
                    print(f"    {state}: {name}: {answer.detail}")
    same = all(not row.error and {a.state for a in row.answers.values()} <= passed for row in rows)
    print("equal" if same else "DIFFERENT")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
