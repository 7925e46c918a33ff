"""Units of work from files to files, done in this process, in several, or on a Ray cluster.

It knows nothing of stages: a unit names its task, which is imported where it runs.
"""

from .carrying import carry_out
from .performing import say
from .places import Place, parse_place
from .unit import Outcome, Unit

__all__ = ["Outcome", "Place", "Unit", "carry_out", "parse_place", "say"]
