"""What one explained image leaves in the run folder: overlays, a file for QuPath, and its measures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ...explain import Measured, measure_map
from ...images import WHOLE_PX, read_mask, read_size
from ...records.layout import HEATMAP, HEATMAP_GRADCAM, HEATMAP_GRADCAM_LABEL, HEATMAP_OUTLINES, name_heatmap
from ...store import write_atomic
from .drawn_maps import encode_png, read_scaled

if TYPE_CHECKING:
    from ...explain.explanation import Explanation
    from ...tile import TileStore

MAP, GRADCAM = "map", "gradcam"
PICTURES = (HEATMAP, HEATMAP_GRADCAM, HEATMAP_GRADCAM_LABEL)
EVEN = "1: an even share"
UNITS = {
    "attention": EVEN,
    "class attention": EVEN,
    "contribution": "part of the logit, against the mean class",
    "evidence": "logit of the tile alone, against the mean class",
}
GRADCAM_UNIT = "1: the mean of the image"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tiles of an image lie and at which scale its maps are.

    Attributes:
        boxes: (N, 4) row, column, height, width in image pixels.
        size_px: of the image.
        scale: map pixels per image pixel.
        mask: (h, w) share of each place of a map under the mask; None without a mask.
    """

    boxes: NDArray[np.float64]
    size_px: tuple[int, int]
    scale: float
    mask: NDArray[np.float32] | None


def find_place(explanation: Explanation, store: TileStore) -> Place:
    """Read size and mask of an explained image."""
    from ...explain import choose_scale, find_boxes, shrink_size

    sample = explanation.question.sample
    size_px = read_size(sample.path)
    scale = choose_scale(size_px)
    mask = None
    if sample.mask_path is not None:
        height, width = shrink_size(size_px, scale)
        plane, _ = read_mask(sample.mask_path, reading=sample.mask_reading, most_px=WHOLE_PX)
        mask = np.asarray(
            cv2.resize(plane.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32
        )
    return Place(find_boxes(store, store.position(sample.image)), size_px, scale, mask)


@dataclass(frozen=True, slots=True)
class Layer:
    """One map of an image.

    Attributes:
        suffix: of its file.
        values: (N,) or (N, h, w) a tile, mean over networks.
        title, unit: for the legend.
        name: under which it is measured; empty where it is not.
        maps: (S, N) values of each network.
    """

    suffix: str
    values: NDArray[np.float32]
    title: str
    unit: str
    name: str
    maps: NDArray[np.float32]


def write_heatmaps(
    folder: Path, explanation: Explanation, place: Place, *, classes: tuple[str, ...]
) -> dict[str, Measured]:
    """Write overlays and GeoJSON of one image; the measures of each map by name.

    ``IMAGE.png`` is the map of the shown class, ``IMAGE.gradcam.png`` its Grad-CAM, ``IMAGE.gradcam-label.png`` that of
    the label where it is another class, ``IMAGE.geojson`` the tiles for QuPath.
    """
    from ...explain import share_inside, shrink_size, stitch_tiles
    from ...report import Legend, draw_overlay

    image = explanation.question.sample.image
    picture = read_scaled(explanation.question.sample, size_px=shrink_size(place.size_px, place.scale))
    measured = {}
    layers = list_layers(explanation, classes)
    for row, layer in enumerate(layers):
        heat = stitch_tiles(layer.values, place.boxes, size_px=place.size_px, scale=place.scale)
        drawn = draw_overlay(picture, heat, mask=place.mask, legend=Legend(layer.title, layer.unit))
        write_atomic(folder / name_heatmap(image, layer.suffix), encode_png(drawn))
        if layer.name:
            shares = (float("nan"), float("nan")) if place.mask is None else share_inside(heat, place.mask)
            curves = (explanation.deletion[:, row], explanation.insertion[:, row], explanation.random)
            mean = np.stack([curve.mean(axis=0) for curve in curves])
            measured[layer.name] = measure_map(layer.maps, explanation.kept, mean, shares=shares)
    for suffix in set(PICTURES) - {layer.suffix for layer in layers}:  # an earlier question's
        (folder / name_heatmap(image, suffix)).unlink(missing_ok=True)
    _write_geojson(folder / name_heatmap(image, HEATMAP_OUTLINES), explanation, place, classes=classes)
    return measured


def list_layers(explanation: Explanation, classes: tuple[str, ...]) -> list[Layer]:
    """The maps of an image, those that are measured first."""
    question, kind = explanation.question, explanation.kind
    title = kind if kind == "attention" else f"{kind}: {classes[question.shown]}"
    values = explanation.values
    layers = [Layer(HEATMAP, values.mean(axis=0), title, UNITS[kind], MAP, values)]
    if explanation.cams is not None and explanation.cam_values is not None:
        suffixes = zip(PICTURES[1:], (GRADCAM, ""), strict=True)
        for cams, name, (suffix, measured) in zip(explanation.cams, question.classes, suffixes, strict=False):
            # The mean over tiles is 1, so that numbers mean the same for large and for small images.
            scaled = cams / max(float(cams.mean()), 1e-12)
            layers.append(
                Layer(suffix, scaled, f"Grad-CAM: {classes[name]}", GRADCAM_UNIT, measured, explanation.cam_values)
            )
    return layers


def describe_tiles(explanation: Explanation, classes: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Return what is said about each tile of an image, name -> (N,)."""
    question = explanation.question
    measurements = {"attention (1: even share)": explanation.attention.mean(axis=0) * len(explanation.alone)}
    measurements |= {f"evidence: {name}": explanation.alone[:, i] for i, name in enumerate(classes)}
    if explanation.kind in ("contribution", "class attention"):
        measurements[f"{explanation.kind}: {classes[question.shown]}"] = explanation.values.mean(axis=0)
    if explanation.cams is not None:
        for name, cams in zip(question.classes, explanation.cams, strict=True):
            measurements[f"Grad-CAM: {classes[name]}"] = cams.mean(axis=(1, 2)) / max(float(cams.mean()), 1e-12)
    return measurements


def _write_geojson(path: Path, explanation: Explanation, place: Place, *, classes: tuple[str, ...]) -> None:
    from ...explain import make_collection

    measurements = describe_tiles(explanation, classes)
    names = [classes[i] for i in explanation.alone.argmax(axis=1)]
    found = make_collection(place.boxes, measurements, size_px=place.size_px, names=names, classes=classes)
    write_atomic(path, json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n")
