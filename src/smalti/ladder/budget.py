"""What a rung would cost before it is carried out, and whether that fits into what is left of the time given.

The pixels that go through the network stand for the cost; the rungs so far say how many seconds they take.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..workflow.portfolio.work import Work


@dataclass
class Budget:
    """Minutes for one call of a ladder; None is all the time there is.

    Attributes:
        minutes: what was given.
        seconds, pixels: of the rungs that were measured so far.
        known: features that are there.
    """

    minutes: float | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    pixels: float = 0.0
    known: set[str] = field(default_factory=set)

    def refuse(self, work: Work) -> str | None:
        """Why a rung does not fit into what is left; None where it does, or where nothing is known yet."""
        if self.minutes is None or not self.pixels:
            return None
        needed = self.seconds / self.pixels * self._count(work) / 60
        left = self.minutes - (time.monotonic() - self.started) / 60
        if needed <= max(0.0, left):
            return None
        return (
            f"needs about {needed:.1f} min; {max(0.0, left):.1f} of {self.minutes:g} min were left. Fix: call again "
            "with the same budget, which goes on here, or with a larger one"
        )

    def learn(self, work: Work, seconds: float) -> None:
        """Take account of a rung that was carried out, now or in an earlier call."""
        self.seconds += seconds
        self.pixels += self._count(work)
        self.known.add(work.features)

    def _count(self, work: Work) -> float:
        return work.tuned_px + (0.0 if work.features in self.known else work.frozen_px)
