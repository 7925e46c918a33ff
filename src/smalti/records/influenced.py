"""``influence.json``: which decisions may have been made with predictions in view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ..types import Action
from .layout import INFLUENCE
from .record import Part, Record

CHANGES = {
    "relabel": ("label was changed", "labels were changed"),
    "exclude": ("image was left out", "images were left out"),
    "repair": ("image was repaired", "images were repaired"),
    "reset": ("earlier decision was taken back", "earlier decisions were taken back"),
}

Source = Literal["networks", "labels", "run"]
Effects = Mapping[str, tuple[str, str]]  # image -> action and label of the decision that counts


class Influenced(Part):
    """A decision that may have been made with predictions or labels in view.

    Attributes:
        image: what it is about.
        action: ``reset`` where an earlier decision was taken back.
        source: ``networks`` where it answers what they said of a label, ``labels`` for other findings about labels,
            ``run`` where it was not there when the first run began.
        followed: whether the run follows it, and does not only know of it.
        sealed: whether the image is sealed.
    """

    image: str
    action: Action
    source: Source
    followed: bool
    sealed: bool = False


class Influence(Record):
    """What may have influenced a run.

    Attributes:
        known: effects of all decisions that were there when the run began.
        first: name of the first run on this data; empty where this one is it.
        decisions: those that may have been made with predictions or labels in view.
        contents: hashes of the labelled and sealed images, whatever they are called; empty where they are not known.
    """

    FILE: ClassVar[str] = INFLUENCE
    FIX: ClassVar[str] = "bring it back from a copy, or run it anew under another --name"

    known: dict[str, tuple[str, str]] = Field(default_factory=dict)
    first: str = ""
    decisions: tuple[Influenced, ...] = ()
    contents: frozenset[str] = frozenset()

    @property
    def followed(self) -> tuple[Influenced, ...]:
        """Those about labelled images that the run follows."""
        return tuple(d for d in self.decisions if d.followed and not d.sealed)

    @property
    def sealed(self) -> tuple[Influenced, ...]:
        """Those about sealed images that the run follows."""
        return tuple(d for d in self.decisions if d.followed and d.sealed)

    def describe(self) -> str:
        """Say what was changed and on whose word; empty where nothing that the run follows was."""
        why = {
            "networks": "by what networks said",
            "labels": "for findings about labels",
            "run": f"after run {self.first} could be seen",
        }
        parts = []
        for source, words in why.items():
            for action, (one, many) in CHANGES.items():
                number = sum((d.source, d.action) == (source, action) for d in self.followed)
                if number:
                    parts.append(f"{number} {one if number == 1 else many} {words}")
        return ", ".join(parts)

    def dump(self) -> dict[str, object]:
        """Return what the file holds, hashes in order."""
        return super().dump() | {"contents": sorted(self.contents)}
