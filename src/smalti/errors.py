"""Everything smalti raises on purpose.

    SmaltiError
    ├── DataError          the data folder cannot be used as it is; carries every problem at once
    ├── RecipeError        a knob that does not exist or does not fit
    │   └── NotApplicableError  what is asked for needs something that this kind of data does not have
    ├── PartError          a registered part that does not exist, or its arguments
    ├── SplitError         folds that would leak or lack a class
    ├── WeightsError       pretrained weights that cannot be had
    ├── RunError           a run folder that cannot be continued
    ├── DivergenceError    training whose weights became NaN
    ├── SubmissionError    a submission that the competition would refuse
    ├── FaultError         the machine refused: disk, memory, permission, a file that is gone
    └── MissingExtraError  an optional library that is not installed

Each error says what was looked for, where, and how to fix it; the fix is a field of its own (`SmaltiError.fix`).
"""

from __future__ import annotations

import copyreg
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LINE_SIGNS = "\u2028\u2029"  # they end a line, as control signs do


def is_plain(text: str) -> bool:
    """Return whether a text has no control sign, no line break, and only valid Unicode."""
    return not any(sign in LINE_SIGNS or unicodedata.category(sign) in {"Cc", "Cs"} for sign in text)


def show_text(text: str) -> str:
    """Return a text as one line that can be printed anywhere; control signs and invalid Unicode become escapes."""
    if is_plain(text):
        return text
    # Python keeps bytes of a file name that are not Unicode as U+DC80 to U+DCFF.
    if all("\udc80" <= c <= "\udcff" for c in text if unicodedata.category(c) == "Cs"):
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(c if is_plain(c) else c.encode("unicode_escape").decode("ascii") for c in text)


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
    """The root of the tree; the command line prints its text and exits with 2.

    Attributes:
        message: what was looked for, where, and what is wrong.
        fix: what a person can do about it; the text of the error is both, as in ``no file at x. Fix: check the path``.
    """

    def __init__(self, message: str, *, fix: str = "") -> None:
        self.message, self.fix = message, fix
        super().__init__(self.headline)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by fields, since classes take other arguments: processes that train together hand errors on."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    @property
    def headline(self) -> str:
        """Message and fix in one line."""
        if not self.fix:
            return self.message
        stop = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{self.message}{stop} Fix: {self.fix}"


class DataError(SmaltiError):
    """A data folder with problems; ``problems`` holds them all."""

    def __init__(self, message: str, problems: Sequence[Problem] = (), *, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.problems = tuple(problems)
        self.args = ("\n".join([self.headline, *(f"  {p.file}: {p.message} Fix: {p.fix}" for p in self.problems)]),)


class RecipeError(SmaltiError):
    """A recipe that names an unknown knob or gives one a value that does not fit."""


class NotApplicableError(RecipeError):
    """What is asked for needs something that this kind of data does not have, such as pixels."""


class PartError(SmaltiError):
    """A part that is not registered, or arguments that its builder does not take."""


class SplitError(SmaltiError):
    """Folds that would leak a case or leave a training part without a class."""


class WeightsError(SmaltiError):
    """Pretrained weights that cannot be had or do not fit the backbone."""


class RunError(SmaltiError):
    """A run folder that belongs to something else, or lacks what a stage needs."""


class DivergenceError(SmaltiError):
    """Training that left no usable weights: every loss was NaN."""


class SubmissionError(SmaltiError):
    """A submission that does not match what the competition expects."""


class FaultError(SmaltiError):
    """The machine refused; ``kind`` is ``disk``, ``memory``, ``lock``, ``path`` or ``network``."""

    def __init__(self, message: str, *, kind: str, fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.kind = kind


class MissingExtraError(SmaltiError):
    """An optional library is needed; the message names the extra to install."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional library", fix=f"pip install 'smalti[{extra}]'")
