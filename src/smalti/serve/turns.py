"""One image is scored at a time; a few wait, and whoever comes beyond them is told to come again."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.exceptions import HTTPException

WAITING = 4  # images besides the one that is scored
FIRST_S = 5.0  # what an image may take, before one was scored

Thing = TypeVar("Thing")


class Turns:
    """Places in the queue."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._taken, self._last_s = 0, FIRST_S

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Hold a place.

        Raises:
            HTTPException: 503, all places are taken.
        """
        if self._taken > WAITING:
            again_s = str(max(1, math.ceil(self._last_s)))
            raise HTTPException(503, "too many images at once; send it again later", headers={"Retry-After": again_s})
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def score(self, work: Callable[[], Thing]) -> Thing:
        """Do the work when all work before it is done."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._measure, work)

    def _measure(self, work: Callable[[], Thing]) -> Thing:
        started = time.monotonic()
        try:
            return work()
        finally:
            self._last_s = time.monotonic() - started
