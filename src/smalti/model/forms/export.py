"""A model in the form that another tool loads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from ...errors import PartError, RunError
from ...store import replace_folder
from ..bundle import find_model
from .build import Built, build_scorer
from .hub import write_hub_folder
from .onnx import write_onnx
from .torchscript import write_torchscript
from .wsinfer import write_wsinfer

Form = Literal["onnx", "torchscript", "wsinfer", "hub-folder"]
FORMS: tuple[Form, ...] = get_args(Form)
FILES = {"onnx": "model.onnx", "torchscript": "model.torchscript.pt"}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and how near its logits are to the model's; ``size`` is of given features, 0 of pixels."""

    folder: Path
    form: Form
    difference: float
    tile_px: int
    size: int = 0


def export_form(
    folder: Path,
    form: Form,
    to: Path,
    *,
    mpp: float | None = None,
    member: str | None = None,
    network: str | None = None,
) -> Exported:
    """Write a model as another tool takes it, and compare what the file says with what the model says.

    Args:
        folder: of the model, or of the run that has it.
        form: see ``FORMS``.
        to: a folder that is not there yet.
        mpp: microns per pixel of the images, where the model does not know them; WSInfer asks for them.
        member: one member alone instead of what all say together.
        network: one network alone, such as ``fold0-seed0``.

    Raises:
        PartError: the form cannot hold the model, with every reason.
        RunError: no model, or ``to`` holds something.
        MissingExtraError: a library for the form is not installed.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise RunError(f"{to} is there already, and holds something", fix="a folder that is not there yet")
    built = build_scorer(find_model(folder), member=member, network=network)
    if built.scorer.size and form in ("wsinfer", "hub-folder"):
        raise PartError(
            f"{form} holds networks that read pixels, and {built.record.name} takes features that were made elsewhere",
            fix="--to onnx or --to torchscript, which take bags (N, tiles, numbers)",
        )
    if built.needs_place and form != "wsinfer":
        raise PartError(
            f"a pooler of {built.record.name} looks at where tiles lie, which a form of networks alone does not know",
            fix="'smalti predict MODEL FOLDER', or --to wsinfer, which gives single tiles",
        )
    built = built if mpp is None else replace(built, mpp=mpp)
    if form == "wsinfer" and built.mpp is None:
        raise PartError(
            "WSInfer finds tiles by microns per pixel, and neither the recipe nor the training images say theirs",
            fix="--mpp NUMBER, the microns per pixel of the training images",
        )
    found = []

    def write(place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        found.append(_write(built, form, place))

    replace_folder(to, write)
    return Exported(to, form, found[0], built.tile_px, built.scorer.size)


def _write(built: Built, form: Form, place: Path) -> float:
    if form == "onnx":
        return write_onnx(built.scorer, place / FILES[form], tile_px=built.tile_px)
    if form == "torchscript":
        return write_torchscript(built.scorer, place / FILES[form], tile_px=built.tile_px)
    if form == "hub-folder":
        return write_hub_folder(built, place)
    assert built.mpp is not None  # asked for before
    return write_wsinfer(
        built.scorer, place, classes=built.record.classes, architecture=built.architecture, spec=built.spec,
        tile_px=built.tile_px, field_px=built.field_px, mpp=built.mpp,
    )  # fmt: skip
