"""What one trained run says about the images: losses, scores, neighbours, folds, suspects, heat maps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..audit import SUSPECTS_NAME, read_findings
from ..audit.labels.traces import TRACES_NAME, Trace, read_traces
from ..errors import RunError
from ..store import read_table, reading
from ..types import Finding


@dataclass(frozen=True, slots=True)
class Insight:
    """What was found in a run folder.

    Attributes:
        run: the run folder.
        traces: image -> trace.
        folds: image -> outer fold that scored it, in the first seed.
        suspects: findings of the audit after training.
    """

    run: Path
    traces: dict[str, Trace]
    folds: dict[str, int]
    suspects: tuple[Finding, ...]

    @property
    def heatmaps(self) -> Path:
        """Folder of the heat maps."""
        return self.run / "heatmaps"

    def find_heatmap(self, image: str) -> Path | None:
        """The heat map of an image; None where there is none inside the folder of heat maps."""
        path = self.heatmaps / PurePosixPath(image).with_suffix(".png")
        inside = path.is_file() and path.resolve().is_relative_to(self.heatmaps.resolve())
        return path if inside else None


def read_insight(run: Path, *, images: Collection[str]) -> Insight:
    """Read what a run folder holds; each file may be absent, but not all.

    Args:
        run: run folder.
        images: names of the data folder that is looked at.

    Raises:
        RunError: the folder has neither traces nor folds, is damaged, or is about other images.
    """
    traces = read_traces(run / TRACES_NAME) if (run / TRACES_NAME).is_file() else {}
    folds = _read_folds(run / "folds.csv") if (run / "folds.csv").is_file() else {}
    if not traces and not folds:
        raise RunError(f"{run} has neither {TRACES_NAME} nor folds.csv. Fix: name a trained run folder")
    if not (traces.keys() | folds.keys()) & set(images):
        raise RunError(f"{run} is about other images. Fix: name a run on this data folder")
    suspects = read_findings(run / SUSPECTS_NAME).findings if (run / SUSPECTS_NAME).is_file() else ()
    return Insight(run, traces, folds, suspects)


def _read_folds(path: Path) -> dict[str, int]:
    with reading(path):
        table = read_table(path, "role", "seed", "image", "fold")
        first = table[(table["role"] == "outer") & (table["seed"] == table["seed"].min())]
        return {str(image): int(fold) for image, fold in zip(first["image"], first["fold"], strict=True)}
