"""The desk: images with their findings, worst first, and the decisions about them."""

from __future__ import annotations

import threading
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .. import store
from ..audit import CHECKS, Audit, append_decisions, find_bound_cases, hold_decisions, validate_decisions
from ..audit.labels.traces import Trace
from ..audit.repairs import REPAIRS
from ..errors import DataError
from ..types import Action, Cohort, Content, Decision, Finding, Sample
from .insight import Insight
from .ledger import UNDO, Ledger

SEVERITIES = ("error", "warning", "info")
UNREADABLE = "unreadable"
POSSIBLE: dict[str, tuple[Action, ...]] = {
    "labelled": ("keep", "exclude", "relabel", "repair"),
    "sealed": ("keep", "exclude", "repair"),
    "unlabelled": ("keep", "repair"),
    UNREADABLE: ("exclude",),  # what stops a run until it is said
}
GLANCE_S = 5.0  # the data folder is looked at no more often than this
GLANCE_SHARE = 0.02  # nor for more than this share of the time


@dataclass(frozen=True, slots=True)
class Card:
    """One image on the desk.

    Attributes:
        image: its name.
        sample: None where a finding is about an image that could not be read.
        part: ``labelled``, ``unlabelled``, ``sealed`` or ``unreadable``.
        findings: the worst first.
        fold: outer fold of the run that is looked at.
        trace: what that run knows; None outside the labelled part, since it tells the label.
    """

    image: str
    sample: Sample | None
    part: str
    findings: tuple[Finding, ...]
    fold: int | None = None
    trace: Trace | None = None

    @property
    def label(self) -> str | None:
        """The given class where a person may know it; None outside the labelled part."""
        return self.sample.label if self.sample is not None and self.part == "labelled" else None

    @property
    def actions(self) -> tuple[Action, ...]:
        """What can be decided about it."""
        return tuple(a for a in POSSIBLE[self.part] if a != "repair" or self.find_repairable() is not None)

    def find_repairable(self) -> str | None:
        """Code of the worst finding about this image that can be repaired."""
        codes = (f.code for f in self.findings if f.images[0] == self.image)
        return next((code for code in codes if code in REPAIRS), None)


