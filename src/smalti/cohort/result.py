"""The result of reading a layout, as the checks get it: candidates for samples, problems, notes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ..errors import Problem, show_text
from ..features import FeatureFile
from ..types import FeatureSpec, Form, Level, Sample

SPECIAL = re.compile(r"""[][{},:#&*!|>'"%@`\\]|\t|^[\s?-]|\s$|^$|^(?i:null|~)$""")  # more than text in YAML


@dataclass(frozen=True, slots=True)
class Columns:
    """Names in the table of a data folder, or its levels of folders; None guesses and notes the guess.

    Attributes:
        table: CSV file, relative to the data folder.
        image: column with the image file.
        label: column with the label.
        mask: column with the mask file.
        case: column with the case (patient, slide).
        part: column that says which rows are the test part.
        site: column with the site (hospital, scanner, batch); ``none`` where there are no sites.
        subgroups: columns whose values are kept, to score each of them.
        levels: what each level of folders is, from the top; of tables one of cases alone is read.
        sheet: sheet of a spreadsheet.
        class_columns: columns of 0 and 1, one per class, in the place of ``label``.
        real_labels: labels that are classes although they read like a missing value, such as NA.
        submission: the sample submission, relative to the data folder; ``none`` where no submission is wanted.
        asked: columns of the sample submission that are filled.
        answers: whether it is filled with labels or with probabilities.
        positive: the class whose probability a single column holds.
        written: how the submission writes each class, as ``CLASS=TEXT``; names of columns, or labels.
        bits: bits in use of 16-bit values whose file does not say, or ``each`` for each file by its largest value.
        mask_values: stored values that are mask, numbers or colours ``#rrggbb``; empty for all but 0.
        mask_inverted: whether masks mark what is not mask; None asks the tissue where there is doubt.
        mask_exif: whether masks without an EXIF orientation were drawn on the ``stored`` or on the ``turned`` pixels of
            images that have one; None asks their sizes and the tissue.
        mask_fit: what is done with masks of another size than their images; None refuses them.
        features: folder of the files of features, or columns of a table of features (``*`` stands for any text);
            ``none`` where pictures are to be read.
    """

    table: str | None = None
    image: str | None = None
    label: str | None = None
    mask: str | None = None
    case: str | None = None
    part: str | None = None
    site: str | None = None
    subgroups: tuple[str, ...] = ()
    levels: tuple[Level, ...] | None = None
    sheet: str | None = None
    class_columns: tuple[str, ...] = ()
    real_labels: tuple[str, ...] = ()
    submission: str | None = None
    asked: tuple[str, ...] | None = None
    answers: Literal["labels", "probabilities"] | None = None
    positive: str | None = None
    written: tuple[str, ...] = ()
    bits: int | Literal["each"] | None = None
    mask_values: tuple[int | str, ...] = ()
    mask_inverted: bool | None = None
    mask_exif: Literal["stored", "turned"] | None = None
    mask_fit: Literal["pad", "stretch"] | None = None
    features: str | tuple[str, ...] | None = None

    @property
    def has_labels(self) -> bool:
        """Return whether a column of labels, or several of classes, are known."""
        return self.label is not None or bool(self.class_columns)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample before it is checked.

    Attributes:
        sample: as it would enter the cohort.
        where: the file or table row it comes from, for messages.
        test: True in the part to predict; elsewhere a missing label is a problem.
        part: what the part column says, for messages.
        label_text: what the cell of the label says.
    """

    sample: Sample
    where: str
    test: bool = False
    part: str = ""
    label_text: str = ""


@dataclass(slots=True)
class LayoutResult:
    """Everything that was found in a data folder, good and bad; a layout fills it.

    Attributes:
        tables: the tables that count.
        passed: pictures that the layout passes over, with the kind under which they are told.
        site_source: where sites were read, for people; empty where nothing says them.
        lacking: image that a table of cases names and the folder lacks -> the row.
        features: what the features are, where samples have no pixels.
        bags: of a folder of feature files, name -> the opened file.
    """

    layout: str
    candidates: list[Candidate] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)
    passed: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    submission_columns: tuple[str, str] = ("sample_index", "label")
    form: Form | None = None
    no_submission: str = ""
    site_source: str = ""
    lacking: dict[str, str] = field(default_factory=dict)
    features: FeatureSpec | None = None
    bags: dict[str, FeatureFile] = field(default_factory=dict)
    _by_name: dict[str, Candidate] = field(default_factory=dict)

    def add(self, candidate: Candidate) -> None:
        """Take a candidate; a second one of the same image is a problem."""
        name = candidate.sample.image
        first = self._by_name.setdefault(name, candidate)
        if first is candidate:
            self.candidates.append(candidate)
            return
        message = f"'{name}' is listed twice; the other is {first.where}."
        for what in ("case", "label"):
            one, two = getattr(first.sample, what), getattr(candidate.sample, what)
            if one != two:
                message = f"'{name}' is listed twice and contradicts {first.where}: {what} '{two}', not '{one}'."
        fix = "delete all rows of this image but the right one"
        self.report("repeated-row", candidate.where, message=message, fix=fix, images=(name,))

    def report(
        self, code: str, file: str, *, message: str, fix: str, images: tuple[str, ...] = (), warning: bool = False
    ) -> None:
        """Record a problem."""
        self.problems.append(Problem(code, file, message, fix, images, warning))


def report_escape(result: LayoutResult, where: str, *, text: str, image: str | None = None, near: str = "") -> None:
    """Record a path that leaves the data folder; ``image`` says whose mask it names, ``near`` what it does not mean."""
    result.report(
        "path-escape",
        where,
        message=f"{text!r} leaves the data folder{near}.",
        fix="copy the file there and write its path relative to the folder",
        images=(image or show_text(text),),
    )


def format_setting(knob: str, value: str | list[str]) -> str:
    """Return the option that answers a question, quoted for YAML and for a shell; ``knob`` is a name in `Columns`."""
    values = [value] if isinstance(value, str) else value
    texts = [json.dumps(text, ensure_ascii=False) if SPECIAL.search(text) else text for text in values]
    listed = texts[0] if isinstance(value, str) else f"[{', '.join(texts)}]"
    return "--set " + shlex.quote(f"data.{knob}={listed}")


def list_names(names: Iterable[str]) -> str:
    """Return names for a message; a long list is cut."""
    quoted = [f"'{name}'" for name in names]
    return ", ".join(quoted[:12]) + (f" and {len(quoted) - 12} more" if len(quoted) > 12 else "")
