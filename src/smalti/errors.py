"""Everything smalti raises on purpose.

    SmaltiError
    ├── DataError          the data folder cannot be used as it is; carries every problem at once
    ├── RecipeError        a knob that does not exist or does not fit
    ├── PartError          a registered part that does not exist, or its arguments
    ├── SplitError         folds that would leak or lack a class
    ├── WeightsError       pretrained weights that cannot be had
    ├── RunError           a run folder that cannot be continued
    ├── DivergenceError    training whose weights stopped being numbers
    ├── SubmissionError    a submission that the competition would refuse
    ├── FaultError         what the machine refused: disk, memory, permission, a file that is gone
    └── MissingExtraError  an optional library that is not installed

Each message says what was looked for, where, and how to fix it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

LINE_SIGNS = "\u2028\u2029"  # they end a line, as control signs do


def is_plain(text: str) -> bool:
    """Whether a text has no control sign, no line break, and nothing that is no Unicode."""
    return not any(sign in LINE_SIGNS or unicodedata.category(sign) in {"Cc", "Cs"} for sign in text)


def show_text(text: str) -> str:
    """A text as one line that can be printed anywhere: control signs and bytes that are no Unicode as escapes."""
    if is_plain(text):
        return text
    plain = os.fsencode(text).decode("utf-8", "backslashreplace") if _is_name(text) else text
    return "".join(c if is_plain(c) else c.encode("unicode_escape").decode("ascii") for c in plain)


def _is_name(text: str) -> bool:
    """Whether what is no Unicode in a text are bytes of a file name, which Python keeps as U+DC80 to U+DCFF."""
    return all("\udc80" <= c <= "\udcff" for c in text if unicodedata.category(c) == "Cs")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a data folder.

    Attributes:
        code: short stable name, for example ``mask-size``.
        file: the file or table row concerned, relative to the data folder; printable, as message and fix are.
        message: what is wrong.
        fix: what a person can do about it.
        images: names of the images to leave out to go on without them; empty when leaving out does not help.
        warning: True when the problem is stated but does not stop.
    """

    code: str
    file: str
    message: str
    fix: str
    images: tuple[str, ...] = ()
    warning: bool = False

    def __post_init__(self) -> None:
        for name in ("file", "message", "fix"):
            object.__setattr__(self, name, show_text(getattr(self, name)))


class SmaltiError(Exception):
    """The root of the tree; the command line prints its message and exits with 2."""


class DataError(SmaltiError):
    """A data folder with problems; ``problems`` holds them all."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        lines = [message, *(f"  {p.file}: {p.message} Fix: {p.fix}" for p in self.problems)]
        super().__init__("\n".join(lines))
        self.headline = message


class RecipeError(SmaltiError):
    """A recipe that names an unknown knob or gives one a value that does not fit."""


class PartError(SmaltiError):
    """A part that is not registered, or arguments that its builder does not take."""


class SplitError(SmaltiError):
    """Folds that would leak a case or leave a training part without a class."""


class WeightsError(SmaltiError):
    """Pretrained weights that cannot be had or do not fit the backbone."""


class RunError(SmaltiError):
    """A run folder that belongs to something else, or lacks what a stage needs."""


class DivergenceError(SmaltiError):
    """Training that left no weights that score: every loss was no number."""


class SubmissionError(SmaltiError):
    """A submission that does not match what the competition expects."""


class FaultError(SmaltiError):
    """What the machine refused; ``kind`` is ``disk``, ``memory``, ``lock`` or ``path``."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class MissingExtraError(SmaltiError):
    """An optional library is needed; the message names the extra to install."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional library. Fix: pip install 'smalti[{extra}]'")
