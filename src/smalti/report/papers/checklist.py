"""Write a reporting checklist that the records of a run answer as far as they can; the rest is for the authors.

Items are data (``smalti/checklists``), in our own words, because the guidelines have their own copyright. Answers are
functions of the records. Each points to the section of the report that says more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ...errors import RecipeError
from ...notation import parse_yaml
from ...records import RunFolder
from ...records.layout import REPORT, name_checklist
from ...store import reading, write_atomic
from ..article.latex import Latex, escape_latex
from ..article.write import make_environment
from ..blocks import Entries, Entry, Link, Paragraph, Section
from ..contents import RunRecord, read_record
from ..page import write_page
from . import asked_data, asked_model, asked_scores
from .answer import Answer

ANSWERS: dict[str, Callable[[RunRecord], Answer | None]] = {
    name.removeprefix("answer_"): function
    for module in (asked_data, asked_model, asked_scores)
    for name, function in vars(module).items()
    if name.startswith("answer_")
}
STATES = {"answered": "answered by the run", "partly": "answered in part", "authors": "for the authors"}


class Item(BaseModel):
    """One item: what it asks, which answer fits, what remains for the authors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: str
    part: str
    asks: str
    knows: str = ""
    authors: str = ""


class Checklist(BaseModel):
    """The items of a guideline, and where it was published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    about: str
    source: str
    doi: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """An item with what the run answers; what the authors have to say is empty where nothing remains."""

    item: Item
    answer: Answer | None
    authors: str

    @property
    def state(self) -> str:
        """``answered``, ``partly`` or ``authors``."""
        return "authors" if self.answer is None else "partly" if self.authors else "answered"


def list_checklists() -> tuple[str, ...]:
    """Return the names of the checklists."""
    return tuple(sorted(Path(file.name).stem for file in (resources.files("smalti") / "checklists").iterdir()))


def load_checklist(name: str) -> Checklist:
    """Read a checklist by its name.

    Raises:
        RecipeError: there is none of that name.
    """
    if name not in list_checklists():
        raise RecipeError(f"no checklist is called '{name}'", fix=f"one of {', '.join(list_checklists())}")
    file = resources.files("smalti") / "checklists" / f"{name}.yaml"
    return Checklist.model_validate(parse_yaml(file.read_text(encoding="utf-8"), file.name, names=True))


def answer_items(checklist: Checklist, record: RunRecord) -> tuple[Answered, ...]:
    """Answer each item from the records of a run; what they do not know is for the authors."""
    answered = []
    for item in checklist.items:
        answer = ANSWERS[item.knows](record) if item.knows else None
        unknown = "the run has no record of it; say it yourself" if answer is None else ""
        answered.append(Answered(item, answer, item.authors or unknown))
    return tuple(answered)


def write_checklist(run: RunFolder, name: str) -> Path:
    """Write a checklist as a page and as LaTeX into a run folder, and return the page.

    Raises:
        RecipeError: no checklist has that name.
        RunError: a file of the run folder is damaged.
    """
    checklist = load_checklist(name)
    record = read_record(run)
    with reading(run.path, fix="run the command again that made it, which writes its records anew"):
        items = answer_items(checklist, record)
    write_atomic(run.path / name_checklist(name, ".tex"), _write_latex(checklist, items, record.name))
    sections = [_introduce(checklist, items), *_list_parts(items)]
    return write_page(run.path, record.name, sections, kind=checklist.title, file=name_checklist(name, ".html"))


def _introduce(checklist: Checklist, items: tuple[Answered, ...]) -> Section:
    counts = {state: sum(one.state == state for one in items) for state in STATES}
    lead = "; ".join(f"{number} {STATES[state]}" for state, number in counts.items())
    text = (
        f"{checklist.title}: {checklist.about}, in {len(items)} rows. What is asked stands here in words of our own; "
        "the "
        f"guideline itself decides: {checklist.source}, doi:{checklist.doi}. An answer says what the records of this "
        "run "
        "know, with its place in the report. It is not a judgement of the study."
    )
    return Section("about", "About", [Paragraph(f"{lead}.", "lead"), Paragraph(text)])


def _list_parts(items: tuple[Answered, ...]) -> list[Section]:
    parts: dict[str, list[Answered]] = {}
    for one in items:
        parts.setdefault(one.item.part, []).append(one)
    sections = []
    for part, own in parts.items():
        entries = [
            Entry(
                number=one.item.number,
                asks=one.item.asks,
                state=one.state,
                text=one.answer.text if one.answer else "",
                rest=f"For the authors: {one.authors}." if one.authors else "",
                link=Link("in the report", f"{REPORT}#{one.answer.anchor}") if one.answer else None,
            )
            for one in own
        ]
        sections.append(Section(re.sub(r"\W+", "-", part.lower()), part, [Entries(entries)]))
    return sections


def _write_latex(checklist: Checklist, items: tuple[Answered, ...], name: str) -> str:
    environment = make_environment()
    # No line ends inside a number.
    inside = re.compile(r"(?<=\d)([.,])\\allowbreak\{\}(?=\d)")
    environment.filters["whole"] = lambda text: Latex(inside.sub(r"\1", escape_latex(text)))
    template = environment.get_template("checklist.tex")
    return template.render(checklist=checklist, items=items, states=STATES, name=name, report=REPORT)
