"""What a run answers to an item of a checklist."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """Words with the numbers of the run, and where its report says more.

    Attributes:
        text: one or a few sentences.
        anchor: short name of the section of ``report.html``.
    """

    text: str
    anchor: str
