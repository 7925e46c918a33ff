"""Describe the images that a model learned from, so that new images can be compared with them.

The description holds no image: numbers of each image (`smalti.model.look`), the colours that many images have, and what
is usual. Training images that show a fault themselves are left out of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ..audit.measure.digest import ImageDigest
from ..audit.measure.paint import Palette
from ..errors import DataError
from ..records import Doubt, PopulationFacts, Range, Rarity, TrainingPopulation, Usually
from ..stats.permutation import code_groups, draw_rows
from ..stats.robust import Usual, find_usual
from ..types import Cohort
from .look import GROUPS, TRAITS, measure_traits
from .visible import Reference, find_fault, find_reference

MOST_IMAGES = 2000  # drawn from larger populations
# A fault in more of the training images than this is what they are like, and no fault.
USUAL_FAULT_FRAC = 0.1
USUAL_COLOUR_FRAC = 0.02  # likewise, where so many are painted, of the colours of paint
LEAST_RARE = 8  # images; fewer do not show how far apart images of one population lie
NEAR_FRAC = 0.05  # of the population must resemble an image
# Of the distances between cases, and one spread at least, is one unit of a group of traits: a stain that is a little
# different in all new images is answered and warned about, not refused.
UNIT_QUANTILE, LEAST_UNIT = 0.99, 1.0
REFUSED_FRAC = 0.01  # of training images beside other cases would be refused
# A few cases do not show what the next one is like: the bar is (1 + FEW / cases) times as far.
FEW = 4.0
FARTHEST = 20.0  # spreads; one trait alone must not decide on a distance

Floats = NDArray[np.float64]


def describe_population(
    cohort: Cohort,
    digests: Sequence[ImageDigest],
    *,
    sites: Mapping[str, str] | None = None,
    doubt: Doubt | None = None,
) -> TrainingPopulation:
    """Describe the labelled images of a cohort.

    Args:
        cohort: after decisions; only its labelled images count.
        digests: of at least its labelled images, as the audit has them or `audit.measure.digest.digest_sample` gives.
        sites: image -> site, where a column says it.
        doubt: when the model would rather say nothing; see `fit_doubt`.

    Raises:
        DataError: no labelled image has a digest.
    """
    by_name = {d.image: d for d in digests}
    samples = [s for s in cohort.labelled if s.image in by_name]
    if not samples:
        raise DataError("no training image was measured", fix="measure the labelled images of this cohort")
    samples = [samples[i] for i in draw_rows(len(samples), most=MOST_IMAGES)]
    seen = [by_name[s.image] for s in samples]
    kept, left_out, usual_faults = _leave_out(seen)
    samples, seen = [samples[i] for i in kept], [seen[i] for i in kept]
    reference = find_reference(seen)
    traits = np.stack([measure_traits(d) for d in seen])
    case = code_groups([s.case for s in samples])
    ranges = tuple(describe_range(name, traits[:, i], floor=floor) for i, (name, _, floor) in enumerate(TRAITS))
    mpp = [d.source.mpp for d in seen if d.source.mpp is not None]
    facts = PopulationFacts(
        n_images=len(seen), n_cases=int(case.max()) + 1, left_out=left_out, usual_faults=usual_faults,
        sites=dict(sorted(Counter((sites or {}).get(s.image, "") for s in samples).items())) if sites else {},
        height_px=describe_range("height", [d.size_px[0] for d in seen]),
        width_px=describe_range("width", [d.size_px[1] for d in seen]),
        mpp=describe_range("microns per pixel", mpp) if mpp else None, n_mpp=len(mpp),
        stained=reference.stained,
        grainless=None if reference.grainless is None else _keep(reference.grainless),
        focus={size: _keep(usual) for size, usual in reference.focus.items()},
        bar=None if reference.palette.common is None else reference.palette.bar,
        ranges=ranges, rarity=fit_rarity(scale_traits(traits, ranges), case, groups=GROUPS), doubt=doubt,
    )  # fmt: skip
    palette = reference.palette
    return TrainingPopulation(facts, traits, case.astype(np.int32), palette.common, palette.spots)


def read_reference(population: TrainingPopulation) -> Reference:
    """Return what the checks need to know, from a description."""
    facts = population.facts
    bar = 0.0 if facts.bar is None else facts.bar
    return Reference(
        stained=facts.stained,
        grainless=None if facts.grainless is None else Usual(facts.grainless.centre, facts.grainless.spread),
        focus={size: Usual(usual.centre, usual.spread) for size, usual in facts.focus.items()},
        palette=Palette(population.common, bar, facts.n_images, population.spots),
    )


def fit_doubt(scores: NDArray[np.floating], *, share: float) -> Doubt | None:
    """Return the bar of confidence below which this share of held-out images lies; None for a share of 0.

    A held-out image is scored by one network a seed, and a new one by the mean of all networks, which is less sure: of
    new images more than this share lie below the bar.

    Args:
        scores: (n, C) probabilities of held-out images, one row an image: the mean over seeds.
        share: of the least sure images, 0 to below 1.
    """
    if share <= 0:
        return None
    return Doubt(share=share, confidence=float(np.quantile(np.max(scores, axis=1), share)))


def scale_traits(traits: NDArray[np.floating], ranges: Sequence[Range]) -> Floats:
    """Return traits (n, T) in spreads from the middle of the population, within `FARTHEST`."""
    middle, spread = (np.array([getattr(r, name) for r in ranges]) for name in ("middle", "spread"))
    return np.asarray(np.clip((traits - middle) / spread, -FARTHEST, FARTHEST))


def measure_distances(
    points: Floats, others: Floats, *, cases: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None
) -> Floats:
    """Return the distance (n,) of each point (n, d) from the nearest twentieth of the others (m, d).

    Args:
        points, others: scaled traits.
        cases: of the points and of the others; those of its own case are not looked at. NaN where none are left.
    """
    distances = cdist(points, others) / np.sqrt(points.shape[1])
    if cases is not None:
        distances[cases[0][:, None] == cases[1][None]] = np.inf
    near = max(1, int(np.ceil(NEAR_FRAC * len(others))))
    distances = np.sort(distances, axis=1)[:, :near]
    last = np.maximum(np.isfinite(distances).sum(axis=1), 1) - 1
    found = distances[np.arange(len(points)), last]
    return np.where(np.isfinite(found), found, np.nan)


def _leave_out(seen: Sequence[ImageDigest]) -> tuple[list[int], dict[str, int], tuple[str, ...]]:
    """Return positions of images without a fault, code -> number of the others, and kinds that are usual."""
    reference = find_reference(seen)
    usual: set[str] = set()
    while True:
        faults = [find_fault(d, reference, usual=usual) for d in seen]
        counts = Counter(fault.code for fault in faults if fault.code)
        kinds = Counter((fault.code, fault.kind) for fault in faults if fault.code)
        more = {
            kind
            for (code, kind), count in kinds.items()
            if counts[code] > USUAL_FAULT_FRAC * len(seen) and count > USUAL_COLOUR_FRAC * len(seen)
        }
        if more <= usual:
            break
        usual |= more
    # An implausible picture is one whatever the others are, so that its kind may be a usual one.
    kept = [i for i, fault in enumerate(faults) if not fault.code or fault.kind in usual]
    left_out = Counter(fault.code for fault in faults if fault.code and fault.kind not in usual)
    return kept, dict(sorted(left_out.items())), tuple(sorted(usual))


def fit_rarity(scaled: Floats, case: NDArray[np.integer], *, groups: Mapping[str, NDArray[np.int64]]) -> Rarity | None:
    """Measure each image beside the other cases; where all are of one case, beside the other images."""
    if len(scaled) < LEAST_RARE:
        return None
    apart = case if case.max() else np.arange(len(case))
    found = {
        group: measure_distances(scaled[:, columns], scaled[:, columns], cases=(apart, apart))
        for group, columns in groups.items()
    }
    units = {group: max(float(np.quantile(d, UNIT_QUANTILE)), LEAST_UNIT) for group, d in found.items()}
    farthest = np.max([found[group] / unit for group, unit in units.items()], axis=0)
    bar = float(np.quantile(farthest, 1 - REFUSED_FRAC)) * (1 + FEW / (int(case.max()) + 1))
    return Rarity(units=units, bar=bar, refused_frac=REFUSED_FRAC)


def describe_range(name: str, values: Sequence[float] | NDArray[np.floating], *, floor: float = 0.0) -> Range:
    numbers = np.asarray(values, dtype=np.float64)
    low, high = np.percentile(numbers, [1, 99])
    usual = find_usual(numbers, floor=floor)
    return Range(name=name, low=float(low), middle=usual.centre, high=float(high), spread=usual.spread)


def _keep(usual: Usual) -> Usually:
    return Usually(centre=usual.centre, spread=usual.spread)
