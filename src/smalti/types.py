"""Frozen records that flow between stages, and the column names of every table.

Letters used for shapes everywhere: B batch, N tiles in a bag, D features, C classes, H W height and width.
Positions are (row_px, col_px); sizes are (height_px, width_px).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["info", "warning", "error"]
Action = Literal["keep", "exclude", "relabel", "repair", "reset"]  # reset: undecided again
Role = Literal["train", "inner", "outer"]
Sampling = Literal["shuffled", "balanced", "cases", "balanced_cases"]  # how images are drawn in an epoch
Outside = Literal["keep", "blank", "blur"]  # what becomes of pixels outside the mask
Level = Literal["part", "class", "case", "site", "ignore"]  # what one level of folders says

SAMPLE_COLUMNS = ("image", "mask", "label", "case", "part", "index", "repair")
SITE_COLUMN = "site"  # of the samples table, where the data says sites
SUBGROUP_PREFIX = "subgroup_"  # of columns of the samples table that `data.subgroups` names
PREDICTION_COLUMNS = ("image", "case", "fold", "seed", "label")
SCORE_PREFIX = "score_"
FOLD_COLUMNS = ("seed", "fold", "image", "case", "label", "role")
HISTORY_COLUMNS = (
    "seed",
    "fold",
    "phase",
    "epoch",
    "lr",
    "train_loss",
    "inner_loss",
    "inner_macro_f1",
    "seconds",
)
DECISION_COLUMNS = ("image", "action", "label", "reason", "who", "when", "finding", "entry", "content", "folder")


def score_columns(classes: tuple[str, ...]) -> list[str]:
    """Names of the score columns of a prediction table, in class order."""
    return [f"{SCORE_PREFIX}{name}" for name in classes]


@dataclass(frozen=True, slots=True)
class Repair:
    """What is done to an image when tiles are cut from it; its file stays as it is.

    Attributes:
        outline: polygons of (row_px, col_px) in the full image; what they enclose gets the colour of the tissue
            around and is taken off the mask.
        recut: whether the mask is cut to where tissue is.
    """

    outline: tuple[tuple[tuple[float, float], ...], ...] = ()
    recut: bool = False


@dataclass(frozen=True, slots=True)
class MaskReading:
    """How the files of a mask become 0 and 1; see `smalti.images.read_mask`.

    Attributes:
        more: further files of the same mask, united with the first.
        values: stored values that are mask: numbers, or colours ``#rrggbb``; empty: the rule, all but 0.
        inverted: whether what is marked is the ground, and the rest is mask.
        orientation: EXIF orientation that its stored pixels are turned by, in place of the file's own; None for that.
        fit: how it is brought to ``size_px``: missing rows and columns are no mask (``pad``), or it is stretched.
        size_px: (height, width) of its image; None where it has that size already.
    """

    more: tuple[Path, ...] = ()
    values: tuple[int | str, ...] = ()
    inverted: bool = False
    orientation: int | None = None
    fit: Literal["pad", "stretch"] | None = None
    size_px: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a cohort; one row of the samples table.

    Attributes:
        image: name within the cohort, the POSIX path relative to the data folder; unique.
        path: where the pixels are.
        mask_path: where the mask is, or the first file of it; None when there is none.
        label: the given class; None in the unlabelled part.
        case: what must never straddle two folds (patient, slide, duplicate group).
        index: how a submission names the image.
        repair: what is done to its pixels and its mask; None for nothing.
        foreign_mask: whether the mask is another image's, stretched to the size of this one.
        bits: how many bits of its 16-bit values are in use, where its file does not say; None for other files.
        mask_reading: how the mask is read.
        site: where the case comes from (hospital, scanner, batch); empty where that is not known.
        subgroups: (column, value) of each column that scores are also asked for by.
        bag: of a table of features, the rows that are its tiles; None where ``path`` is all its own.
    """

    image: str
    path: Path
    mask_path: Path | None
    label: str | None
    case: str
    index: str
    repair: Repair | None = None
    foreign_mask: bool = False
    bits: int | None = None
    mask_reading: MaskReading = MaskReading()
    site: str = ""
    subgroups: tuple[tuple[str, str], ...] = ()
    bag: tuple[int, ...] | None = None

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """All files of the mask."""
        return () if self.mask_path is None else (self.mask_path, *self.mask_reading.more)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of the image, then those of the mask."""
        return (self.path, *self.mask_files)


@dataclass(frozen=True, slots=True)
class FormRow:
    """One row of a submission before it is filled.

    Attributes:
        cells: as they stand in the sample, quotes and spaces included.
        end: what ends the line; empty where the file ends without a line break.
        images: whose answer the row gets: one image, or those of a case; none where no image is there.
    """

    cells: tuple[str, ...]
    end: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """A submission before it is filled: the sample submission to the letter, and what is asked for in its columns.

    Attributes:
        file: the sample; empty where none is there and the form was derived from the table of labels.
        head: the text above the rows: byte order mark, header, line break.
        header: names of the columns.
        rows: in the order of the sample.
        delimiter: between the cells.
        key: position of the column that names an image or a case.
        labels: position of a column -> class -> how the column writes it.
        scores: position of a column -> the class whose probability it holds.
        comma: whether numbers have a decimal comma.
    """

    file: str
    head: str
    header: tuple[str, ...]
    rows: tuple[FormRow, ...]
    delimiter: str = ","
    key: int = 0
    labels: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    scores: Mapping[int, str] = field(default_factory=dict)
    comma: bool = False


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """What the features of a cohort are that has no pixels.

    Attributes:
        size: D, numbers of a tile.
        encoder: what made them; empty where nothing says it.
        columns: of a table of features, in the order of the numbers; empty for files.
        delimiter: between the cells of that table.
        several_tiles: whether any bag has more than one tile.
        most_tiles: of the largest bag.
        placed: whether tiles have coordinates.
    """

    size: int
    encoder: str = ""
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    several_tiles: bool = True
    most_tiles: int = 1
    placed: bool = False


@dataclass(frozen=True, slots=True)
class Cohort:
    """A data folder, read and found usable.

    Attributes:
        root: the data folder.
        layout: ``challenge``, ``table`` or ``class-folders``.
        features: of a cohort of features without pixels; None where images are pictures.
        labelled: samples with a label.
        unlabelled: samples to predict, in the order of the sample submission.
        classes: the sorted label names; score columns follow this order.
        notes: what was guessed or converted, for people to read.
        form: the submission that is asked for; None where none will be written.
        no_submission: why none will be written; empty where one will.
        sealed: samples whose label no run sees; scored like the unlabelled ones.
    """

    root: Path
    layout: str
    labelled: tuple[Sample, ...]
    unlabelled: tuple[Sample, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    form: Form | None = None
    no_submission: str = ""
    sealed: tuple[Sample, ...] = ()
    features: FeatureSpec | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Labelled, then unlabelled, then sealed samples."""
        return self.labelled + self.unlabelled + self.sealed

    @property
    def targets(self) -> NDArray[np.int64]:
        """Class index of each labelled sample, (n,)."""
        position = {name: i for i, name in enumerate(self.classes)}
        return np.array([position[s.label] for s in self.labelled if s.label is not None], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a backbone expects of its input; travels with it.

    Attributes:
        size_px: side of the images that it was trained on.
        fixed: True where it refuses other sizes, so that tiles are resized.
        mean, std: normalisation of RGB in 0..1.
    """

    size_px: int
    fixed: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem that the audit saw. It never acts; see `Decision`.

    Attributes:
        code: name of the check, for example ``near-duplicate``.
        severity: ``info``, ``warning`` or ``error``.
        images: the images concerned, the one the proposal acts on first.
        score: strength of the evidence, larger is worse; its meaning is the check's.
        message: one sentence for people.
        proposal: the action proposed for ``images[0]``.
        evidence: numbers behind the message.
        blind: the same finding without any label in it; None where it tells no label. Not written to files.
    """

    code: str
    severity: Severity
    images: tuple[str, ...]
    score: float
    message: str
    proposal: Action = "keep"
    evidence: dict[str, Any] = field(default_factory=dict)
    blind: Finding | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person or a rule said about an image; a row of ``decisions.csv``.

    Attributes:
        image: what it is about.
        action: what is done; ``reset`` takes back all earlier rows of the image.
        reason: for people to read.
        who: the person, or the rule.
        when: ISO 8601.
        finding: code of the finding that was answered; may be empty.
        label: the new class of ``relabel``.
        entry: names the one act of the review page that wrote the row, so that no act is written twice; rows of a bulk
            action share it.
        content: hash of the bytes of the image that was decided about; empty in a row that was written by hand.
        folder: the data folder in which it was decided; empty where ``content`` is.
    """

    image: str
    action: Action
    reason: str
    who: str
    when: str
    finding: str = ""
    label: str = ""
    entry: str = ""
    content: str = ""
    folder: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What an image is, whatever its name.

    Attributes:
        file: hash of the bytes of its file.
        pixels: hash of the decoded pixels; empty where they were not looked at.
    """

    file: str
    pixels: str = ""


@dataclass(frozen=True, slots=True)
class Split:
    """One outer fold of one seed, as positions into ``Cohort.labelled``.

    ``train`` learns, ``inner`` chooses (early stopping, best epoch), ``outer`` only scores.
    """

    seed: int
    fold: int
    train: NDArray[np.int64]
    inner: NDArray[np.int64]
    outer: NDArray[np.int64]

    @property
    def name(self) -> str:
        """File stem of everything that belongs to this fold and seed."""
        return f"fold{self.fold}-seed{self.seed}"
