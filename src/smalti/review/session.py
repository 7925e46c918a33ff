"""Hold the images under review with their findings, worst first, and record the decisions about them."""

from __future__ import annotations

import threading
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from .. import store
from ..audit import CHECKS, Audit, append_decisions, find_bound_cases, hold_decisions, validate_decisions
from ..audit.repairs import REPAIRS
from ..errors import DataError
from ..records import Trace
from ..types import Action, Cohort, Content, Decision, Finding, Sample
from .decision_log import UNDO, DecisionLog
from .insight import Insight
from .serving import stamp_file

SEVERITIES = ("error", "warning", "info")
UNREADABLE = "unreadable"
POSSIBLE: dict[str, tuple[Action, ...]] = {
    "labelled": ("keep", "exclude", "relabel", "repair"),
    "sealed": ("keep", "exclude", "repair"),
    "unlabelled": ("keep", "repair"),
    UNREADABLE: ("exclude",),  # an unreadable image stops a run until it is excluded
}
POLL_S = 5.0  # shortest time between two looks at the data folder
POLL_SHARE = 0.02  # largest share of the time that these looks may take


class News(NamedTuple):
    """What changed since a version: the version now; see `DecisionLog.news` for ``all`` and ``decisions``."""

    at: str
    all: bool
    decisions: dict[str, Decision | None]


@dataclass(frozen=True, slots=True)
class Card:
    """One image under review.

    Attributes:
        image: its name.
        sample: None for an image that could not be read.
        part: ``labelled``, ``unlabelled``, ``sealed`` or ``unreadable``.
        findings: the worst first.
        fold: outer fold of the run that is shown.
        trace: what that run knows; None outside the labelled part, since it reveals the label.
    """

    image: str
    sample: Sample | None
    part: str
    findings: tuple[Finding, ...]
    fold: int | None = None
    trace: Trace | None = None

    @property
    def label(self) -> str | None:
        """Return the given class if a person may know it; None outside the labelled part."""
        return self.sample.label if self.sample is not None and self.part == "labelled" else None

    @property
    def actions(self) -> tuple[Action, ...]:
        """Return what can be decided about the image."""
        return tuple(a for a in POSSIBLE[self.part] if a != "repair" or self.find_repairable() is not None)

    def find_repairable(self) -> str | None:
        """Return the code of the worst finding about this image that can be repaired."""
        codes = (f.code for f in self.findings if f.images[0] == self.image)
        return next((code for code in codes if code in REPAIRS), None)


