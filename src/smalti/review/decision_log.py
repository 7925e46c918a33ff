"""Follow ``decisions.csv`` while it grows: what counts now, what is new, what an undo brings back."""

from __future__ import annotations

import secrets
from pathlib import Path

from ..audit.decisions import DECISION_HEADER, parse_decisions
from ..types import Decision

UNDO = "undo"  # reason of a row that takes an act of the page back


class DecisionLog:
    """Hold the rows of one decisions file. Not safe between threads; whoever writes holds the file's lock.

    Attributes:
        path: ``decisions.csv``; need not exist.
        version: names what was read so far; see `news`.
        rows: every row read so far.
        settled: image -> the decision that counts.
        history: image -> its rows that were not undone, the latest last.
        entries: act of the page -> images that its rows are about.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._content = b""
        self._forget()
        self.follow()

    def follow(self) -> None:
        """Read the rows added since the last call; all rows if earlier ones were changed by somebody else.

        Raises:
            DataError: the file can no longer be read.
        """
        try:
            state = self.path.stat()
        except FileNotFoundError:
            stamp = None
        else:
            stamp = state.st_ino, state.st_size, state.st_mtime_ns
        if stamp == self._stamp:
            return
        content, known = self.path.read_bytes() if stamp else b"", self._content
        # New rows may be parsed alone after whole rows under a header in our form, with no quotation left open.
        plain = known.startswith(DECISION_HEADER) and known.endswith(b"\n") and known.count(b'"') % 2 == 0
        if not (plain and content.startswith(known)):
            self._forget()
        tail = content[len(self._content) :]
        rows = parse_decisions(DECISION_HEADER + tail if self._content else tail, name=self.path.name) if tail else ()
        self._content, self._stamp = content, stamp
        for row in rows:
            history = self.history.setdefault(row.image, [])
            if row.entry:
                self.entries.setdefault(row.entry, []).append(row.image)
            if row.entry and row.reason == UNDO:
                del history[-1:]
            else:
                history.append(row)
            if row.action == "reset":
                self.settled.pop(row.image, None)
            else:
                self.settled[row.image] = row
        self.rows += rows
        self.version = f"{self._epoch}-{len(self.rows)}"

    def news(self, version: str) -> tuple[bool, dict[str, Decision | None]]:
        """Return the images whose decision may have changed since a version, with what counts; None: undecided.

        The flag is True if the version is unknown: then all decided images are returned, and no other is decided.
        """
        epoch, _, count = version.rpartition("-")
        if epoch != self._epoch or not count.isdecimal():
            return True, dict(self.settled)
        return False, {row.image: self.settled.get(row.image) for row in self.rows[int(count) :]}

    def _forget(self) -> None:
        self._epoch = secrets.token_hex(4)  # random, so that a restarted server does not take an older one's versions
        self._content = b""
        self.version = f"{self._epoch}-0"
        self.rows: list[Decision] = []
        self.history: dict[str, list[Decision]] = {}
        self.settled: dict[str, Decision] = {}
        self.entries: dict[str, list[str]] = {}
