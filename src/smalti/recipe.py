"""Every knob of an experiment: frozen sections, unknown keys refused, one description per field.

A recipe is a named preset, plus a YAML file or ``--set section.knob=value`` on top of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import RecipeError
from .types import Outside


def _check_option(option: str) -> str:
    if not option.partition("=")[0].isidentifier():
        raise ValueError(f"options are written name=value, not {option}")
    return option


Option = Annotated[str, AfterValidator(_check_option)]
Seed = Annotated[int, Field(ge=0, le=1_000_000)]  # derived seeds must stay below the 2**32 of NumPy


class Section(BaseModel):
    """A frozen group of knobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Data(Section):
    """How the table of a data folder is read; null guesses the name and prints the guess."""

    table: str | None = Field(None, description="CSV file in the data folder")
    image: str | None = Field(None, description="column with the image file")
    label: str | None = Field(None, description="column with the label")
    mask: str | None = Field(None, description="column with the mask file")
    case: str | None = Field(None, description="column with the case (patient, slide)")
    part: str | None = Field(None, description="column that says which rows are the test part")


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
    size_px: int | None = Field(None, gt=15, description="side of a stored tile; null takes the backbone's input size")
    mpp: float | None = Field(
        None,
        gt=0,
        description="microns per pixel of a tile, where an image says its own; null takes pixels as they are",
    )
    magnifications: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
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
    min_tiles: int = Field(4, gt=0, description="floor: the best covered places are taken so that a bag has this many")
    max_tiles: int | None = Field(
        64, gt=0, description="ceiling: an even choice of places of larger bags; null keeps all"
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
        return self


class Stain(Section):
    """What is done about differences of stain and scanner."""

    normalise: str = Field(
        "none", description="how each image is given the middle stain of the fold's training cases (smalti parts)"
    )


class Split(Section):
    """Case-grouped, stratified folds."""

    folds: int | Literal["auto"] = Field("auto", description="outer folds; auto takes the largest number up to 5")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="one repetition of all folds per seed")
    inner_frac: float = Field(
        0.2, gt=0, le=0.5, description="share of the training cases that choose epochs and never score"
    )
    sealed_frac: float = Field(
        0.0, ge=0, le=0.5, description="share of the cases that no run sees until 'smalti compare --open-seal'; 0 none"
    )

    @model_validator(mode="after")
    def _check(self) -> Split:
        if isinstance(self.folds, int) and self.folds < 2:
            raise ValueError("folds must be 2 or more, or auto")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must differ from each other")
        return self


class Model(Section):
    """The network."""

    backbone: str = Field("mobilenetv2_100", description="timm name, or hf-hub:OWNER/NAME, or local-dir:FOLDER")
    pretrained: bool = Field(True, description="take weights from the hub (timm's own download)")
    weights: Path | None = Field(None, description="weights file instead (.safetensors; .pt and .pth weights-only)")
    hub_timeout_s: float = Field(5.0, gt=0, description="give a silent hub up after this long")
    without_weights: Literal["error", "scratch"] = Field(
        "error",
        description="when the hub cannot be reached: stop, or lay the preset 'scratch' over this recipe",
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
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout before the last layer")


class Phase(Section):
    """What both phases of training have in common."""

    epochs: int = Field(60, ge=0, description="most passes over the training images; 0 leaves the phase out")
    batch_images: int = Field(32, gt=0, description="images (bags) per step")
    optimiser: str = Field("adamw", description="any optimiser that timm lists, by its own name")
    lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of the head; null: 3e-3 in transfer and 3e-4 in finetune for AdamW and its kin, for "
        "others what their papers say beside it",
    )
    rate_test: bool = Field(
        False, description="take the rate from a range test on the training images of each fold instead"
    )
    weight_decay: float | None = Field(
        None, ge=0, description="weight decay; null: 0.01 for AdamW and its kin, for others in step with their rate"
    )
    lookahead: bool = Field(False, description="slow weights around the optimiser")
    sharpness: float = Field(
        0.0, ge=0, description="radius of sharpness-aware minimisation around the optimiser; 0 leaves it out"
    )
    warmup_epochs: int = Field(0, ge=0, description="epochs in which the rate rises to its full height")
    schedule: Literal["cosine", "plateau", "onecycle", "constant"] = Field(
        "cosine", description="cosine to zero; plateau: ReduceLROnPlateau on the inner loss; onecycle; constant"
    )
    averaging: Literal["none", "ema", "swa", "soup"] = Field(
        "none",
        description="weights that are looked at: the last; their exponential mean; the mean of the second half's "
        "epochs; at the end, the mean of epochs that lowers the inner loss",
    )
    accumulate: int = Field(1, gt=0, description="batches whose gradients make one step; each is normalised by itself")
    average_decay: float = Field(0.99, gt=0, lt=1, description="decay of the exponential mean, for one step")
    patience: int = Field(15, gt=0, description="stop after so many epochs without a better inner loss")
    loss: str = Field("cross_entropy", description="what is minimised (smalti parts)")
    loss_options: tuple[Option, ...] = Field(
        (), description="what the loss takes, as name=value, for example [gamma=1]"
    )
    class_weights: Literal["balanced", "effective", "none"] = Field(
        "balanced", description="weights of the classes in the loss: by counts, by effective numbers, or none"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing of the loss")
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; null leaves gradients alone")

    @model_validator(mode="after")
    def _check_schedule(self) -> Phase:
        if self.optimiser.startswith("schedulefree") and (self.schedule, self.averaging) != ("constant", "none"):
            raise ValueError(f"{self.optimiser} wants schedule=constant and averaging=none: it averages by itself")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs > 0:
            raise ValueError("warmup_epochs must be fewer than epochs")
        return self


class Transfer(Phase):
    """The backbone is frozen; its features are computed once."""

    views: int = Field(
        1, ge=1, le=8, description="stored views of each tile: the plain one and views-1 flips and turns"
    )
    tiles_per_image: int | None = Field(
        None, gt=0, description="most tiles drawn from a bag at each step, for a pooler that learns; null takes all"
    )
    tile_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of these tiles left out at each step, for a pooler that learns"
    )
    bag_mixing: float = Field(
        0.0,
        ge=0,
        description="alpha of the shares by which two bags become one, for a pooler that learns; 0 mixes nothing",
    )


