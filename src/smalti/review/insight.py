"""What one trained run says about the images: losses, scores, neighbours, folds, suspects, heat maps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..audit import read_findings
from ..errors import RunError
from ..records import Environment, Trace, Traces
from ..records.layout import FOLDS, HEATMAP, HEATMAPS, SUSPECTS, TRACES, name_heatmap
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

    def find_heatmap(self, image: str) -> Path | None:
        """Return the heat map of an image; None where there is none inside the folder of heat maps."""
        path = self.run / name_heatmap(image, HEATMAP)
        inside = path.is_file() and path.resolve().is_relative_to((self.run / HEATMAPS).resolve())
        return path if inside else None


def read_insight(run: Path, *, images: Collection[str]) -> Insight:
    """Read what a run folder holds; each file may be absent, but not all.

    Args:
        run: run folder.
        images: names of the data folder that is looked at.

    Raises:
        RunError: the folder has neither traces nor folds, is damaged or of another version, or is about other images.
    """
    Environment.find(run)  # its version is that of the run
    traces = {} if (known := Traces.find(run)) is None else {trace.image: trace for trace in known.images}
    folds: dict[str, int] = {}
    if (run / FOLDS).is_file():
        with reading(run / FOLDS):
            table = read_table(run / FOLDS, "role", "seed", "image", "fold")
            first = table[(table["role"] == "outer") & (table["seed"] == table["seed"].min())]
            folds = {str(image): int(fold) for image, fold in zip(first["image"], first["fold"], strict=True)}
    if not traces and not folds:
        raise RunError(f"{run} has neither {TRACES} nor {FOLDS}", fix="name a trained run folder")
    if not (traces.keys() | folds.keys()) & set(images):
        raise RunError(f"{run} is about other images", fix="name a run on this data folder")
    suspects = read_findings(run / SUSPECTS).findings if (run / SUSPECTS).is_file() else ()
    return Insight(run, traces, folds, suspects)
