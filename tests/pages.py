"""Runs without their pages, which cost more than a run on drawn images; pages have tests of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

KEPT = ("write_card", "write_checklist")


@contextmanager
def without_pages(*names: str) -> Iterator[None]:
    """Write a word where reports and articles would be drawn; ``names`` are those of their writers, else all.

    Model cards and checklists cost little and stay.
    """
    from smalti import report

    def write(folder: Any, **_: Any) -> Path:
        path = Path(getattr(folder, "path", folder)) / "report.html"
        if not path.exists():
            path.write_text("page\n", encoding="utf-8")
        return path

    with pytest.MonkeyPatch.context() as patch:
        for name in names or [name for name in report.__all__ if name.startswith("write_") and name not in KEPT]:
            patch.setattr(report, name, write)
        yield
