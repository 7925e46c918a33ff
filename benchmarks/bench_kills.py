"""Kill every long command at random moments and give it again until it is done: are the results the same bytes?

python benchmarks/bench_kills.py [--kills 100] [--terms 20] [--seed 0] [--only run,ladder,...] [--folder FOLDER]

A drawn cohort, seconds for each command undisturbed. One round: two to six SIGKILL or SIGTERM at moments drawn evenly
over the undisturbed time, each followed by the same command, at last one that is left alone. Compared are all records
but their times. Processes are forked from one that has imported smalti, so that moments fall into the work; every
eighth is started as a person starts it.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES, CASES, IMAGES = ("luminal", "basal"), 12, 24
FAST = (
    "model.backbone=test_resnet", "model.pretrained=false", "train.device=cpu", "tile.size_px=64", "split.folds=2",
    "split.inner_frac=0.3", "evaluate.resamples=100", "train.transfer.epochs=6", "train.finetune.epochs=2",
    "train.finetune.stages=1", "train.finetune.tiles_per_image=2",
)  # fmt: skip
SETTINGS = [word for setting in FAST for word in ("--set", setting)]
# Of records: what tells the time, or which call found a thing done.
TIMES = {"started", "finished", "time", "seconds", "peak_memory_gb", "when", "reused", "sealed_at", "command", "start",
         "forecast_s"}  # fmt: skip
RECORDS = (".json", ".csv", ".yaml", ".npz", ".safetensors")
NO_RESULTS = ("events.log", "hashes.json", "history.csv", "environment.json", "best.json", "plan.yaml", "clock.json",
              "done.json")  # fmt: skip
ACTS = 30


@dataclass
class Task:
    """One command and what it leaves.

    Attributes:
        words: of the command line; RUNS stands for the folder of a round.
        start: folder of runs that a round begins with; None for an empty one.
        acts: whether it is a page that takes decisions.
    """

    name: str
    words: list[str]
    start: Path | None = None
    acts: bool = False
    seconds: float = 0.0
    whole: dict[str, Any] = field(default_factory=dict)


def draw_cohort(folder: Path) -> Path:
    """Stripes and blobs in the challenge layout; two images a case, two of them twins, six to predict."""
    rng = np.random.default_rng(1)
    rows = []
    for part, count in (("train_data", IMAGES), ("test_data", 6)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            kind = (i // 2) % 2
            size = (96, 112) if kind else (12, 112)
            noise = cv2.resize(rng.integers(40, 220, (*size, 3), dtype=np.uint8), (112, 96))
            image = cv2.addWeighted(noise, 0.6, rng.integers(0, 255, (96, 112, 3), dtype=np.uint8), 0.4, 40)
            image[..., kind] = np.clip(image[..., kind].astype(int) + 25, 0, 255)
            mask = np.zeros((96, 112), np.uint8)
            mask[6:-6, 6 + i % 5 : -6] = 255
            cv2.imwrite(str(folder / part / f"img_{i:04d}.png"), image)
            cv2.imwrite(str(folder / part / f"mask_{i:04d}.png"), mask)
            rows.append((part, i, CLASSES[kind], f"p{i // 2}"))
    shutil.copy(folder / "train_data" / "img_0003.png", folder / "train_data" / "img_0002.png")
    labelled = [row for row in rows if row[0] == "train_data"]
    _write(folder / "train_labels.csv", ["sample_index,label", *(f"{i},{label}" for _, i, label, _ in labelled)])
    _write(folder / "cases.csv", ["sample_index,case", *(f"{i},{case}" for _, i, _, case in labelled)])
    _write(folder / "sample_submission.csv", ["sample_index,label", *(f"{i},basal" for i in range(6))])
    return folder


def _write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def list_tasks(work: Path) -> list[Task]:
    """All commands, and the run that some of them begin with."""
    data = draw_cohort(work / "cohort")
    ladder = _write(
        work / "steps.yaml",
        ["preset: default", f"set: [{', '.join(FAST)}]", "rungs:", "- {name: whole, set: [tile.source=whole]}",
         "- {name: tiles, set: [tile.source=tiles]}", "- {name: both, members: [whole, tiles]}"],
    )  # fmt: skip
    space = _write(
        work / "space.yaml",
        ["preset: default", f"set: [{', '.join(FAST)}, train.finetune.epochs=0, train.refit=false]", "knobs:",
         "- {knob: train.transfer.lr, low: 1.0e-3, high: 1.0e-1, log: true, steps: 2}",
         "- {knob: model.dropout, low: 0.0, high: 0.5, steps: 2}"],
    )  # fmt: skip
    members = _write(
        work / "members.yaml",
        ["members:", '- {name: colour, set: [tile.source=whole, "model.backbone=described:colour"]}',
         '- {name: texture, set: ["model.backbone=described:texture"]}',
         '- {name: nuclei, set: ["model.backbone=described:nuclei"]}'],
    )  # fmt: skip
    small = [word for setting in ("split.folds=2", "tile.size_px=64") for word in ("--set", setting)]
    runs = ["--runs", "RUNS"]
    made = Task("run", ["run", str(data), "--recipe", "default", *SETTINGS, *runs, "--name", "r"])
    assert follow(made, work / "begun") == 0, "the run that others begin with"
    return [
        made,
        Task("auto", ["run", str(data), "--set", f"portfolio.members={members}", *small, *runs, "--name", "a"]),
        Task("ladder", ["ladder", str(data), "--ladder", str(ladder), *runs]),
        Task(
            "tune", ["tune", str(data), "--space", str(space), "--trials", "3", "--folds", "2", "--curves", "1", *runs]
        ),
        Task("audit", ["audit", str(data), "--accept", "exact-duplicate", "--accept", "pen", *runs]),
        Task("explain", ["explain", "RUNS/r", "--images", "8"], start=work / "begun"),
        Task("review", ["review", str(data), *runs, "--who", "bench"], acts=True),
    ]


# --- processes ----------------------------------------------------------------------------------------------------


def launch(task: Task, runs: Path, log: Path, *, plain: bool = False) -> int:
    """Begin the command in a process of its own; its number."""
    words = [word.replace("RUNS", str(runs)) for word in task.words]
    if plain:
        with log.open("ab") as file:
            return subprocess.Popen([sys.executable, "-m", "smalti", *words], stdout=file, stderr=file).pid
    number = os.fork()
    if number:
        return number
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["smalti", *words]
    code = 99
    try:
        from smalti.__main__ import main

        main()
        code = 0
    except SystemExit as ending:
        code = int(ending.code or 0)
    except BaseException:  # noqa: BLE001 - told, and then the process ends
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(number: int, *, seconds: float = 600.0, poll: Callable[[], None] | None = None) -> int | None:
    """The exit code, negative for a signal; None where the process goes on after so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if poll is not None:
            poll()
        time.sleep(0.01)
    return None