class Desk:
    """Images to decide about, and the file that keeps the decisions.

    Args:
        cohort: as read, before decisions are applied.
        audit: its findings.
        decisions_path: ``decisions.csv``; need not exist.
        who: who decides, for the column of that name.
        insight: what a run says; None without a run.
        contents: what each image holds; decisions are about that. Without it the next run says so and adds it.
        bound: image -> all images of its case, where these share their label; None takes the cases of the cohort.
    """

    def __init__(
        self,
        cohort: Cohort,
        audit: Audit,
        *,
        decisions_path: Path,
        who: str,
        insight: Insight | None = None,
        contents: Mapping[str, Content] | None = None,
        bound: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.cohort = cohort
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in who):
            raise DataError(f"{who!a} is no name. Fix: --who without control signs")
        self.bound = find_bound_cases(cohort) if bound is None else bound
        self.who = who
        self.insight = insight
        self._contents = contents or {}
        self.cards = {card.image: card for card in _lay_out(cohort, audit, insight)}
        found = {f.code for card in self.cards.values() for f in card.findings}
        self._codes = {entry.name for entry in CHECKS} | found
        self._ledger = Ledger(decisions_path)
        self._lock = threading.RLock()  # of the ledger, never held while waiting; the decisions file has a lock too
        self._files = self._read_files()
        self._changed = False
        self._next_glance = 0.0
        self.stamp = store.hash_text(repr(self._files))

    def decided(self) -> dict[str, Decision]:
        """Image -> the decision that counts, as the file says now."""
        with self._lock:
            self._ledger.follow()
            return {image: made for image, made in self._ledger.settled.items() if image in self.cards}

    def news(self, version: str) -> dict[str, Any]:
        """What changed since a version: ``at`` the version now, ``all`` and ``decisions`` as `Ledger.news` says."""
        with self._lock:
            self._ledger.follow()
            whole, decisions = self._ledger.news(version)
            # Rows about images of a folder that shares this file are not on the desk.
            mine = {image: made for image, made in decisions.items() if image in self.cards}
            return {"at": self._ledger.version, "all": whole, "decisions": mine}

    def history(self, image: str) -> list[Decision]:
        """Rows about an image that were not undone, the latest last."""
        with self._lock:
            self._ledger.follow()
            return list(self._ledger.history(image))

    def changed(self) -> bool:
        """Whether files of the samples differ from those at the start, by size or time; looked at from time to time."""
        if not self._changed and time.monotonic() >= self._next_glance:
            began = time.monotonic()
            self._changed = self._read_files() != self._files
            ended = time.monotonic()
            self._next_glance = ended + max(GLANCE_S, (ended - began) / GLANCE_SHARE)
        return self._changed

    def record(self, images: Sequence[str], action: str, *, entry: str, label: str = "", finding: str = "") -> bool:
        """Put one decision about each of these images on disk, all or none.

        Where a label belongs to the whole case, all its images that are not excluded are relabelled.

        Args:
            images: names on the desk.
            action: what is decided.
            entry: names this act; the same act a second time changes nothing.
            label: the class of ``relabel``.
            finding: code of what is answered; empty takes the worst finding of each image.

        Returns:
            True when rows were added, False when this act was on disk already.

        Raises:
            DataError: an unknown image, action or label, a decision that would have no effect, or two labels in a case
                that has one.
        """
        if finding and finding not in self._codes:
            raise DataError(f"no finding is called {finding[:80]!a}")
        with hold_decisions(self._ledger.path):
            with self._lock:
                self._ledger.follow()
                known, settled = entry in self._ledger.entries, dict(self._ledger.settled)
            if known or not images:
                return False
            about = self._widen(images, settled) if action == "relabel" else images
            rows = [self._decide(image, action, label=label, finding=finding, entry=entry) for image in about]
            validate_decisions(rows, images=self.cards, classes=self.cohort.classes)
            for row in rows:
                _refuse_without_effect(self.cards[row.image], action)
            # What it comes to, with what was decided before about other images of the same cases.
            cases = {image: case for image in about if (case := self.bound.get(image))}
            after = settled | {row.image: row for row in rows}
            together = [after[image] for case in cases.values() for image in case if image in after]
            validate_decisions(together, images=self.cards, classes=self.cohort.classes, bound=cases)
            self._write(rows)
            return True

    def _widen(self, images: Sequence[str], settled: Mapping[str, Decision]) -> list[str]:
        """The images, and those that share their label by their case and are not excluded."""
        wide = dict.fromkeys(images)
        for image in images:
            case = self.bound.get(image, ())
            wide |= dict.fromkeys(i for i in case if i not in settled or settled[i].action != "exclude")
        return list(wide)

    def undo(self, undone: str, *, entry: str) -> bool:
        """Bring back what counted before an act, for each image that was not decided again since; all at once.

        Args:
            undone: the act to take back.
            entry: names this act, as in `record`.

        Raises:
            DataError: the act is not known, or all its images were decided again.
        """
        with hold_decisions(self._ledger.path):
            with self._lock:
                self._ledger.follow()
                if entry in self._ledger.entries:
                    return False
                rows = []
                for image in self._ledger.entries.get(undone, ()):
                    made = self._ledger.history(image)
                    if made and made[-1].entry == undone:
                        rows.append(self._restore(image, made[-2] if len(made) > 1 else None, entry=entry))
            if not rows:
                raise DataError("nothing was undone: these images were decided again since, perhaps on another page")
            self._write(rows)
            return True

    def _write(self, rows: list[Decision]) -> None:
        """Put rows on disk; meanwhile others may read what was there before."""
        append_decisions(self._ledger.path, rows)
        with self._lock:
            self._ledger.follow()

    def _decide(self, image: str, action: str, *, label: str, finding: str, entry: str) -> Decision:
        card = self.cards.get(image)
        if card is not None and action == "repair":
            finding = finding if finding in REPAIRS else card.find_repairable() or ""
        elif card is not None and card.findings:
            finding = finding or card.findings[0].code
        label = label if action == "relabel" else ""
        return self._make_row(image, cast(Action, action), "review", finding=finding, label=label, entry=entry)

    def _restore(self, image: str, before: Decision | None, *, entry: str) -> Decision:
        action: Action = before.action if before else "reset"
        finding, label = (before.finding, before.label) if before else ("", "")
        return self._make_row(image, action, UNDO, finding=finding, label=label, entry=entry)

    def _make_row(self, image: str, action: Action, reason: str, *, finding: str, label: str, entry: str) -> Decision:
        content = self._contents.get(image)
        about = (content.file, str(self.cohort.root.resolve())) if content else ("", "")
        return Decision(image, action, reason, self.who, store.now_text(), finding, label, entry, *about)

    def _read_files(self) -> tuple[tuple[str, int, int, int], ...]:
        paths = [path for sample in self.cohort.samples for path in sample.files]
        return tuple(_describe_file(path) for path in paths)


def _refuse_without_effect(card: Card, action: str) -> None:
    if action not in card.actions:
        raise DataError(f"'{action}' has no effect on '{card.image}' ({card.part})")


def _describe_file(path: Path) -> tuple[str, int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return str(path), -1, -1, -1
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _rank(finding: Finding) -> tuple[int, float]:
    return SEVERITIES.index(finding.severity), -finding.score


def _lay_out(cohort: Cohort, audit: Audit, insight: Insight | None) -> list[Card]:
    parts = {"labelled": cohort.labelled, "unlabelled": cohort.unlabelled, "sealed": cohort.sealed}
    open_ = {s.image for s in cohort.labelled}
    # What was learned from a label tells it, so of images that were sealed after the run nothing is shown.
    suspects = [f for f in insight.suspects if open_.issuperset(f.images)] if insight else []
    about: dict[str, list[Finding]] = {}
    for finding in sorted([*audit.findings, *suspects], key=_rank):
        for image in finding.images:
            about.setdefault(image, []).append(finding)
    folds = insight.folds if insight else {}
    traces = {image: t for image, t in insight.traces.items() if image in open_} if insight else {}
    cards = [
        Card(s.image, s, part, tuple(about.pop(s.image, ())), folds.get(s.image), traces.get(s.image))
        for part, samples in parts.items()
        for s in samples
    ]
    cards += [Card(image, None, UNREADABLE, tuple(found)) for image, found in about.items()]
    none = (len(SEVERITIES), 0.0)
    return sorted(cards, key=lambda card: _rank(card.findings[0]) if card.findings else none)
