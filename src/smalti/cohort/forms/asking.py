"""What a sample submission asks for: which columns are filled, with labels or probabilities, and in whose words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ...errors import Problem
from ...types import Form
from ..reading import Columns, write_setting
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
        """The classes, for messages."""
        return _list(self.classes)

    def read_column(self, position: int) -> list[str]:
        """The values of a column; empty where they say nothing."""
        texts = (read_cell(row.cells[position]) for row in self.form.rows)
        return ["" if text.lower() in EMPTY and text not in self.classes else text for text in texts]

    def see(self, position: int) -> set[str]:
        """What a column holds."""
        return set(self.read_column(position)) - {""}

    def is_answer(self, position: int) -> bool:
        """Whether a column is called as what is filled usually is, or as the column of labels."""
        name = self.form.header[position]
        return name in (self.label_column, self.columns.label) or plain_name(name) in ANSWER_NAMES


def ask_columns(
    form: Form, classes: tuple[str, ...], *, columns: Columns, label_column: str
) -> tuple[Form, list[str], list[Problem]]:
    """The form with what belongs into its columns, notes of what was guessed, and what has to be asked.

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
        asking.notes.append(f"{_list(kept)} stay as they stand (--set data.asked=[COLUMN,...] says what is filled)")
    return filled, [f"{form.file}: {note}" for note in asking.notes], []


def _fill_columns(asking: _Asking) -> Form:
    header, asked = asking.form.header, asking.columns.asked
    others = [i for i in range(len(header)) if i != asking.form.key]
    _check_words(asking)
    if asked is not None:
        missing = [name for name in asked if name not in [header[i] for i in others]]
        if missing or not asked:
            raise _UnclearError("column-missing", f"has no column {_list(missing)} to fill, but {_list(header)}.",
                                fix="name the right ones: --set data.asked=[COLUMN,...]")  # fmt: skip
        others = [header.index(name) for name in asked]
    matched = _match_columns(asking, others)
    if len(matched) < 2:
        column = next(iter(others)) if len(others) == 1 else _choose_column(asking, others, matched)
        return _ask_column(asking, column, matched.get(column))
    said = [i for i in others if i not in matched and _holds_labels(asking, i)]
    _check_complete(asking, matched, [i for i in others if i not in {*matched, *said}])
    filled = _ask_classes(asking, matched)
    return replace(filled, labels={**filled.labels, **{i: _spell(asking, i) for i in said}})


def _check_words(asking: _Asking) -> None:
    """Refuse what a person says about classes that are none."""
    positive, written = asking.columns.positive, asking.columns.written
    words = _read_words(asking)
    if positive is not None and _find_class(asking, positive) is None:
        raise _UnclearError("class-unknown", f"data.positive={positive} is no class; known: {asking.listed}.",
                            fix="name one of them")  # fmt: skip
    if written and (set(words) != set(asking.classes) or len(set(words.values())) < len(words)):
        raise _UnclearError("class-unknown", f"data.written has to give each class a text of its own: {asking.listed}.",
                            fix="--set data.written=[CLASS=TEXT,...]")  # fmt: skip


def _find_class(asking: _Asking, text: str) -> str | None:
    """The class that a person names: to the letter, or without what spelling adds."""
    same = [name for name in asking.classes if plain_class(name) == plain_class(text)]
    return text if text in asking.classes else same[0] if len(same) == 1 else None


def _read_words(asking: _Asking) -> dict[str, str]:
    """Class -> how the submission writes it, as a person says."""
    pairs = (text.rpartition("=") for text in asking.columns.written)
    return {_find_class(asking, name.strip()) or name: text.strip() for name, _, text in pairs}


# --- one column per class -----------------------------------------------------------------------------------------


def _match_columns(asking: _Asking, others: list[int]) -> dict[int, str]:
    """Which columns are named after a class, or are said to be."""
    names = {asking.form.header[i]: i for i in others}
    said = {names[text]: name for name, text in _read_words(asking).items() if text in names}
    return said or {names[column]: name for column, name in match_classes(names, asking.classes).items()}


