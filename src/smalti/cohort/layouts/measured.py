"""Which columns of numbers were measured in the slide; the others are labels, folds, places, or facts of the patient.

A column that holds the label in other signs would make every score perfect and every model useless.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..tables.columns import read_words

LEAST_FEATURES = 2
FAMILY_SIZE, FAMILY_FRAC = 8, 0.8  # columns called alike, such as f0, f1, ...; where most are, the others are none
ID_WORDS = frozenset({"id", "ids", "idx", "index", "barcode", "uuid", "key", "nr", "no", "pid"})
# Of splits, labels, predictions, patients, and what became of them.
UNSEEN_WORDS = frozenset(
    {"fold", "folds", "kfold", "cv", "split", "seed", "label", "labels", "target", "targets", "diagnosis", "subtype",
     "outcome", "truth", "true", "pred", "preds", "predicted", "prediction", "predictions", "prob", "probs", "proba",
     "probability", "probabilities", "logit", "logits", "softmax", "sigmoid", "age", "sex", "gender", "bmi", "year",
     "years", "month", "months", "day", "days", "stage", "grade", "gleason", "survival", "os", "pfs", "dfs", "rfs",
     "event", "death", "dead", "followup"}
)  # fmt: skip
FILLERS = frozenset({"at", "of", "in", "to", "the"})
FEW = 8  # columns of numbers; fewer may as well be ages and sizes, so it is asked
MOST_WORDS = 3  # longer names describe what was measured
PLACE_WORDS = frozenset({"x", "y", "coord", "coords", "coordinate", "row", "col", "tile", "patch", "pos", "level"})
CLASS_WORDS = frozenset({"class", "code", "num", "number", "encoded", "int"})
MOST_CODES, CODE_ROWS = 20, 3  # values of a column that stands for the label, and rows of each on average
PROBED_ROWS = 1000
TELLING = 0.99  # area under the curve of one column alone that is said


@dataclass(frozen=True, slots=True)
class Measured:
    """Columns of features.

    Attributes:
        names: of them.
        sure: whether they are a family, called alike.
        notes: what has to be looked at, for people.
    """

    names: list[str]
    sure: bool
    notes: list[str]


def find_families(names: Sequence[str]) -> list[str]:
    """Return the columns that are called alike but for a number at their end, where that is most of them; else none."""
    families = Counter(_stem(name) for name in names if name != _stem(name))
    kept = [name for name in names if name != _stem(name) and families[_stem(name)] >= FAMILY_SIZE]
    return kept if kept and len(kept) >= FAMILY_FRAC * len(names) else []


def choose_measured(numbers: pd.DataFrame, labels: Sequence[str]) -> Measured:
    """Return the columns that are features, as far as names and values tell.

    Args:
        numbers: columns of numbers.
        labels: of the rows; empty where there is none.
    """
    names = [str(name) for name in numbers.columns]
    notes = []
    # Of thousands of columns most have many values with fractions, and are neither codes nor flags.
    probed = np.sort(numbers.iloc[:PROBED_ROWS].to_numpy(np.float64, na_value=np.nan), axis=0)
    few = (np.diff(probed, axis=0) > 0).sum(axis=0) < MOST_CODES
    whole = (np.isnan(probed) | (probed == np.round(probed))).all(axis=0)
    simple = {name for name, one in zip(names, few | whole, strict=True) if one}
    if copies := [name for name in names if name in simple and _stands_for(numbers[name], labels)]:
        listed = ", ".join(f"'{name}'" for name in copies[:6])
        notes.append(f"features: {listed} say(s) the label of each row in other signs, and is no feature")
    rest = [name for name in names if name not in set(copies) and not _is_unseen(name)]
    flags = {name for name in rest if name in simple and _is_flag(name, numbers[name])}
    families = Counter(_stem(name) for name in rest if name != _stem(name))
    open_ = Counter(_stem(name) for name in rest if name != _stem(name) and name not in flags)
    # Flags in a family of numbers belong to it; a family of flags is one column of classes in another form.
    large = {stem for stem, count in families.items() if count >= FAMILY_SIZE and open_[stem]}
    kept = [name for name in rest if name not in flags or (_stem(name) in large and name != _stem(name))]
    if len(kept) < LEAST_FEATURES:
        kept = find_families(rest)
    if len(kept) < LEAST_FEATURES:  # few enough that it is asked whether ages and the like are meant
        kept = [name for name in names if name not in set(copies) and not _is_flag(name, numbers[name])][: FEW - 1]
    if family := find_families(kept):
        return Measured(family, sure=True, notes=notes)
    telling = _find_telling(numbers[kept], labels)
    notes += [f"features: '{name}' alone tells a class (area under the curve {auc:.2f}): if it was not measured in the "
              f"slide, leave it out: --set 'data.features=[\"!{name}\"]'" for name, auc in telling[:6]]  # fmt: skip
    return Measured(kept, sure=False, notes=notes)


def _stem(name: str) -> str:
    return re.sub(r"[0-9]+$", "", name)


def _is_unseen(name: str) -> bool:
    """Return whether a name is of no measurement of the slide."""
    words = [word for word in read_words(name) if word not in FILLERS]
    letters = {word for word in words if not word.isdigit()}
    if letters & UNSEEN_WORDS and len(letters) <= MOST_WORDS:
        return True
    return bool(letters) and len(letters) == len(words) and (letters <= PLACE_WORDS or letters <= CLASS_WORDS)


def _is_flag(name: str, values: pd.Series[float]) -> bool:
    """Return whether a column measures nothing: it has two values at most, or it counts or names the rows."""
    known = values.dropna()
    if known.nunique() <= 2:
        return True
    whole = bool((known == known.round()).all()) and known.is_unique
    words = read_words(name)
    return whole and (bool(known.diff().dropna().eq(1).all()) or (len(words) <= 3 and bool(ID_WORDS & set(words))))


def _stands_for(values: pd.Series[float], labels: Sequence[str]) -> bool:
    """Return whether a column has few values, each of which is found with one label only."""
    if not labels or not 2 <= values[:PROBED_ROWS].nunique() <= MOST_CODES:
        return False
    pairs = pd.DataFrame({"value": values.to_numpy(), "label": list(labels)})
    pairs = pairs[pairs["label"] != ""].dropna()
    each = pairs.groupby("value")["label"].nunique()
    few = 2 <= len(each) <= MOST_CODES and len(each) * CODE_ROWS <= len(pairs)
    return few and bool((each == 1).all()) and pairs["label"].nunique() > 1


def _find_telling(numbers: pd.DataFrame, labels: Sequence[str]) -> list[tuple[str, float]]:
    """Return columns that alone tell a class from the others, with the area under the curve."""
    texts = np.array(labels, dtype=str)
    classes = sorted(set(labels) - {""})
    if len(classes) < 2 or numbers.empty:
        return []
    known = texts != ""
    ranks, texts = numbers[known].rank().to_numpy(), texts[known]
    best = np.zeros(ranks.shape[1])
    for name in classes:
        own = texts == name
        count, others = int(own.sum()), int((~own).sum())
        area = (ranks[own].sum(axis=0) - count * (count + 1) / 2) / max(1, count * others)
        best = np.fmax(best, np.fmax(area, 1 - area) if count >= 5 and others >= 5 else 0.0)
    return [(str(name), float(auc)) for name, auc in zip(numbers.columns, best, strict=True) if auc >= TELLING]
