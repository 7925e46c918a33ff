"""Which part of a data set (train, val, test) a table, a folder or a cell of a part column speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

TRAIN, VAL, TEST = "train", "val", "test"
WORDS = {
    TRAIN: ("train", "training", "trainset", "traindata"),
    VAL: ("val", "valid", "validation", "dev", "valset", "valdata"),
    TEST: (
        "test",
        "testing",
        "testset",
        "testdata",
        "unlabelled",
        "unlabeled",
        "predict",
        "submission",
        "holdout",
        "heldout",
    ),
}
# A folder that is a part and nothing else, such as train, Test-set or training_data_2.
FOLDER = re.compile(
    rf"({'|'.join(word for words in WORDS.values() for word in words if word != 'submission')})"
    r"([-_ ]?(set|data|images?|imgs?|part|split|cases|samples|tiles))*([-_ ]?[0-9]+)?"
)
PART_OF_WORD = {word: part for part, words in WORDS.items() for word in words}


def read_part(text: str) -> str:
    """The part that a text names with one of its words, such as ``Test set`` or ``train_data``; "" for none or two."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)
    parts = {PART_OF_WORD[word.lower()] for word in words if word.lower() in PART_OF_WORD}
    return parts.pop() if len(parts) == 1 else ""


def is_part(folder: str) -> bool:
    """Whether a folder is called as a part and as nothing else."""
    return FOLDER.fullmatch(folder.strip().lower()) is not None


def part_of_table(file: str) -> str:
    """The part that a table holds by its name, else by its folders."""
    path = PurePosixPath(file)
    return read_part(path.stem) or part_of_path(file)


def part_of_path(name: str) -> str:
    """The part that the folders of a file name; the outermost that does."""
    return next((part for folder in PurePosixPath(name).parts[:-1] if (part := read_part(folder))), "")


def prefer_part(names: Iterable[str], part: str) -> list[str]:
    """The files in the folders of a part; where there are none, those in the folder of no part; else all."""
    names = list(names)
    for wanted in (part, ""):
        inside = [name for name in names if part_of_path(name) == wanted]
        if inside:
            return inside
    return names
