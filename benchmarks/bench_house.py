"""Count what the rules of the house ask for: lines, functions, rooms in a folder, file names outside records/.

python benchmarks/bench_house.py [--source CHECKOUT] [--starts 5] [--list]

--source counts another checkout's src/smalti. --starts 0 leaves out the time of `smalti --help`, which is the median of
as many starts in processes of their own. --list names what is counted: file, line and name.

A function's body is its lines after the docstring; nested functions and methods count too. A use is the name of a
function anywhere in src, as a name or an attribute, so that two functions of one name share their uses.
"""

from __future__ import annotations

import argparse
import ast
import os
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Files of run, ladder, search, learning curve and cache folders, and of what lies beside them.
RECORDS = frozenset({
    "recipe.yaml", "plan.yaml", "environment.json", "cohort.json", "samples.csv", "cases.csv", "findings.json",
    "decisions.csv", "folds.csv", "history.csv", "heads.csv", "events.log", "members.csv", "clock.json", "done.json",
    "diverged.csv", "operations.csv", "stain.json", "explanation.json", "influence.json", "suspects.json",
    "traces.json", "scores.json", "report.html", "submission.csv", "comparison.json", "out_of_fold.csv", "inner.csv",
    "test.csv", "sealed.csv", "by_case.csv", "as_given.csv", "rules.json", "ensemble.json", "embeddings.npz",
    "attention.npz", "dynamics.npz", "augmentation.png", "tiles.png", "best.json", "ladder.json", "ladder.yaml",
    "article.zip", "tune.json", "trials.csv", "trials.journal", "curves.csv", "learn.json", "learn.csv", "scores.csv",
    "taught.csv", "hashes.json", "features.json", "features.f32", "store.json", "tiles.u8", "masks.u1", "rasters.u8",
    "stained.u8", "shapes.npz", "index.npz",
})  # fmt: skip
BESIDE = (".decisions.csv", ".seal.json")  # after the name of the data folder
SUFFIXES = frozenset({".csv", ".json", ".npz", ".safetensors", ".yaml", ".html", ".txt"})
DATA_FILES = frozenset({"cases.csv", "submission.csv", "test.csv"})  # files of data folders too
DATA_FOLDERS = frozenset({"cohort", "demo"})  # which read and draw these
THIN, LONG_FILE, ROOMS = 3, 400, 12


@dataclass(frozen=True, slots=True)
class Function:
    """One function: where it is, lines of its body, and whether nothing but its name can call it."""

    place: str
    name: str
    body: int
    plain: bool


@dataclass(frozen=True, slots=True)
class Count:
    """One row of the table: what, the number, what is wanted, whether it is met (None: nothing is), and places."""

    what: str
    number: float | str
    wanted: str = ""
    met: bool | None = None
    places: tuple[str, ...] = ()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--list", action="store_true", help="name the places")
    args = parser.parse_args()
    counts = [*count_house(args.source / "src" / "smalti"), *measure_start(args.source, starts=args.starts)]
    width = max(len(count.what) for count in counts)
    print(f"{'what':{width}s}  {'number':>8s}  wanted")
    for count in counts:
        number = f"{count.number:g}" if isinstance(count.number, float) else str(count.number)
        verdict = {None: "", True: "  yes", False: "  NO"}[count.met]
        print(f"{count.what:{width}s}  {number:>8s}  {count.wanted}{verdict}")
        for place in count.places if args.list else ():
            print(f"    {place}")


