"""The desk: images with their findings, worst first, and the decisions about them."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .. import runs
from ..audit import Audit, append_decisions, read_decisions, settle_decisions, validate_decisions
from ..errors import DataError
from ..types import Action, Cohort, Decision, Finding, Sample

SEVERITIES = ("error", "warning", "info")
REMEMBERED = 4096  # request ids; far more than one page has on the way at once
_file_lock = threading.RLock()  # of all desks of this process, since two may write one file


@dataclass(frozen=True, slots=True)
class Card:
    """One image on the desk.

    Attributes:
        sample: the image.
        part: ``labelled``, ``unlabelled`` or ``sealed``.
        label: the given class where a person may know it; None outside the labelled part.
        findings: the worst first.
    """

    sample: Sample
    part: str
    label: str | None
    findings: tuple[Finding, ...]


class Desk:
    """Images to decide about, and the file that keeps the decisions.

    Args:
        cohort: as read, before decisions are applied.
        audit: its findings.
        decisions_path: ``decisions.csv``; need not exist.
        who: who decides, for the column of that name.
    """

    def __init__(self, cohort: Cohort, audit: Audit, *, decisions_path: Path, who: str) -> None:
        self.cohort = cohort
        self.who = who
        self._path = decisions_path
        self._requests: deque[str] = deque(maxlen=REMEMBERED)
        self._fingerprint = self._read_fingerprint()
        self.cards = {card.sample.image: card for card in _lay_out(cohort, audit)}

    def decided(self) -> dict[str, Decision]:
        """Image -> the decision that counts, read from the file now."""
        with _file_lock:
            return settle_decisions(read_decisions(self._path))

    def changed(self) -> bool:
        """Whether the files of the samples differ from those at the start, by size or time."""
        return self._read_fingerprint() != self._fingerprint

    def record(self, image: str, action: str, *, label: str = "", finding: str = "", request_id: str = "") -> bool:
        """Put a decision on disk; True when a row was added, False when it was there already.

        Raises:
            DataError: an unknown image, action or label, or one that would have no effect.
        """
        label = label if action == "relabel" else ""
        made = Decision(image, cast(Action, action), "review", self.who, runs.now_text(), finding, label)
        validate_decisions([made], images=self.cards, classes=self.cohort.classes)
        _refuse_without_effect(self.cards[image], action)
        with _file_lock:
            if request_id and request_id in self._requests:
                return False
            added = not _say_the_same(self.decided().get(image), made)
            if added:
                append_decisions(self._path, [made])
            self._requests.append(request_id)
            return added

    def undo(self, image: str, action: str, *, label: str = "", request_id: str = "") -> bool:
        """Bring back what counted before this decision, ``keep`` when nothing did; False when it no longer counts.

        The decision is named, so that a retry cannot undo a second one.
        """
        with _file_lock:
            rows = [row for row in read_decisions(self._path) if row.image == image]
            if not rows or (rows[-1].action, rows[-1].label) != (action, label):
                return False
            before = rows[-2] if len(rows) > 1 else None
            back = (before.action, before.label, before.finding) if before else ("keep", "", "")
            return self.record(image, back[0], label=back[1], finding=back[2], request_id=request_id)

    def _read_fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        paths = [p for s in self.cohort.samples for p in (s.path, s.mask_path) if p is not None]
        return tuple(_describe_file(path) for path in paths)


def _refuse_without_effect(card: Card, action: str) -> None:
    possible = {"labelled": ("keep", "exclude", "relabel"), "sealed": ("keep", "exclude"), "unlabelled": ("keep",)}
    if action not in possible[card.part]:
        raise DataError(f"'{action}' has no effect on an image of the {card.part} part: '{card.sample.image}'")


def _describe_file(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return str(path), -1, -1
    return str(path), stat.st_size, stat.st_mtime_ns


def _say_the_same(counting: Decision | None, made: Decision) -> bool:
    return counting is not None and (counting.action, counting.label) == (made.action, made.label)


def _rank(finding: Finding) -> tuple[int, float]:
    return SEVERITIES.index(finding.severity), -finding.score


def _lay_out(cohort: Cohort, audit: Audit) -> list[Card]:
    about: dict[str, list[Finding]] = {}
    for finding in sorted(audit.findings, key=_rank):
        for image in finding.images:
            about.setdefault(image, []).append(finding)
    parts = {"labelled": cohort.labelled, "unlabelled": cohort.unlabelled, "sealed": cohort.sealed}
    cards = [
        Card(sample, part, sample.label if part == "labelled" else None, tuple(about.get(sample.image, ())))
        for part, samples in parts.items()
        for sample in samples
    ]
    none = (len(SEVERITIES), 0.0)
    return sorted(cards, key=lambda card: _rank(card.findings[0]) if card.findings else none)