class ReviewSession:
    """Images to decide about, and the file that keeps the decisions.

    Args:
        cohort: as read, before decisions are applied.
        audit: its findings.
        decisions_path: ``decisions.csv``; need not exist.
        who: who decides, for the column of that name.
        insight: what a run says; None without a run.
        contents: the content of each image, which decisions refer to. Without it the next run adds it and says so.
        bound: image -> all images of its case if these share their label; None takes the cases of the cohort.
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
            raise DataError(f"{who!a} is no name", fix="--who without control characters")
        self.bound = find_bound_cases(cohort) if bound is None else bound
        self.who = who
        self.insight = insight
        self._contents = contents or {}
        # One card for each image and each unreadable file, those with the worst findings first. What a run learned from
        # a label reveals it, so nothing is shown of images that were sealed after the run.
        open_ = {s.image for s in cohort.labelled}
        suspects = [f for f in insight.suspects if open_.issuperset(f.images)] if insight else []
        about: dict[str, list[Finding]] = {}
        for finding in sorted([*audit.findings, *suspects], key=_rank):
            for image in finding.images:
                about.setdefault(image, []).append(finding)
        folds = insight.folds if insight else {}
        traces = {image: t for image, t in insight.traces.items() if image in open_} if insight else {}
        parts = {"labelled": cohort.labelled, "unlabelled": cohort.unlabelled, "sealed": cohort.sealed}
        cards = [
            Card(s.image, s, part, tuple(about.pop(s.image, ())), folds.get(s.image), traces.get(s.image))
            for part, samples in parts.items()
            for s in samples
        ]
        cards += [Card(image, None, UNREADABLE, tuple(found)) for image, found in about.items()]
        cards.sort(key=lambda card: _rank(card.findings[0]) if card.findings else (len(SEVERITIES), 0.0))
        self.cards = {card.image: card for card in cards}
        codes = {f.code for card in cards for f in card.findings}
        self._codes = {entry.name for entry in CHECKS} | codes
        self._log = DecisionLog(decisions_path)
        self._lock = threading.RLock()  # of the log, never held while waiting; the decisions file has a lock too
        self._files = self._stamp_files()
        self._changed = False
        self._next_poll_s = 0.0
        self.stamp = store.hash_text(repr(self._files))

    def decided(self) -> dict[str, Decision]:
        """Return image -> the decision that counts, as the file says now."""
        with self._lock:
            self._log.follow()
            return {image: made for image, made in self._log.settled.items() if image in self.cards}

    def news(self, version: str) -> News:
        """Return what changed since a version."""
        with self._lock:
            self._log.follow()
            whole, decisions = self._log.news(version)
            # The file may also hold rows about another data folder; those images are not under review.
            mine = {image: made for image, made in decisions.items() if image in self.cards}
            return News(self._log.version, whole, mine)

    def history(self, image: str) -> list[Decision]:
        """Return the rows about an image that were not undone, the latest last."""
        with self._lock:
            self._log.follow()
            return list(self._log.history.get(image, ()))

    def changed(self) -> bool:
        """Return whether files of the samples changed since the start, by size or time; polled from time to time."""
        if not self._changed and time.monotonic() >= self._next_poll_s:
            began = time.monotonic()
            self._changed = self._stamp_files() != self._files
            ended = time.monotonic()
            self._next_poll_s = ended + max(POLL_S, (ended - began) / POLL_SHARE)
        return self._changed

    def record(self, images: Sequence[str], action: str, *, entry: str, label: str = "", finding: str = "") -> bool:
        """Write one decision about each of these images to disk, all or none.

        If a label belongs to the whole case, all its images that are not excluded are relabelled.

        Args:
            images: names of images under review.
            action: what is decided.
            entry: names this act; the same act a second time changes nothing.
            label: the class of ``relabel``.
            finding: code of the finding that is answered; empty takes the worst finding of each image.

        Returns:
            True when rows were added, False when this act was on disk already.

        Raises:
            DataError: an unknown image, action or label, a decision that would have no effect, or two labels in a case
                that has one.
        """
        if finding and finding not in self._codes:
            raise DataError(f"no finding is called {finding[:80]!a}")
        with hold_decisions(self._log.path):
            with self._lock:
                self._log.follow()
                known, settled = entry in self._log.entries, dict(self._log.settled)
            if known or not images:
                return False
            about = images
            if action == "relabel":  # all images that share their label by their case, except excluded ones
                case_mates = (other for image in images for other in self.bound.get(image, ()))
                included = (i for i in case_mates if i not in settled or settled[i].action != "exclude")
                about = list(dict.fromkeys((*images, *included)))
            rows = []
            for image in about:
                card, answered = self.cards.get(image), finding
                if card is not None and action == "repair":
                    answered = finding if finding in REPAIRS else card.find_repairable() or ""
                elif card is not None and card.findings:
                    answered = finding or card.findings[0].code
                given = label if action == "relabel" else ""
                rows.append(self._make_row(image, action, "review", finding=answered, label=given, entry=entry))
            validate_decisions(rows, images=self.cards, classes=self.cohort.classes)
            for card in (self.cards[row.image] for row in rows):
                if action not in card.actions:
                    raise DataError(f"'{action}' has no effect on '{card.image}' ({card.part})")
            # The labels of each case must agree after this act too, with what was decided before.
            cases = {image: case for image in about if (case := self.bound.get(image))}
            after = settled | {row.image: row for row in rows}
            together = [after[image] for case in cases.values() for image in case if image in after]
            validate_decisions(together, images=self.cards, classes=self.cohort.classes, bound=cases)
            append_decisions(self._log.path, rows)
            return True

    def undo(self, undone: str, *, entry: str) -> bool:
        """Restore what counted before an act, for each image that was not decided again since; all at once.

        Args:
            undone: the act to take back.
            entry: names this act, as in `record`.

        Raises:
            DataError: the act is not known, or all its images were decided again.
        """
        with hold_decisions(self._log.path):
            rows = []
            with self._lock:
                self._log.follow()
                if entry in self._log.entries:
                    return False
                for image in self._log.entries.get(undone, ()):
                    made = self._log.history.get(image)
                    if not made or made[-1].entry != undone:
                        continue
                    action, finding, label = "reset", "", ""
                    if len(made) > 1:
                        action, finding, label = made[-2].action, made[-2].finding, made[-2].label
                    rows.append(self._make_row(image, action, UNDO, finding=finding, label=label, entry=entry))
            if not rows:
                raise DataError("nothing was undone: these images were decided again since, perhaps on another page")
            append_decisions(self._log.path, rows)
            return True

    def _make_row(self, image: str, action: str, reason: str, *, finding: str, label: str, entry: str) -> Decision:
        content = self._contents.get(image)
        about = (content.file, str(self.cohort.root.resolve())) if content else ("", "")
        made = cast(Action, action)  # validate_decisions refuses any other
        return Decision(image, made, reason, self.who, store.now_text(), finding, label, entry, *about)

    def _stamp_files(self) -> tuple[tuple[str, int, int, int], ...]:
        return tuple(stamp_file(path) for sample in self.cohort.samples for path in sample.files)


def _rank(finding: Finding) -> tuple[int, float]:
    return SEVERITIES.index(finding.severity), -finding.score