class Finetune(Phase):
    """The backbone is opened stage by stage, from the head down."""

    epochs: int = Field(12, ge=0, description="most passes over the training images; 0 leaves the phase out")
    batch_images: int = Field(8, gt=0, description="images (bags) per step")
    patience: int = Field(5, gt=0, description="stop after so many epochs without a better inner loss")
    tiles_per_image: int = Field(4, gt=0, description="tiles drawn from a bag at each step")
    bag_mixing: float = Field(
        0.0, ge=0, description="alpha of the shares by which the drawn tiles of two bags become one; 0 mixes nothing"
    )
    stages: int = Field(3, ge=1, description="equal steps in which the backbone is opened; 1 opens all at once")
    layer_decay: float = Field(0.7, gt=0, le=1, description="rate of a layer group relative to the one above it")
    augmentation: str = Field("flips_colour", description="augmentation of the tiles (smalti parts)")
    strength_start: float = Field(0.2, ge=0, le=1, description="strength at the first epoch, 0 none to 1 strong")
    strength_end: float = Field(0.6, ge=0, le=1, description="strength at the last epoch")


class Train(Section):
    """How the network learns."""

    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="where to compute")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field("auto", description="number format")
    refit: bool = Field(
        True, description="learn once more from training and inner cases together, with the rates and epochs chosen"
    )
    watch: Literal["transfer", "all", "none"] = Field(
        "transfer",
        description="phases in which the held-out images are scored after each epoch, for the audit after training; "
        "they teach and choose nothing (all: one more forward of the held-out fold per epoch of finetune)",
    )
    transfer: Transfer = Transfer()
    finetune: Finetune = Finetune()


class Predict(Section):
    """From trained networks to scores and classes; a change here trains nothing again."""

    views: int = Field(1, ge=1, le=8, description="mean over so many flips and turns of every tile (8: all of them)")
    calibration: str = Field(
        "none", description="how scores become probabilities, fitted on inner images (smalti parts)"
    )
    decision: str = Field("largest", description="which class is said, fitted on inner images (smalti parts)")


class Ensemble(Section):
    """Other runs on the same folds, instead of networks of its own."""

    members: tuple[str, ...] = Field(
        (), description="finished runs beside this one, with their own rules applied; empty: train networks"
    )
    method: str = Field("average", description="how the scores of the members become one (smalti parts)")


class Evaluate(Section):
    """How sure the score is."""

    resamples: int = Field(2000, ge=100, description="bootstrap resamples of the cases")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="confidence of the intervals")