def follow(task: Task, runs: Path) -> int | None:
    """The command undisturbed."""
    runs.mkdir(parents=True, exist_ok=True)
    return wait(launch(task, runs, runs.with_suffix(".log")))


@dataclass
class Person:
    """Somebody at the page, who sends an act until it is told to be on disk."""

    runs: Path
    images: list[str]
    done: int = 0
    cookie: str = ""
    told: str = ""

    def act(self) -> None:
        """Send the next act, once."""
        if self.done >= ACTS:
            return
        try:
            address = json.loads(next(self.runs.glob(".*.address")).read_text())
            home = f"http://127.0.0.1:{address['port']}"
            image = self.images[self.done % len(self.images)]
            body = {"entry": f"act-{self.done}", "action": ("keep", "exclude")[self.done % 2], "images": [image]}
            headers = {"Origin": home, "X-Smalti": "1", "Content-Type": "application/json",
                       "Cookie": f"smalti_review_{address['port']}={address['token']}"}  # fmt: skip
            request = urllib.request.Request(f"{home}/decide", json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=5) as answer:
                answer.read()
        except (OSError, StopIteration) as error:
            self.told = str(error)
            return
        self.done += 1


# --- what is compared ---------------------------------------------------------------------------------------------


def read_results(runs: Path) -> dict[str, Any]:
    """Name -> content without times, of every record but caches."""
    found: dict[str, Any] = {}
    for path in sorted(runs.rglob("*")):
        name = path.relative_to(runs).as_posix()
        if path.suffix not in RECORDS or not path.is_file() or name.startswith("cache/") or path.name in NO_RESULTS:
            continue
        if name.startswith(".") or "/prepared/" in name:
            continue
        text = path.read_bytes()
        if path.suffix == ".json":
            found[name] = drop_times(json.loads(text.replace(str(runs).encode(), b"RUNS")))
        elif path.suffix == ".csv":
            rows = csv.DictReader(io.StringIO(text.decode()))
            found[name] = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
        elif path.suffix == ".safetensors":
            found[name] = text[8 + int.from_bytes(text[:8], "little") :]  # its header holds the seconds of every epoch
        else:
            found[name] = text
    return found