def _check_complete(asking: _Asking, matched: Mapping[int, str], rest: list[int]) -> None:
    """Refuse a class without a column, and a column that may have to be filled and is called after no class."""
    header = asking.form.header
    lacking = [name for name in asking.classes if name not in matched.values()]
    strange = [] if asking.columns.asked is not None else [header[i] for i in rest if _may_be_asked(asking, i)]
    if not lacking and not strange:
        return
    parts = [f"the class '{name}' has no column" for name in lacking]
    parts += [f"the column '{name}' is called after no class" for name in strange]
    fix = f"to leave {_list(strange)} as it stands: {write_setting('asked', [header[i] for i in matched])}"
    if lacking:
        fix = "correct the labels, or name the column of every class: --set data.written=[CLASS=COLUMN,...]"
    raise _UnclearError("submission-classes", f"{'; '.join(parts)} (classes: {asking.listed}).", fix=fix)


def _is_kept(column: str) -> bool:
    """Whether a column stays as it stands by its name; libraries number the columns and rows that have none."""
    return plain_name(column) in KEPT_NAMES or not column or column.startswith("Unnamed: ")


def _may_be_asked(asking: _Asking, position: int) -> bool:
    """Whether a column may have to be filled: it is empty, or holds one number or shares, and has no known name."""
    seen = asking.see(position)
    if _is_kept(asking.form.header[position]) or not all(map(NUMBER.fullmatch, seen)):
        return False
    return len(seen) < 2 or all(0 <= read_number(text) <= 1 for text in seen)


def _holds_labels(asking: _Asking, position: int) -> bool:
    """Whether a column beside those of the classes is for the class that is said."""
    seen = asking.see(position)
    if asking.is_answer(position):
        return all(WHOLE.fullmatch(text) or not NUMBER.fullmatch(text) for text in seen)
    return bool(seen and find_spelling(seen, asking.classes) and not all(map(NUMBER.fullmatch, seen)))


def _ask_classes(asking: _Asking, matched: Mapping[int, str]) -> Form:
    """One column per class: probabilities, or 1 for the class that is said and 0 for the others."""
    form, answers = asking.form, asking.columns.answers
    texts = {i: asking.read_column(i) for i in matched}
    seen = {text for column in texts.values() for text in column} - {""}
    _check_numbers(asking, seen, where="")
    one_hot = seen == {"0", "1"} and all(sorted(row)[-2:] == ["0", "1"] for row in zip(*texts.values(), strict=True))
    if answers is None and one_hot:
        raise _UnclearError("submission-answers", "has a column per class, with 1 in one of them and 0 in the others: "
                            "are these labels, or do probabilities stand there?",
                            fix="--set data.answers=labels, or --set data.answers=probabilities")  # fmt: skip
    renamed = "".join(f"; {form.header[i]} is {name}" for i, name in matched.items() if form.header[i] != name)
    if answers == "labels":
        asking.notes.append(f"a column per class: 1 for the class that is said, 0 for the others{renamed}")
        longest = max(seen or {"1"}, key=len)
        decimals = longest[1:] if WHOLE.fullmatch(longest) else ""
        words = {i: {c: f"{int(c == name)}{decimals}" for c in asking.classes} for i, name in matched.items()}
        return replace(form, labels=words)
    asking.notes.append(f"a column per class: probabilities{renamed}")
    return replace(form, scores=matched, comma=any("," in text for text in seen))


def _check_numbers(asking: _Asking, seen: set[str], *, where: str) -> None:
    """Refuse values that are no probabilities where these are to be written."""
    words = sorted(text for text in seen if not NUMBER.fullmatch(text))
    if words:
        raise _UnclearError("submission-values", f"holds {_list(words)} where probabilities are to be written.",
                            fix="write numbers there, or nothing", where=where)  # fmt: skip
    far = sorted(text for text in seen if not 0 <= read_number(text) <= 1)
    if far and asking.columns.answers is None:
        raise _UnclearError("submission-values", f"holds {_list(far)}, and probabilities are from 0 to 1.",
                            fix="--set data.answers=probabilities, if these are asked for", where=where)  # fmt: skip


# --- one column ---------------------------------------------------------------------------------------------------


