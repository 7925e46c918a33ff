"""The content that a sample submission asks for: columns, labels or probabilities, and the spelling of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...errors import Problem
from ...types import Form
from ..result import Columns, format_setting, list_names
from ..tables.spelling import NUMBER, WHOLE, find_spelling, match_classes, plain_class, read_number
from ..tables.table import CASE_NAMES, IMAGE_NAMES, LABEL_NAMES, MASK_NAMES, PART_NAMES, plain_name
from .sample import WAY_OUT, read_cell

# Columns that are filled, and columns that are left as they stand; names as `plain_name` makes them.
ANSWER_NAMES = frozenset({
    *LABEL_NAMES, "answer", "expected", "outcome", "output", "pred", "predicted", "predicted_class", "predicted_label",
    "prediction", "predictions", "prob", "probability", "proba", "result", "score", "value",
})  # fmt: skip
KEPT_NAMES = frozenset({
    *CASE_NAMES, *IMAGE_NAMES, *MASK_NAMES, *PART_NAMES, "usage", "fold", "confidence", "comment", "comments", "height",
    "width", "site", "center", "centre", "hospital", "row_id", "index",
})  # fmt: skip
EMPTY = frozenset({"", "nan", "null", "none", "na", "n/a", "?"})
POSITIVE = {"1": "0", "true": "false", "yes": "no", "positive": "negative", "pos": "neg"}  # beside the other class
SHOWN = 12


class _UnclearError(Exception):
    """Something about a form that only a person can say."""

    def __init__(self, code: str, message: str, *, fix: str, where: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.fix, self.where = code, message, fix, where


@dataclass(slots=True)
class _Asking:
    """One form, the classes, what a person said about it, and notes of what was guessed."""

    form: Form
    classes: tuple[str, ...]
    columns: Columns
    label_column: str
    notes: list[str] = field(default_factory=list)

    @property
    def listed(self) -> str:
        """Return the classes, for messages."""
        return list_names(self.classes)

    def read_column(self, position: int) -> list[str]:
        """Return the values of a column; empty where they say nothing."""
        texts = (read_cell(row.cells[position]) for row in self.form.rows)
        return ["" if text.lower() in EMPTY and text not in self.classes else text for text in texts]

    def see(self, position: int) -> set[str]:
        """Return the different values of a column."""
        return set(self.read_column(position)) - {""}

    def is_answer(self, position: int) -> bool:
        """Return whether a column is named as columns to be filled usually are, or as the column of labels."""
        name = self.form.header[position]
        return name in (self.label_column, self.columns.label) or plain_name(name) in ANSWER_NAMES


def ask_columns(
    form: Form, classes: tuple[str, ...], *, columns: Columns, label_column: str
) -> tuple[Form, list[str], list[Problem]]:
    """Return the form with what belongs into its columns, notes of what was guessed, and what has to be asked.

    Args:
        form: rows are linked to images already.
        classes: of the cohort.
        columns: what a person says.
        label_column: name of the column of labels in the table of labels.
    """
    if not form.file:
        return replace(form, labels={len(form.header) - 1: {name: name for name in classes}}), [], []
    asking = _Asking(form, classes, columns, label_column)
    try:
        filled = _fill_columns(asking)
    except _UnclearError as error:
        return form, [], [Problem(error.code, form.file + error.where, error.message, f"{error.fix}; {WAY_OUT}")]
    kept = [name for i, name in enumerate(form.header) if i not in {form.key, *filled.labels, *filled.scores}]
    if kept:
        asking.notes.append(
            f"{list_names(kept)} stay as they stand (--set data.asked=[COLUMN,...] says what is filled)"
        )
    return filled, [f"{form.file}: {note}" for note in asking.notes], []


def _fill_columns(asking: _Asking) -> Form:
    """Return the form with its columns settled: one per class, or a single one."""
    header, asked = asking.form.header, asking.columns.asked
    others = [i for i in range(len(header)) if i != asking.form.key]
    # What a person says about the classes has to be about classes.
    positive, words = asking.columns.positive, _read_words(asking)
    if positive is not None and _find_class(asking, positive) is None:
        raise _UnclearError("class-unknown", f"data.positive={positive} is no class; known: {asking.listed}.",
                            fix="name one of them")  # fmt: skip
    if words and (set(words) != set(asking.classes) or len(set(words.values())) < len(words)):
        raise _UnclearError("class-unknown", f"data.written has to give each class a text of its own: {asking.listed}.",
                            fix="--set data.written=[CLASS=TEXT,...]")  # fmt: skip
    if asked is not None:
        missing = [name for name in asked if name not in [header[i] for i in others]]
        if missing or not asked:
            message = f"has no column {list_names(missing)} to fill, but {list_names(header)}."
            raise _UnclearError("column-missing", message, fix="name the right ones: --set data.asked=[COLUMN,...]")
        others = [header.index(name) for name in asked]
    # Columns that are named after a class, or are said to be.
    names = {header[i]: i for i in others}
    matched = {names[text]: name for name, text in words.items() if text in names}
    matched = matched or {names[column]: name for column, name in match_classes(names, asking.classes).items()}
    if len(matched) >= 2:
        return _fill_classes(asking, matched, [i for i in others if i not in matched])
    column = others[0] if len(others) == 1 else _choose_column(asking, others, matched)
    return _fill_column(asking, column, matched.get(column))


def _find_class(asking: _Asking, text: str) -> str | None:
    """Return the class that a person names: to the letter, or without what spelling adds."""
    same = [name for name in asking.classes if plain_class(name) == plain_class(text)]
    return text if text in asking.classes else same[0] if len(same) == 1 else None


def _read_words(asking: _Asking) -> dict[str, str]:
    """Return the spelling of each class in the submission, as a person says it: class -> text."""
    pairs = (text.rpartition("=") for text in asking.columns.written)
    return {_find_class(asking, name.strip()) or name: text.strip() for name, _, text in pairs}


# --- one column per class -----------------------------------------------------------------------------------------


def _is_kept(column: str) -> bool:
    """Return whether a column stays as it stands by its name; libraries number the columns and rows that have none."""
    return plain_name(column) in KEPT_NAMES or not column or column.startswith("Unnamed: ")


def _may_be_asked(asking: _Asking, position: int) -> bool:
    """Return whether a column may have to be filled: its name is not known, and it is empty or holds shares."""
    seen = asking.see(position)
    if _is_kept(asking.form.header[position]) or not all(map(NUMBER.fullmatch, seen)):
        return False
    return len(seen) < 2 or all(0 <= read_number(text) <= 1 for text in seen)


def _fill_classes(asking: _Asking, matched: Mapping[int, str], others: list[int]) -> Form:
    """Return the form with one column per class: probabilities, or 1 for the class that is said and 0 for the others.

    Args:
        asking: the form and what a person said.
        matched: column -> class.
        others: columns of no class; those that hold labels get the class that is said.
    """
    form, answers, header = asking.form, asking.columns.answers, asking.form.header
    labelled = []
    for i in others:
        column = asking.see(i)
        numbers = sum(NUMBER.fullmatch(text) is not None for text in column)
        whole = sum(WHOLE.fullmatch(text) is not None for text in column)
        if asking.is_answer(i):
            labelled += [i] if numbers == whole else []
        elif column and numbers < len(column) and find_spelling(column, asking.classes):
            labelled.append(i)
    lacking = [name for name in asking.classes if name not in matched.values()]
    rest = [i for i in others if i not in labelled] if asking.columns.asked is None else []
    strange = [header[i] for i in rest if _may_be_asked(asking, i)]
    if lacking or strange:
        parts = [f"the class '{name}' has no column" for name in lacking]
        parts += [f"the column '{name}' is called after no class" for name in strange]
        fix = f"to leave {list_names(strange)} as it stands: {format_setting('asked', [header[i] for i in matched])}"
        if lacking:
            fix = "correct the labels, or name the column of every class: --set data.written=[CLASS=COLUMN,...]"
        raise _UnclearError("submission-classes", f"{'; '.join(parts)} (classes: {asking.listed}).", fix=fix)
    texts = {i: asking.read_column(i) for i in matched}
    seen = {text for column in texts.values() for text in column} - {""}
    _check_numbers(asking, seen, where="")
    one_hot = seen == {"0", "1"} and all(sorted(row)[-2:] == ["0", "1"] for row in zip(*texts.values(), strict=True))
    if answers is None and one_hot:
        raise _UnclearError("submission-answers", "has a column per class, with 1 in one of them and 0 in the others: "
                            "are these labels, or do probabilities stand there?",
                            fix="--set data.answers=labels, or --set data.answers=probabilities")  # fmt: skip
    renamed = "".join(f"; {header[i]} is {name}" for i, name in matched.items() if header[i] != name)
    spelled = {}
    if answers == "labels":
        asking.notes.append(f"a column per class: 1 for the class that is said, 0 for the others{renamed}")
        longest = max(seen or {"1"}, key=len)
        decimals = longest[1:] if WHOLE.fullmatch(longest) else ""
        spelled = {i: {c: f"{int(c == name)}{decimals}" for c in asking.classes} for i, name in matched.items()}
        form = replace(form, labels=spelled)
    else:
        asking.notes.append(f"a column per class: probabilities{renamed}")
        form = replace(form, scores=matched, comma=any("," in text for text in seen))
    return replace(form, labels={**form.labels, **{i: _spell(asking, i) for i in labelled}})


def _check_numbers(asking: _Asking, seen: set[str], *, where: str) -> None:
    """Refuse values that are no probabilities where these are to be written."""
    words = sorted(text for text in seen if not NUMBER.fullmatch(text))
    if words:
        raise _UnclearError("submission-values", f"holds {list_names(words)} where probabilities are to be written.",
                            fix="write numbers there, or nothing", where=where)  # fmt: skip
    far = sorted(text for text in seen if not 0 <= read_number(text) <= 1)
    if far and asking.columns.answers is None:
        raise _UnclearError("submission-values", f"holds {list_names(far)}, and probabilities are from 0 to 1.",
                            fix="--set data.answers=probabilities, if these are asked for", where=where)  # fmt: skip


# --- one column ---------------------------------------------------------------------------------------------------


def _choose_column(asking: _Asking, others: list[int], matched: Mapping[int, str]) -> int:
    """Return the one column that is asked for: by its name, by its values, or because the others are kept."""
    header, classes = asking.form.header, asking.classes
    open_ = [i for i in others if not _is_kept(header[i])] or others
    named = [i for i in open_ if asking.is_answer(i)]
    labelled = [i for i in named if header[i] in (asking.label_column, asking.columns.label)]
    valued = [i for i in open_ if (seen := asking.see(i)) and find_spelling(seen, classes)]
    for found in (list(matched), labelled, named, valued, open_):
        if len(found) == 1 and not any(_may_be_asked(asking, i) for i in open_ if i not in found):
            return found[0]
    names = [header[i] for i in others]
    fix = f"name them: {format_setting('asked', names[-1:])}, or the column of every class: "
    raise _UnclearError("submission-columns", f"does not say which of its columns {list_names(names)} are to be "
                        f"filled; not every class has one ({asking.listed}).",
                        fix=f"{fix}--set data.written=[CLASS=COLUMN,...]")  # fmt: skip


def _fill_column(asking: _Asking, column: int, named: str | None) -> Form:
    """Return the form with labels, or the probability of one class, by what the column holds.

    ``named`` is the class in the name of the column.
    """
    form, columns, classes, seen = asking.form, asking.columns, asking.classes, asking.see(column)
    where = f" column '{form.header[column]}'"
    whole = all(map(WHOLE.fullmatch, seen))
    wanted = "probabilities" if columns.positive is not None and columns.answers is None else columns.answers
    if wanted is None and columns.written:
        wanted = "labels"
    if wanted is None and find_spelling(seen, classes):
        # 0.0 alone, or nothing under the name of a class, fits labels and may as well be a probability.
        decimals = len(seen) == 1 and whole and not any(text.lstrip("+-").isdigit() for text in seen)
        doubtful = decimals or (not seen and named is not None)
        if len(classes) > 2 or seen & set(classes) or not doubtful:
            wanted = "labels"
    if wanted == "labels":
        return replace(form, labels={column: _spell(asking, column)})
    if wanted is None and (not seen or whole or not all(map(NUMBER.fullmatch, seen))):
        raise _describe_doubt(asking, column, named=named)
    positive = named or _find_positive(classes)
    if columns.positive is not None:
        positive = _find_class(asking, columns.positive)
    if positive is None:
        message = f"holds {list_names(sorted(seen))}: the probability of which class ({asking.listed})?"
        fix = f"{format_setting('positive', classes[-1])}, or another of them"
        raise _UnclearError("submission-positive", message, fix=fix, where=where)
    _check_numbers(asking, seen, where=where)
    asking.notes.append(f"{form.header[column]} is the probability of class {positive}")
    return replace(form, scores={column: positive}, comma=any("," in text for text in seen))


def _find_positive(classes: tuple[str, ...]) -> str | None:
    """Return the class whose probability one column holds: 1 beside 0, yes beside no, positive beside negative."""
    plain = {plain_class(name): name for name in classes}
    return next((plain[yes] for yes, no in POSITIVE.items() if set(plain) == {yes, no}), None)


def _spell(asking: _Asking, column: int) -> dict[str, str]:
    """Return the spelling of each class in the column: class -> text."""
    name, seen = asking.form.header[column], asking.see(column)
    spelling = _read_words(asking) or find_spelling(seen, asking.classes)
    if not spelling:
        raise _describe_doubt(asking, column, named=None)
    if not seen:
        asking.notes.append(f"{name} is empty: labels are written as the table of labels has them")
    if changed := [f"{label} as {text}" for label, text in spelling.items() if label != text]:
        asking.notes.append(f"{name} gets the labels, {', '.join(changed[:SHOWN])}")
    if seen == {"0"} and (positive := _find_positive(asking.classes)) is not None:
        asking.notes.append(f"{name} holds 0, which is a label, so it gets labels (the probability of one: "
                            f"{format_setting('positive', positive)})")  # fmt: skip
    return spelling


def _describe_doubt(asking: _Asking, column: int, *, named: str | None) -> _UnclearError:
    """Return the question: which labels, or the probability of which class, belong into the column?"""
    classes, seen = asking.classes, sorted(asking.see(column))
    whole = bool(seen) and all(map(WHOLE.fullmatch, seen))
    texts = [str(i) for i in range(len(classes))] if whole else classes
    words = [f"{name}={text}" for name, text in zip(classes, texts, strict=True)]
    fix = f"say how each class is written, such as {format_setting('written', words)}"
    message = f"holds {list_names(seen)}, and the classes are {asking.listed}."
    if whole or not seen:
        fix += f"; or whose probability is asked for: {format_setting('positive', named or classes[-1])}"
        message = f"{message[:-1]}: labels, or the probability of a class?" if seen else (
            f"is empty: labels, or the probability of {named}?")  # fmt: skip
    return _UnclearError("submission-labels", message, fix=fix, where=f" column '{asking.form.header[column]}'")
