"""Tasks for the tests of the engine; workers import them by name."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from smalti.engine import say
from smalti.errors import DataError


def write(path: str, text: str) -> None:
    """Write atomically, as tasks do."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        Path(temporary).write_text(text, encoding="utf-8")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def digest(path: str, seed: int, seconds: float = 0.0) -> None:
    """Compute something that depends on the seed alone."""
    time.sleep(seconds)
    values = np.random.default_rng(seed).normal(size=(50, 50))
    write(path, hashlib.sha256((values @ values).round(6).tobytes()).hexdigest())


def speak(path: str) -> None:
    sys.stdout.write("to stdout, which is no message\n")
    say("half way")
    write(path, "spoken")


def fail(message: str) -> None:
    raise KeyError(message)


def refuse() -> None:
    raise DataError("no slide in it", fix="look at it")


def forget() -> None:
    """Write nothing."""


def run_out() -> None:
    raise MemoryError


def leave() -> None:
    sys.exit("enough")


def fill(path: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def die(path: str, counter: str, times: int, number: int = signal.SIGKILL) -> None:
    """Kill the process of this task the first few times."""
    log = Path(counter)
    begun = log.stat().st_size if log.exists() else 0
    with log.open("a", encoding="utf-8") as file:
        file.write("x")
    if begun < times:
        os.kill(os.getpid(), number)
        time.sleep(60)
    write(path, "alive")


def describe(path: str) -> None:
    """Write the threads and GPUs that this task has."""
    from threadpoolctl import threadpool_info

    threads = {pool["num_threads"] for pool in threadpool_info()}
    write(path, f"{sorted(threads)} {os.environ.get('CUDA_VISIBLE_DEVICES')}")


def hold(path: str, folder: str, seconds: float) -> None:
    """Write how many tasks hold the folder at the same time as this one."""
    mine = Path(folder, f"{os.getpid()}.held")
    mine.touch()
    time.sleep(seconds)
    count = len(list(Path(folder).glob("*.held")))
    mine.unlink()
    write(path, str(count))


def linger(path: str, pids: str) -> None:
    """Write half a file, start another process, and take a minute."""
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        temporary.write_text("half", encoding="utf-8")
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        with Path(pids).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {other.pid}\n")
        for _ in range(600):
            time.sleep(0.1)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
