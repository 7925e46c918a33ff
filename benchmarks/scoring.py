"""What was planted and what was found: rows of ``truth/planted.csv``, precision and recall.

The standard library alone, so that it runs in the environment of any tool.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple


class Planted(NamedTuple):
    """A row of ``planted.csv``.

    Attributes:
        image: name within the data folder.
        kind: what was planted.
        detail: for a copy ``WAY of SOURCE`` (the drawn cohort says ``SOURCE`` alone), for a wrong label the true one.
    """

    image: str
    kind: str
    detail: str

    @property
    def way(self) -> str:
        """How it was made; empty where the truth does not say."""
        return self.detail.split(" of ", 1)[0] if " of " in self.detail else ""

    @property
    def source(self) -> str:
        """The image that this one repeats; empty where it repeats none."""
        if self.kind == "wrong-label":
            return ""
        if " of " in self.detail:
            return self.detail.split(" of ", 1)[1]
        return self.detail if "." in self.detail and " " not in self.detail else ""


def read_truth(folder: Path) -> list[Planted]:
    """Rows of ``folder/truth/planted.csv``."""
    with (folder / "truth" / "planted.csv").open(encoding="utf-8", newline="") as file:
        return [Planted(row["image"], row["kind"], row["detail"]) for row in csv.DictReader(file)]


def write_truth(folder: Path, rows: list[Planted]) -> None:
    """Write ``folder/truth/planted.csv``."""
    (folder / "truth").mkdir(exist_ok=True)
    with (folder / "truth" / "planted.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Planted._fields)
        writer.writerows(rows)
