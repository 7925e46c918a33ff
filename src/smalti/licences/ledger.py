"""The ledger: one row for each package, each kind of weights, each data set.

Rows are data beside this module. A row says what is known: a licence, whether it allows commercial use and passing on,
and where that is said. What nobody has read is "unknown".
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..notation import parse_yaml
from .installed import agrees, list_requirements, read_installed

Permission = Literal["yes", "no", "unknown"]
NOT_STATED = "not stated"


class _Terms(BaseModel):
    """What a licence allows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commercial: Permission
    passing_on: Permission
    strong: Literal["yes", "no"] = "no"


class Row(BaseModel):
    """A package, weights or a data set with its licence.

    Attributes:
        name: of the package; the beginning of the name of a backbone; of a data set.
        also: names of the encoder that has these weights, the one that recipes use first.
        title: what it is, in words.
        version: that is installed; empty where nothing is.
        extra: of smalti's own extras that asks for a package; empty for the default.
        source: who says so.
        checked: whether the source was read, and not only what others say of it.
        gated: whether the authors ask for an agreement first.
        note: what else matters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    licence: str
    also: tuple[str, ...] = ()
    title: str = ""
    commercial: Permission = "unknown"
    passing_on: Permission = "unknown"
    source: str = ""
    version: str = ""
    extra: str = ""
    checked: Literal["yes", "no"] = "yes"
    gated: Literal["yes", "no"] = "no"
    note: str = ""

    @property
    def doubts(self) -> str:
        """What to know beside the licence, in words; empty where there is nothing."""
        words = [self.note] if self.note else []
        words += ["an agreement with the authors comes first"] if self.gated == "yes" else []
        words += ["not read here: check the authors' page"] if self.checked == "no" else []
        return "; ".join(words)


def list_code() -> tuple[Row, ...]:
    """Return a row for each package that the installed smalti asks for, with the version that is here.

    A package without a row, or whose own metadata say something else, has that in its note.
    """
    known, rows = read_code(), []
    for name, extra in list_requirements():
        version, said = read_installed(name)
        licence = known.get(name.lower(), "unknown")
        note = ""
        if licence == "unknown":
            note = "no row in the ledger"
        elif version and said and not agrees(licence, said):
            note = f"its metadata say: {said}"
        elif version and not said:
            note = "its metadata do not say"
        rows.append(_make_row({"name": name, "licence": licence, "version": version, "extra": extra, "note": note}))
    return tuple(rows)


def list_weights() -> tuple[Row, ...]:
    """Return the rows of weights."""
    return tuple(_make_row(row) for row in _read("weights"))


def list_datasets() -> tuple[Row, ...]:
    """Return the rows of data sets."""
    return tuple(_make_row(row) for row in _read("datasets"))


def find_weights(backbone: str, *, file: str = "") -> Row:
    """Return the row of the weights that a recipe names; what the ledger does not know is unknown.

    Args:
        backbone: timm's name, one of a hub, or that of an encoder.
        file: of the user, which says nothing about its licence unless an encoder is named; empty without one.
    """
    if (encoder := find_encoder_row(backbone)) is not None:
        return encoder
    if file:
        return Row(name=backbone, title=f"the file {file}", licence="unknown", source="yours to say")
    rows = [row for row in list_weights() if backbone.startswith(row.name)]
    if not rows:
        return Row(name=backbone, title=backbone, licence="unknown", source="yours to say", note="no row in the ledger")
    return max(rows, key=lambda row: len(row.name))


def find_encoder_row(name: str) -> Row | None:
    """Return the row of an encoder by one of its names or by its id on the hub, in letters of any size; else None."""
    return _read_encoders().get(name.lower())


def find_data(licence: str | None) -> Row:
    """Return the row of the images of a run.

    Args:
        licence: what the recipe says (``data.licence``): the name of a data set of the ledger, or a licence; None where
            it says nothing.
    """
    named = {row.name: row for row in list_datasets()}
    if licence in named:
        return named[licence]
    own = {"name": "your images", "title": "the images of this run"}
    if licence is None:
        return Row(**own, licence=NOT_STATED, source="data.licence names it")
    return _make_row(own | {"licence": licence, "source": "data.licence"})


def count_open(rows: Iterable[Row]) -> tuple[int, tuple[Row, ...]]:
    """Return how many rows ask for no more than a notice, and the others."""
    plain, others = 0, []
    for row in rows:
        terms = _read_terms().get(row.licence)
        if terms is None or terms.strong == "yes" or row.commercial != "yes" or row.passing_on != "yes":
            others.append(row)
        else:
            plain += 1
    return plain, tuple(others)


def read_code() -> dict[str, str]:
    """Return the licence of each package by its name in small letters."""
    return {str(name): str(licence) for name, licence in _read("code").items()}


def _make_row(content: dict[str, Any]) -> Row:
    """Make a row; what it does not say itself its licence says, where that is known."""
    terms = _read_terms().get(content["licence"])
    said = {} if terms is None else {"commercial": terms.commercial, "passing_on": terms.passing_on}
    return Row(**(said | content))


@cache
def _read_encoders() -> dict[str, Row]:
    rows = [row for row in list_weights() if row.also]
    hubs = {row.name.lower(): row for row in rows if row.name.startswith("hf-hub:")}
    return hubs | {name.lower(): row for row in rows for name in row.also}


@cache
def _read_terms() -> dict[str, _Terms]:
    return {name: _Terms(**terms) for name, terms in _read("terms").items()}


@cache
def _read(name: str) -> Any:
    file = resources.files("smalti.licences") / f"{name}.yaml"
    return parse_yaml(file.read_text(encoding="utf-8"), file.name, names=True)  # yes and no stay words