def _choose_column(asking: _Asking, others: list[int], matched: Mapping[int, str]) -> int:
    """The one column that is asked for: by its name, by its values, or since the others have names that are kept."""
    header, classes = asking.form.header, asking.classes
    open_ = [i for i in others if not _is_kept(header[i])] or others
    named = [i for i in open_ if asking.is_answer(i)]
    labelled = [i for i in named if header[i] in (asking.label_column, asking.columns.label)]
    valued = [i for i in open_ if (seen := asking.see(i)) and find_spelling(seen, classes)]
    for found in (list(matched), labelled, named, valued, open_):
        if len(found) == 1 and not any(_may_be_asked(asking, i) for i in open_ if i not in found):
            return found[0]
    names = [header[i] for i in others]
    raise _UnclearError("submission-columns", f"does not say which of its columns {_list(names)} are to be filled; not "
                        f"every class has one ({asking.listed}).",
                        fix=f"name them: {write_setting('asked', names[-1:])}, or the column of every class: "
                        "--set data.written=[CLASS=COLUMN,...]")  # fmt: skip


def _ask_column(asking: _Asking, column: int, named: str | None) -> Form:
    """Labels, or the probability of one class, by what the column holds; ``named`` is the class in its name."""
    form, columns, seen = asking.form, asking.columns, asking.see(column)
    where = f" column '{form.header[column]}'"
    wanted = "probabilities" if columns.positive is not None and columns.answers is None else columns.answers
    if wanted is None and columns.written:
        wanted = "labels"
    if wanted is None and find_spelling(seen, asking.classes) and not _is_doubtful(asking, seen, named=named):
        wanted = "labels"
    shares = bool(seen) and all(map(NUMBER.fullmatch, seen)) and not all(map(WHOLE.fullmatch, seen))
    if wanted == "labels":
        return replace(form, labels={column: _spell(asking, column)})
    if wanted is None and not shares:
        raise _describe_doubt(asking, column, named=named)
    positive = named or _find_positive(asking.classes)
    if columns.positive is not None:
        positive = _find_class(asking, columns.positive)
    if positive is None:
        message = f"holds {_list(sorted(seen))}: the probability of which class ({asking.listed})?"
        fix = f"{write_setting('positive', asking.classes[-1])}, or another of them"
        raise _UnclearError("submission-positive", message, fix=fix, where=where)
    _check_numbers(asking, seen, where=where)
    asking.notes.append(f"{form.header[column]} is the probability of class {positive}")
    return replace(form, scores={column: positive}, comma=any("," in text for text in seen))


def _is_doubtful(asking: _Asking, seen: set[str], *, named: str | None) -> bool:
    """Whether what fits labels may as well stand for a probability: 0.0 alone, or nothing under a class's name."""
    if len(asking.classes) > 2 or seen & set(asking.classes):
        return False
    decimals = all(WHOLE.fullmatch(text) and not text.lstrip("+-").isdigit() for text in seen)
    return (len(seen) == 1 and decimals) or (not seen and named is not None)


def _find_positive(classes: tuple[str, ...]) -> str | None:
    """The class whose probability one column holds: 1 beside 0, yes beside no, positive beside negative."""
    plain = {plain_class(name): name for name in classes}
    return next((plain[yes] for yes, no in POSITIVE.items() if set(plain) == {yes, no}), None)


def _spell(asking: _Asking, column: int) -> dict[str, str]:
    """Class -> how the column writes it."""
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
                            f"{write_setting('positive', positive)})")  # fmt: skip
    return spelling


def _describe_doubt(asking: _Asking, column: int, *, named: str | None) -> _UnclearError:
    """The question which labels, or the probability of which class, a column is for."""
    classes, seen = asking.classes, sorted(asking.see(column))
    whole = bool(seen) and all(map(WHOLE.fullmatch, seen))
    texts = [str(i) for i in range(len(classes))] if whole else classes
    words = [f"{name}={text}" for name, text in zip(classes, texts, strict=True)]
    fix = f"say how each class is written, such as {write_setting('written', words)}"
    message = f"holds {_list(seen)}, and the classes are {asking.listed}."
    if whole or not seen:
        fix += f"; or whose probability is asked for: {write_setting('positive', named or classes[-1])}"
        message = f"{message[:-1]}: labels, or the probability of a class?" if seen else (
            f"is empty: labels, or the probability of {named}?")  # fmt: skip
    return _UnclearError("submission-labels", message, fix=fix, where=f" column '{asking.form.header[column]}'")


def _list(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
