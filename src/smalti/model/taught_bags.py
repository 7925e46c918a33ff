"""Bags of features that a model is to answer for: opened, checked, and compared with those that it learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..cohort import sniff_table
from ..errors import DataError
from ..features import open_features
from ..records import Doubt, FeaturePopulation, GivenRecord
from ..records.outgoing.taught_features import FeatureFacts
from ..stats.permutation import code_groups, draw_rows
from ..tile import GivenStore, hold_array, hold_given
from ..types import FeatureSpec, Sample
from .population import MOST_IMAGES, describe_range, fit_rarity, measure_distances, scale_traits
from .refusal import judge_scores

COMPONENTS = 32  # of the means; distances in more are all alike
WIDER = 1.5  # of the bar: means of bags are rare in many ways, and those of another encoder are far beyond
CASES_EACH = 10  # bags for each component
PARTS = 5  # of the cases, each held out once
BULK, REST = "components", "rest"
PART_TILES = 8192  # of a bag that are looked at together
FLAT = 1e-6  # of the middle; a dimension that varies less is constant, and does not count

Floats = NDArray[np.float64]


class EncoderError(DataError):
    """Features of another encoder, or of another number of dimensions, than the model learned from."""


@dataclass(frozen=True, slots=True)
class BagLook:
    """What is seen of a bag: the mean (D,) of its tiles, and their number."""

    mean: Floats
    tiles: int


def hold_features(item: Sample | tuple[str, NDArray[np.generic]], given: GivenRecord) -> GivenStore:
    """Return the bag of a file, of rows of a table, or of an array (N, D) or (D,), with its name.

    Raises:
        EncoderError: it has other features than the model learned from.
        DataError: it cannot be read, or is empty.
    """
    spec = FeatureSpec(given.size, given.encoder, given.columns, given.delimiter)
    if isinstance(item, tuple):
        name, values = item
        values = values[None] if values.ndim == 1 else values
        if values.ndim != 2 or values.dtype.kind != "f":
            raise DataError(f"an array of shape {values.shape} and type {values.dtype} is no bag (N, D) of features")
        _check_encoder(values.shape[1], "", given)
        store = hold_array(name, values.astype(np.float32, copy=False), spec)
    else:
        if item.bag is None:
            file = open_features(item.path)
            if file is None:
                raise DataError("it holds coordinates and no features")
            _check_encoder(file.size, file.encoder, given)
        else:  # a table may be separated by another sign than the one that was learned from
            spec = replace(spec, delimiter=sniff_table(item.path))
        store = hold_given((item,), spec, hashes={item.path: ""})
    if len(store) == 0:
        raise DataError("it has no tile")
    return store


def _check_encoder(size: int, encoder: str, given: GivenRecord) -> None:
    if size != given.size or (encoder and given.encoder and encoder != given.encoder):
        found = f"{size} numbers a tile" + (f", of encoder {encoder}" if encoder else "")
        wanted = f"{given.size}" + (f" of encoder {given.encoder}" if given.encoder else "")
        raise EncoderError(f"it has {found}; the model learned from {wanted}")


def look_at_bag(store: GivenStore) -> BagLook:
    """Read all tiles of a bag once.

    Raises:
        DataError: it holds NaN or infinite numbers.
    """
    total, count = np.zeros(store.spec.size), len(store)
    for start in range(0, count, PART_TILES):
        part = store.read_part(0, start, min(start + PART_TILES, count)).astype(np.float64)
        if wrong := int((~np.isfinite(part)).any(axis=1).sum()):
            raise DataError(f"it has NaN or infinite numbers in {wrong} tile(s) or more")
        total += part.sum(axis=0)
    return BagLook(total / count, count)


def describe_bags(
    means: NDArray[np.floating], tiles: Sequence[int], *, cases: Sequence[str], doubt: Doubt | None = None
) -> FeaturePopulation:
    """Describe the bags that a model learned from, by the means (n, D) of their tiles."""
    chosen = draw_rows(len(means), most=MOST_IMAGES)
    rows = np.asarray(means, dtype=np.float64)[chosen]
    case = code_groups([cases[i] for i in chosen])
    middle = np.median(rows, axis=0)
    spread = np.mean(np.abs(rows - middle), axis=0)
    spread = np.where(spread > FLAT * np.abs(middle), spread, np.inf)
    bent = np.arcsinh((rows - middle) / spread)
    axes = _find_axes(bent)
    points = _project(bent, axes)
    points[:, -1] = _measure_rest(bent, case)
    ranges = tuple(describe_range(f"component {i + 1}", points[:, i], floor=1e-6) for i in range(points.shape[1]))
    rarity = fit_rarity(scale_traits(points, ranges), case, groups=_group(points.shape[1]))
    if rarity is not None:
        rarity = rarity.model_copy(update={"bar": WIDER * rarity.bar})
    facts = FeatureFacts(
        n_images=len(rows), n_cases=int(case.max(initial=-1)) + 1,
        tiles=describe_range("tiles", [tiles[i] for i in chosen]), ranges=ranges, rarity=rarity, doubt=doubt,
    )  # fmt: skip
    kept = [np.asarray(array, dtype=np.float32) for array in (middle, spread, axes, points)]
    return FeaturePopulation(facts, kept[0], kept[1], kept[2], kept[3], case.astype(np.int32))


def judge_bag(
    population: FeaturePopulation, look: BagLook, *, scores: NDArray[np.floating], agreement: float
) -> tuple[str, tuple[float, ...]]:
    """Return why a bag is refused, empty where it is answered; and the numbers that it is compared by."""
    facts = population.facts
    middle, spread, axes = (a.astype(np.float64) for a in (population.middle, population.spread, population.axes))
    point = _project(np.arcsinh((look.mean[None] - middle) / spread), axes)
    numbers = tuple(float(number) for number in point[0])
    if facts.rarity is not None:
        here, others = (scale_traits(p, facts.ranges) for p in (point, population.points))
        far = {
            group: float(measure_distances(here[:, columns], others[:, columns])[0]) / facts.rarity.units[group]
            for group, columns in _group(here.shape[1]).items()
        }
        if here[0, -1] <= 0:  # the components leave less of it than of most
            far[REST] = 0.0
        group = max(far, key=lambda name: far[name])
        if far[group] > facts.rarity.bar:
            times = far[group] / facts.rarity.bar
            return f"foreign: its features are {times:.1f} times as far from those of training as these reach", numbers
    code, reason = judge_scores(facts.doubt, scores, agreement)
    return (f"{code}: {reason}" if code else ""), numbers


def _find_axes(bent: Floats) -> Floats:
    """Return principal components (K, D) of standardised means (n, D)."""
    axes: Floats = np.linalg.svd(bent, full_matrices=False)[2][: min(COMPONENTS, max(1, len(bent) // CASES_EACH))]
    return axes


def _project(bent: Floats, axes: Floats) -> Floats:
    """Return components (n, K) of standardised means (n, D), and the length that they leave."""
    seen = bent @ axes.T
    rest = np.linalg.norm(bent - seen @ axes, axis=1) / np.sqrt(bent.shape[1])
    return np.column_stack([seen, rest])


def _measure_rest(bent: Floats, case: NDArray[np.integer]) -> Floats:
    """Return what components of other cases leave of each bag, (n,); those of its own would leave less."""
    left = np.empty(len(bent))
    for part in range(PARTS):
        held = case % PARTS == part
        if held.any():
            left[held] = _project(bent[held], _find_axes(bent[~held] if not held.all() else bent))[:, -1]
    return left


def _group(columns: int) -> dict[str, NDArray[np.int64]]:
    return {BULK: np.arange(columns - 1), REST: np.array([columns - 1])}