def drop_times(content: Any) -> Any:
    """JSON without what tells the time."""
    if isinstance(content, dict):
        return {k: drop_times(v) for k, v in content.items() if k not in TIMES and k not in ("key", "progress")}
    return [drop_times(part) for part in content] if isinstance(content, list) else content


def differ(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of records that are not the same."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


# --- rounds -------------------------------------------------------------------------------------------------------


def play_round(task: Task, runs: Path, signals: list[int], rng: random.Random, counts: Counter[str]) -> list[str]:
    """Disturb a command as often as there are signals, then let it end; what went wrong."""
    if task.start is not None:
        shutil.copytree(task.start, runs)
    runs.mkdir(parents=True, exist_ok=True)
    log, faults = runs.with_suffix(".log"), []
    person = Person(runs, [f"train_data/img_{i:04d}.png" for i in range(IMAGES)])
    for number in signals:
        process = launch(task, runs, log, plain=rng.random() < 1 / 8)
        code = wait(process, seconds=rng.uniform(0, task.seconds), poll=person.act if task.acts else None)
        if code is None:
            os.kill(process, number)
            code = wait(process, seconds=60)
            counts[f"{task.name} {signal.Signals(number).name}"] += 1
            wanted = {-9} if number == signal.SIGKILL else {143, 0} if task.acts else {143, -15, 0}
            if code not in wanted:
                faults.append(f"{signal.Signals(number).name}: rc {code}")
        elif code not in (0, 1):
            faults.append(f"ended by itself with {code}")
    process = launch(task, runs, log)
    if task.acts:
        wait(process, seconds=60, poll=lambda: _end_when_done(process, person))
        code = 0 if person.done >= ACTS else 98
    else:
        code = wait(process)
    if code == 1 and task.name == "ladder":
        counts["ladder given up, then --retry"] += 1
        code = wait(launch(Task("", [*task.words, "--retry"]), runs, log))
    if code != 0:
        faults.append(f"at last rc {code} {person.told if task.acts else ''}")
    if "Traceback" in log.read_text(errors="replace"):
        faults.append("a traceback")
    faults += [f"different: {name}" for name in differ(task.whole, read_results(runs))]
    faults += [f"left: {path.relative_to(runs)}" for path in runs.rglob(".smalti-*")]
    return faults


def _end_when_done(process: int, person: Person) -> None:
    person.act()
    if person.done >= ACTS:
        os.kill(process, signal.SIGTERM)


def main() -> None:
    """Print what was disturbed how often, and every fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="run,auto,ladder,tune,audit,explain,review")
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    import smalti.cli  # before the first fork
    import smalti.ladder
    import smalti.predict
    import smalti.report
    import smalti.review
    import smalti.train
    import smalti.tune  # noqa: F401

    work = (args.folder or Path(tempfile.mkdtemp(prefix="kills-"))).resolve()
    rng, counts, bad = random.Random(args.seed), Counter[str](), 0
    tasks = [task for task in list_tasks(work) if task.name in args.only.split(",")]
    for task in tasks:
        whole = work / f"whole-{task.name}"
        if task.start is not None:
            shutil.copytree(task.start, whole)
        began = time.monotonic()
        if task.acts:
            play_round(task, whole, [], rng, counts)
        elif (code := follow(task, whole)) != 0:
            raise SystemExit(f"{task.name} ended with {code} undisturbed: see {whole.with_suffix('.log')}")
        task.seconds, task.whole = time.monotonic() - began, read_results(whole)
        print(f"{task.name}: {task.seconds:.1f} s undisturbed, {len(task.whole)} records", flush=True)
    waiting = [signal.SIGKILL] * args.kills + [signal.SIGTERM] * args.terms
    rng.shuffle(waiting)
    turn = 0
    while (left := len(waiting) - sum(n for what, n in counts.items() if "SIG" in what)) > 0:
        task = tasks[turn % len(tasks)]
        taken = sum(n for what, n in counts.items() if "SIG" in what)
        signals = [int(s) for s in waiting[taken : taken + min(left, rng.randint(2, 6))]]
        faults = play_round(task, work / f"round-{turn}", signals, rng, counts)
        bad += bool(faults)
        print(f"{turn} {task.name} {signals}: {'; '.join(faults[:6]) or 'the same'}", flush=True)
        if not faults:
            shutil.rmtree(work / f"round-{turn}")
        turn += 1
    print("\n".join(f"{what}: {number}" for what, number in sorted(counts.items())))
    print(f"{bad} of {turn} rounds with a fault")


if __name__ == "__main__":
    main()
