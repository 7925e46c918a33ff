"""One gate for all that is tried beside the labels: kept where the inner cases say that it helps, else undone.

A part of training (pseudo-labels, pretraining, synthesis) opens the inner cases of a fold with `open_inner`, collects
their scores without and with itself with `hold_out`, each case scored by trainings that did not have it, and asks
`judge`. The outer part has no say: `open_inner` refuses a split whose outer cases are among the others.
"""

from .inner import Inner, Turn, hold_out, open_inner
from .judging import judge

__all__ = ["Inner", "Turn", "hold_out", "judge", "open_inner"]