def count_house(root: Path) -> Iterator[Count]:
    """Yield a row for everything that can be counted in the package at ``root``."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in sources.items()}
    lines = {str(path.relative_to(root)): text.count("\n") for path, text in sources.items()}
    total = sum(lines.values())
    yield Count("Python files", len(sources))
    yield Count("lines", total, "fewer than before")
    yield from _count_functions(root, trees, total)
    long = tuple(f"{name}: {count}" for name, count in lines.items() if count > LONG_FILE)
    yield Count(f"files above {LONG_FILE} lines", len(long), "0", not long, long)
    yield from _count_rooms([path.relative_to(root) for path in sources if path.name != "__init__.py"])
    places = tuple(
        f"{path.relative_to(root)}:{number}"
        for path, text in sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        for _ in range(line.count("dict[str, Any]"))
    )
    yield Count("dict[str, Any]", len(places), "at most 15", len(places) <= 15, places)
    spelled = [found for path, tree in trees.items() for found in find_names(path.relative_to(root), tree)]
    exact = tuple(place for place, alone in spelled if alone)
    yield Count("names of run-folder files outside records/", len(exact), "0", not exact, exact)
    joined = tuple(found for path, tree in trees.items() for found in find_joined(path.relative_to(root), tree))
    yield Count("names of files put together outside records/", len(joined), places=joined)
    told = tuple(place for place, alone in spelled if not alone)
    yield Count("texts outside records/ that mention such a file", len(told), places=told)


def _count_functions(root: Path, trees: dict[Path, ast.Module], lines: int) -> Iterator[Count]:
    functions = [f for path, tree in trees.items() for f in list_functions(str(path.relative_to(root)), tree)]
    bodies = sorted(function.body for function in functions)
    p90, thin = bodies[int(0.9 * len(bodies))], sum(body <= THIN for body in bodies)
    dense, median = round(1000 * len(bodies) / lines, 1), statistics.median(bodies)
    yield Count("functions", len(bodies))
    yield Count("functions per 1,000 lines", dense, "at most 40", dense <= 40)
    yield Count("body, median", float(median), "at least 8", median >= 8)
    yield Count("body, 90th percentile", p90, "at most 31", p90 <= 31)
    places = tuple(f"{f.place} {f.name}: {f.body}" for f in functions if f.body > 50)
    yield Count("body, longest", bodies[-1], "at most 50", not places, places)
    yield Count(f"bodies of {THIN} lines or fewer, %", round(100 * thin / len(bodies), 1))
    uses = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
    )
    once = [f for f in functions if f.plain and f.body <= THIN and uses[f.name] == 1]
    private = tuple(f"{f.place} {f.name}" for f in once if f.name.startswith("_"))
    yield Count(f"private functions of {THIN} lines or fewer used once", len(private), "0", not private, private)
    public = tuple(f"{f.place} {f.name}" for f in once if not f.name.startswith("_"))
    yield Count(f"public functions of {THIN} lines or fewer used once", len(public), places=public)


def list_functions(place: str, tree: ast.Module) -> Iterator[Function]:
    """Yield each function of a module; a decorated one and ``__x__`` may be called by other things than its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            plain = not node.decorator_list and not node.name.startswith("__")
            yield Function(f"{place}:{node.lineno}", node.name, length, plain)


def _count_rooms(rooms: list[Path]) -> Iterator[Count]:
    folders = Counter(str(room.parent) for room in rooms)
    full = tuple(f"{folder}: {count}" for folder, count in folders.most_common() if count > ROOMS)
    most = max(folders.values())
    yield Count("rooms in the fullest folder", most, f"at most {ROOMS}", most <= ROOMS)
    yield Count(f"folders of more than {ROOMS} rooms", len(full), "0", not full, full)
    stems = defaultdict(list)
    for room in rooms:
        stems[room.stem].append(str(room.parent))
    shared = tuple(f"{stem}: {', '.join(places)}" for stem, places in stems.items() if len(places) > 1)
    yield Count("file stems in more than one folder", len(shared), "at most 6", len(shared) <= 6, shared)


def find_names(path: Path, tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield (place, whether it is nothing but the name) of each text that spells a file of a run; no docstrings."""
    if path.parts[0] == "records":
        return
    names = RECORDS - DATA_FILES if path.parts[0] in DATA_FOLDERS else RECORDS
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in prose:
            continue
        text, words = node.value, node.value.replace("/", " ").split()
        if " " not in text and words and (words[-1] in names or text.endswith(BESIDE)):
            yield f"{path}:{node.lineno} {text!r}", True
        elif any(word.strip(".,:;'\"()") in names or word.strip(",:;'\"()").endswith(BESIDE) for word in words):
            yield f"{path}:{node.lineno} {text[:100]!r}", False


def find_joined(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield the place of each f-string that ends in the suffix of a file, as in ``f"{fold}.safetensors"``."""
    for node in ast.walk(tree) if path.parts[0] != "records" else ():
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[-1], ast.Constant):
            text = str(node.values[-1].value)
            if text[text.rfind(".") :] in SUFFIXES and " " not in text and text.rpartition("/")[2] not in RECORDS:
                yield f"{path}:{node.lineno} {ast.unparse(node)}"


def measure_start(checkout: Path, *, starts: int) -> Iterator[Count]:
    """Yield the median processor time of ``smalti --help``, and whether ``smalti --version`` works."""
    if starts < 1:
        return
    seconds = [_start(checkout, "--help")[0] for _ in range(starts)]
    median = statistics.median(seconds)
    yield Count("smalti --help, s of processor time", round(median, 2), "under 0.5", median < 0.5)
    seconds_version, status = _start(checkout, "--version")
    works = status == 0
    yield Count("smalti --version", f"{seconds_version:.2f} s" if works else "none", "works", works)


def _start(checkout: Path, option: str) -> tuple[float, int]:
    """Start smalti with one option; return seconds of processor time and the exit status."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "smalti", option], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime, status


if __name__ == "__main__":
    main()