class Recipe(Section):
    """Everything that defines one experiment; one YAML file."""

    preset: str = Field("default", description="the preset that the recipe started from")
    data: Data = Data()
    audit: Audit = Audit()
    tile: Tile = Tile()
    stain: Stain = Stain()
    split: Split = Split()
    model: Model = Model()
    train: Train = Train()
    predict: Predict = Predict()
    ensemble: Ensemble = Ensemble()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.train.transfer.epochs == 0 and self.train.finetune.epochs == 0:
            raise ValueError("train.transfer.epochs and train.finetune.epochs are both 0: nothing would be learned")
        if self.model.fusion is not None and (self.train.transfer.bag_mixing or self.train.finetune.bag_mixing):
            raise ValueError("bag_mixing makes one bag of two images, and model.fusion reads the mask of one: drop one")
        if self.model.mask_channel and self.train.finetune.epochs == 0:
            raise ValueError(
                "model.mask_channel learns in finetune only, and train.finetune.epochs is 0: it would do nothing. "
                "Fix: train.finetune.epochs above 0, or model.mask_channel=false"
            )
        return self

    def to_yaml(self) -> str:
        """The resolved recipe as YAML; `load_recipe` reads it back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def list_presets() -> tuple[str, ...]:
    """Names of the presets that ship with smalti (overlays excluded)."""
    folder = resources.files("smalti") / "presets"
    names = (Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".yaml"))
    return tuple(sorted(n for n in names if n != "scratch"))


def load_recipe(
    source: str | Path = "default", *, settings: Iterable[str] = (), overlays: Iterable[str] = ()
) -> Recipe:
    """Read a preset by name or a recipe file, then lay overlays and ``section.knob=value`` settings over it.

    A recipe file may name the ``preset`` that it starts from and give only what differs.

    Raises:
        RecipeError: unknown preset, unreadable YAML, an unknown knob or a value that does not fit.
    """
    values = _read_values(source)
    for overlay in overlays:
        values = _merge(values, _read_preset(overlay))
    for setting in settings:
        values = _merge(values, _parse_setting(setting))
    return _validate(values, f"recipe '{source}'")


def overlay_recipe(recipe: Recipe, overlay: str) -> Recipe:
    """The recipe with a named preset's values laid over it.

    Raises:
        RecipeError: no preset has this name.
    """
    return _validate(_merge(recipe.model_dump(mode="json"), _read_preset(overlay)), f"overlay '{overlay}'")


def _read_values(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"}:
        return {"preset": str(source), **_read_preset(str(source))}
    if not path.is_file():
        raise RecipeError(f"no recipe file at {path}. Fix: check the path, or name a preset: {_presets_text()}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}. Fix: save it as UTF-8 text") from None
    values = _parse_yaml(text, str(path))
    if "preset" in values:
        return _merge({"preset": values["preset"], **_read_preset(str(values["preset"]))}, values)
    return values


def _presets_text() -> str:
    return ", ".join(list_presets())


def _read_preset(name: str) -> dict[str, Any]:
    file = resources.files("smalti") / "presets" / f"{name}.yaml"
    if not name.isidentifier() or not file.is_file():
        raise RecipeError(f"no preset is called '{name}'. Fix: one of {_presets_text()}, or the path of a .yaml file")
    return _parse_yaml(file.read_text(encoding="utf-8"), f"preset {name}")


def _parse_yaml(text: str, where: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is not valid YAML: {error}. Fix: correct the line named above") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(f"{where} holds no mapping. Fix: write 'section:' lines with knobs below them")
    return values


def _parse_setting(setting: str) -> dict[str, Any]:
    key, found, text = setting.partition("=")
    if not found or not key.strip():
        raise RecipeError(f"--set {setting}: no '='. Fix: --set section.knob=value, for example split.folds=3")
    if key.strip() == "preset":
        raise RecipeError(f"--set {setting}: a preset is laid below all else. Fix: --recipe {text}")
    try:
        value: Any = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        raise RecipeError(f"--set {setting}: '{text}' is no YAML value. Fix: put text in quotes") from None
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return dict(value)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _validate(values: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        lines = [_describe(e["loc"], e["type"], e["msg"]) for e in error.errors()]
        raise RecipeError("\n".join([f"{where} does not fit:", *lines])) from None


def _describe(location: tuple[int | str, ...], kind: str, message: str) -> str:
    path = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        return f"  {path or 'recipe'}: {message}"
    near = difflib.get_close_matches(path, list_knobs(), n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"  {path}: there is no such knob.{hint} Fix: 'smalti parts --knobs' lists them all"


def list_knobs() -> dict[str, str]:
    """Dotted name of every knob with its description."""
    return dict(_walk_knobs(Recipe, ""))


def _walk_knobs(section: type[BaseModel], prefix: str) -> Iterable[tuple[str, str]]:
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _walk_knobs(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info.description or ""
