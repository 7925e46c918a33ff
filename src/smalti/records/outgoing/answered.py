"""Answers of a model for a folder of new images: ``predictions.json``, and ``answered.jsonl``, a line an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import ValidationError

from ...store import write_atomic
from ..layout import ANSWERED, ANSWERS_ABOUT
from ..record import Part, Record


class AnswersRecord(Record):
    """``predictions.json``: what the answers of a folder stand on.

    Attributes:
        model: name of the run that the model comes from.
        model_hash: SHA-256 of its ``model.json``, which names all its files.
        code: hash of the code that answers.
        mpp: microns per pixel of images that do not say their own; None where nobody said.
        root: the folder of the images.
        notes: what was guessed or is to be known, for people.
    """

    FILE: ClassVar[str] = ANSWERS_ABOUT
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "give another folder with --out"
    OLD: ClassVar[str] = "give another folder with --out"

    model: str
    model_hash: str
    code: str
    mpp: float | None
    root: str
    notes: tuple[str, ...] = ()


class Answered(Part):
    """The answer for one image.

    Attributes:
        image: its name in the folder.
        content: names its files, and how they are read; another content is asked about again.
        scores: of the classes; None where it could not be read.
        agreement: share of the networks that name the class with the largest score.
        refused: why there is no answer; empty where there is one.
        traits: by which it is compared with the training images; None where they are not known.
        notes: what was read by a rule that is not plain, as ``code: sentence``.
    """

    image: str
    content: str
    scores: tuple[float, ...] | None
    agreement: float | None
    refused: str
    traits: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


class Append(Protocol):
    """Puts one more answer on disk."""

    def __call__(self, row: Answered) -> None:
        """Append a line."""


def read_answered(folder: Path) -> dict[str, Answered]:
    """Read the answers that are there, by image; a process that was killed leaves half a line, which is skipped."""
    path, found = folder / ANSWERED, {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = Answered.model_validate_json(line)
        except ValidationError:
            continue
        found[row.image] = row
    return found


@contextmanager
def append_answers(folder: Path, known: dict[str, Answered]) -> Iterator[Append]:
    """Write the answers that are known, then yield what appends others."""
    text = "".join(row.model_dump_json() + "\n" for row in known.values())
    with write_atomic(folder / ANSWERED, text).open("a", encoding="utf-8") as file:

        def append(row: Answered) -> None:
            file.write(row.model_dump_json() + "\n")
            file.flush()

        yield append
