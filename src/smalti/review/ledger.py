"""``decisions.csv`` as a page follows it while it grows: what counts now, what is new, what an undo brings back."""

from __future__ import annotations

import secrets
from pathlib import Path

from ..audit.decisions import DECISION_HEADER, parse_decisions
from ..types import Decision

UNDO = "undo"  # reason of a row that takes an act of the page back


class Ledger:
    """The rows of one decisions file. Not safe between threads; whoever writes holds the file's lock.

    Attributes:
        path: ``decisions.csv``; need not exist.
        settled: image -> the decision that counts.
        entries: act of the page -> images that its rows are about.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._content = b""
        self._forget()
        self.follow()

    @property
    def version(self) -> str:
        """Names what was read so far; see `news`."""
        return f"{self._epoch}-{len(self._rows)}"

    def follow(self) -> None:
        """Read what was added since; everything where other hands changed what had been there.

        Raises:
            DataError: the file can no longer be read.
        """
        if (stamp := _stamp(self.path)) == self._stamp:
            return
        content = self.path.read_bytes() if stamp else b""
        if not (content.startswith(self._content) and self._content.endswith(b"\n") and _is_plain(self._content)):
            self._forget()
        tail = content[len(self._content) :]
        rows = parse_decisions(DECISION_HEADER + tail if self._content else tail, name=self.path.name) if tail else ()
        self._content, self._stamp = content, stamp
        for row in rows:
            self._take(row)

    def news(self, version: str) -> tuple[bool, dict[str, Decision | None]]:
        """Images whose decision may have changed since a version, with what counts; None for undecided ones.

        The flag is True where the version is not known: then these are all decided images, and no other is.
        """
        epoch, _, count = version.rpartition("-")
        if epoch != self._epoch or not count.isdecimal():
            return True, dict(self.settled)
        return False, {row.image: self.settled.get(row.image) for row in self._rows[int(count) :]}

    def history(self, image: str) -> list[Decision]:
        """The rows about an image that were not undone, the latest last."""
        return self._stacks.get(image, [])

    def _forget(self) -> None:
        self._epoch = secrets.token_hex(4)  # drawn, so that a restarted server never takes its count for an older one's
        self._content = b""
        self._rows: list[Decision] = []
        self._stacks: dict[str, list[Decision]] = {}
        self.settled: dict[str, Decision] = {}
        self.entries: dict[str, list[str]] = {}

    def _take(self, row: Decision) -> None:
        self._rows.append(row)
        stack = self._stacks.setdefault(row.image, [])
        if row.entry:
            self.entries.setdefault(row.entry, []).append(row.image)
        if row.entry and row.reason == UNDO:
            del stack[-1:]
        else:
            stack.append(row)
        if row.action == "reset":
            self.settled.pop(row.image, None)
        else:
            self.settled[row.image] = row


def _is_plain(content: bytes) -> bool:
    """Whether rows may be read apart from what is before them: header in our form, no quotation left open."""
    return content.startswith(DECISION_HEADER) and content.count(b'"') % 2 == 0


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns
