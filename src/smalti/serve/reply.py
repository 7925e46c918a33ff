"""What is said about one image: the answer of the model, what the model is worth, and pictures."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .. import images
from ..errors import DataError, SmaltiError
from ..model import Answer, Model, TileMap
from ..model.refusal import refuse_unreadable
from ..records import ModelRecord
from ..types import Sample
from ..workflow.explaining.drawn_maps import draw_map, encode_png, read_scaled

DRAWN_PX = 1400  # longer side of pictures; more than a page shows
POPULATIONS = {
    "out-of-fold": "held-out cases of the data that it learned from",
    "site-out": "cases of sites that it did not learn from",
    "external": "labelled images of other data",
}


def make_reply(model: Model, path: Path, *, mpp: float | None, wanted: Collection[str]) -> dict[str, Any]:
    """Answer for an image file.

    Args:
        model: what answers.
        path: the file, of any name; of a model on features it is renamed by its format.
        mpp: microns per pixel, where the file does not say its own.
        wanted: ``map``, ``picture``, both or none.

    Returns:
        predicted (empty where refused), scores by class (None where the file could not be read), agreement, refused,
        model (see `describe_model`), and what was wanted: ``map`` (None where there is none) and ``picture``.
    """
    given = model.record.features is not None
    path = _name_features(path) if given else path
    sample = Sample("image", path, None, None, "image", "image", bits=model.record.bits)
    reply: dict[str, Any] = dict.fromkeys(wanted)
    seen: TileMap | None = None
    try:
        height, width = (0, 0) if given else images.read_size(path)
        if height * width > images.WHOLE_PX:
            most = images.WHOLE_PX // 10**6
            raise DataError(
                f"it has {height} x {width} px, and at most {most} million are answered here",
                fix="smalti predict answers for images of any size",
            )
        if "map" in wanted:
            answer, seen = model.map_answer(sample, mpp=mpp)
        else:
            (answer,) = model.stream([sample], mpp=mpp)
        if "picture" in wanted and answer.scores is not None and not given:
            reply["picture"] = _draw_picture(sample, (height, width))
    except SmaltiError as error:
        problem = error.problems[0] if isinstance(error, DataError) and error.problems else None
        words = (
            f"it {problem.message} Fix: {problem.fix}" if problem else str(error)
        )  # no path, which means nothing here
        answer = Answer("image", "image", refused=refuse_unreadable(words))
    named = "" if answer.refused or answer.scores is None else model.classes[int(np.argmax(answer.scores))]
    if seen is not None and named:
        drawn = encode_png(draw_map(sample, seen, title=named, longest_px=DRAWN_PX))
        reply["map"] = {"class": named, "networks": seen.networks, "png": base64.b64encode(drawn).decode()}
    scores = None if answer.scores is None else dict(zip(model.classes, answer.scores, strict=True))
    return {
        "predicted": named, "scores": scores, "agreement": answer.agreement, "refused": answer.refused,
        "model": describe_model(model.record), **reply,
    }  # fmt: skip


def _name_features(path: Path) -> Path:
    """Give a file of features the suffix of its format, which a body of bytes does not say."""
    suffix = ".h5"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            suffix = ".npz" if all(name.endswith(".npy") for name in archive.namelist()) else ".pt"
    return path.rename(path.with_suffix(suffix))


def describe_model(record: ModelRecord) -> dict[str, Any]:
    """Return what is known about how often a model is right: the score with its interval, and about whom it speaks."""
    about: dict[str, Any] = {"name": record.name, "population": record.population, "unit": record.unit}
    if record.scores is None:
        return about | {"macro_f1": None}
    score, scores = record.scores.headline, record.scores
    given = scores.as_given.words if scores.as_given else ""
    return about | {
        "macro_f1": score.value, "low": score.low, "high": score.high, "confidence": scores.interval.confidence,
        "trustworthy": score.trustworthy, "reason": score.reason, "as_given": given, "chance": score.chance_prior,
        "images": scores.n_images, "cases": scores.n_cases,
    }  # fmt: skip


def _draw_picture(sample: Sample, size_px: tuple[int, int]) -> str:
    """Return the image itself as a JPEG in base64: a browser does not show every kind of file."""
    scale = min(1.0, DRAWN_PX / max(size_px))
    size = (max(1, round(size_px[0] * scale)), max(1, round(size_px[1] * scale)))
    picture = read_scaled(sample, size_px=size)
    return base64.b64encode(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()).decode()
