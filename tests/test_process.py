"""What the whole process is told about freed memory and threads, seen from outside."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from smalti.process import KEPT_BYTES, LARGEST_BYTES

pytestmark = pytest.mark.slow

COUNT_FAULTS = """
import resource, sys
import numpy as np
from smalti.process import settle_process
if sys.argv[1] == "settled":
    settle_process()
for _ in range(3):
    np.ones(1 << 22)  # 32 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
COUNT_THREADS = """
import os, sys
os.cpu_count = lambda: int(sys.argv[1])
from smalti.process import settle_process
settle_process()
import cv2
print(cv2.getNumThreads() == 1)
"""


def run(code: str, *words: str, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "OPENCV_FOR_THREADS_NUM"}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=inherited | environment)
    return done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not applicable: only this C library can be told")
def test_freed_memory_is_used_again_without_new_pages() -> None:
    assert LARGEST_BYTES[0] < KEPT_BYTES
    plain, settled = (int(run(COUNT_FAULTS, how)) for how in ("plain", "settled"))
    assert settled <= plain
    assert settled < 20  # of 8,192 pages of 4 kB, or 16 of 2 MB, in each of the twenty


@pytest.mark.parametrize("cores", ["1", "2"])
def test_opencv_stays_on_its_callers_thread_where_cores_are_few(cores: str) -> None:
    assert run(COUNT_THREADS, cores) == "True"


def test_what_was_said_of_opencv_before_stands() -> None:
    assert run(COUNT_THREADS, "2", OPENCV_FOR_THREADS_NUM="2") == "False"
