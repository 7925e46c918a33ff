"""What a trained run knows about each image: written after training, read by the audit and the review page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ... import store

TRACES_NAME = "traces.json"  # in a run folder


@dataclass(frozen=True, slots=True)
class Trace:
    """One labelled image as networks saw it that had not learned from its case.

    Attributes:
        image: name in the cohort.
        loss: out-of-fold cross-entropy of the given label, mean over seeds.
        scores: class -> out-of-fold score, mean over seeds.
        history: (epoch, held-out cross-entropy of the given label, mean over seeds); empty where none was recorded.
        alike: nearest images of the given label in other cases, nearest first.
        unlike: nearest images of other labels in other cases, nearest first.
    """

    image: str
    loss: float
    scores: dict[str, float]
    history: tuple[tuple[int, float], ...] = ()
    alike: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()


def write_traces(path: Path, traces: Iterable[Trace]) -> Path:
    """Write ``traces.json`` atomically."""
    return store.write_json(path, {"images": [asdict(trace) for trace in traces]})


def read_traces(path: Path) -> dict[str, Trace]:
    """Image -> trace, from what `write_traces` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    traces = {}
    with store.reading(path):
        for row in store.read_json(path)["images"]:
            history = tuple((int(epoch), float(loss)) for epoch, loss in row["history"])
            rest = {"history": history, "alike": tuple(row["alike"]), "unlike": tuple(row["unlike"])}
            traces[row["image"]] = Trace(**{**row, **rest})
    return traces
