"""Same recipe twice, then killed with SIGKILL at random moments and continued: are the out-of-fold bytes the same?

python benchmarks/bench_resume.py DATA [--kills 5] [--recipe demo] [--set KNOB=VALUE ...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Print the hash of out_of_fold.csv of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    args = parser.parse_args()
    command = [sys.executable, "-m", "smalti", "run", str(args.data), "--recipe", args.recipe, "--name", "r"]
    command += [word for setting in args.settings for word in ("--set", setting)]
    hashes, times = [], []
    for way in ("first", "second"):
        with tempfile.TemporaryDirectory() as name:
            started = time.perf_counter()
            subprocess.run([*command, "--runs", name], check=True, capture_output=True)
            times.append(time.perf_counter() - started)
            hashes.append(hash_scores(Path(name)))
            print(f"{way:8s} {hashes[-1]}  {times[-1]:.0f} s", flush=True)
    for kill in range(args.kills):
        with tempfile.TemporaryDirectory() as name:
            # A moment of its own for each fifth of the run, so that every stage is met.
            wait_s = min(times) * (kill + random.random()) / args.kills
            doing = run_and_kill([*command, "--runs", name], wait_s)
            subprocess.run([*command, "--runs", name], check=True, capture_output=True)
            hashes.append(hash_scores(Path(name)))
            print(f"killed   {hashes[-1]}  after {wait_s:.0f} s: {doing}", flush=True)
    print("identical" if len(set(hashes)) == 1 else "DIFFERENT")


def hash_scores(runs: Path) -> str:
    """Hash of the out-of-fold table's bytes."""
    return hashlib.sha256((runs / "r" / "predictions" / "out_of_fold.csv").read_bytes()).hexdigest()[:16]


def run_and_kill(command: list[str], wait_s: float) -> str:
    """Start, wait, SIGKILL; what the run was doing."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(wait_s)
        return "had ended already"
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    runs = Path(command[command.index("--runs") + 1])
    log = runs / "r" / "events.log"
    done = sorted(f.name for f in (runs / "r" / "checkpoints").glob("*"))
    last = json.loads(log.read_text().splitlines()[-1])["event"] if log.is_file() else "before the run folder"
    return f"{last}; {', '.join(done) or 'no checkpoint'}"


if __name__ == "__main__":
    main()
