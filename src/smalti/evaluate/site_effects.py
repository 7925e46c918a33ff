"""What the site does to a score: site-out beside out-of-fold, and whether the site can be told from embeddings.

The embeddings are asked among images of one class, so that the disease cannot answer for the site, and cases are
permuted whole: a case keeps its images and takes the site of another case of its class. Two things together make an
alarm: the site can be told, and the score falls where the site was never seen. Either alone is said without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..records.scored import HEADLINE, Scoring
from ..records.studies.comparison import Difference as DifferenceRecord
from ..records.studies.sites import Robust, SiteOut, SitesRecord, Told
from ..stats.chance import score_chance
from ..stats.intervals import score_pool
from ..stats.permutation import BLOCK, ENOUGH, FEWEST, Codes, Neighbours, code_groups, draw_rows, measure_accuracy
from ..stats.permutation import permute_by_case as permute
from ..stats.pool import Pool, pool_predictions
from ..stats.robustness_index import measure_robustness
from .cases import average_cases
from .comparison import Pair, compare_pairs
from .margins import measure_margins
from .subgroups import measure_subgroups

Floats = NDArray[np.float64]

ALPHA = 0.01  # of the permutation; strict, since an alarm costs people much work
PERMUTATIONS = 999
MOST_IMAGES = 2000  # drawn from larger cohorts: time grows with the square
ASSOCIATED = 0.3  # of Cramér's V; less is not named as the reason
ONE = 0.8  # of Cramér's V; more, and where no site can be held out, class and site are one
NO_EMBEDDINGS = "the run has no embeddings of images (phase transfer, or a network that is frozen, makes them)"


@dataclass(frozen=True, slots=True, eq=False)
class Sited:
    """The labelled images of a run that have a site, n of them.

    Attributes:
        images, cases, labels, sites: of each image.
        groups: what each image's site is held out with.
        subgroups: column -> value of each image, empty where there is none.
        points: (n, D) embeddings; None where there are none.
    """

    images: tuple[str, ...]
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    sites: tuple[str, ...]
    groups: tuple[str, ...]
    subgroups: Mapping[str, tuple[str, ...]]
    points: NDArray[np.floating] | None


def judge_sites(
    sited: Sited,
    out_of_fold: pd.DataFrame,
    site_out: pd.DataFrame | None,
    *,
    why: str,
    scoring: Scoring,
    classes: tuple[str, ...],
    cases: Mapping[str, str] | None,
    confidence: float,
    by_site: bool = False,
) -> SitesRecord:
    """Return everything that is known about the sites of a run.

    Args:
        sited: the labelled images.
        out_of_fold, site_out: prediction tables of the same images; None where no site was held out.
        why: why none was.
        scoring: whether images or cases are scored.
        classes: in score order.
        cases: image -> the case that the data names.
        confidence: of the intervals.
        by_site: whether the folds of the run are sites, so that its own scores are site-out scores.
    """

    def pool_units(table: pd.DataFrame) -> Pool:
        by_case = scoring.unit == "case"
        units = average_cases(table, cases or {}, classes=classes) if by_case else table
        return pool_predictions(units, classes=classes)

    pool = pool_units(out_of_fold)
    held = None if site_out is None else pool_units(site_out)
    named = (cases or {}) if scoring.unit == "case" else {}
    # A column of subgroups that says the sites again would be tested twice.
    spelt = [site.casefold() for site in sited.sites]
    more = {name: texts for name, texts in sited.subgroups.items() if [text.casefold() for text in texts] != spelt}
    columns = {"site": sited.sites, **more}
    by_unit = {
        column: _collect(pool.images, [named.get(i, i) for i in sited.images], values)
        for column, values in columns.items()
        if any(values)
    }
    groups = _collect(pool.images, [named.get(i, i) for i in sited.images], sited.groups)
    n_sites = len(set(sited.sites) - {""})
    outcome = None if held is None else _compare(pool, held, groups, n_sites=n_sites, confidence=confidence)
    told, told_why = (None, NO_EMBEDDINGS) if sited.points is None else tell_sites(sited)
    association = measure_association(sited)
    sentence, alarm = _conclude(outcome, told, association, why=why, by_site=by_site)
    return SitesRecord(
        unit=scoring.unit, n_sites=n_sites, site_out=outcome, site_out_why=why, told=told, told_why=told_why,
        robust=_measure_robust(sited), association=association,
        subgroups=measure_subgroups(pool, by_unit, site_out=held, confidence=confidence),
        sentence=sentence, alarm=alarm,
    )  # fmt: skip


def _collect(units: Sequence[str], names: Sequence[str], values: Sequence[str]) -> list[str]:
    """Return the value of each unit; empty where its images differ, or have none."""
    found: dict[str, set[str]] = {}
    for name, value in zip(names, values, strict=True):
        found.setdefault(name, set()).add(value)
    return [next(iter(found[unit])) if len(found.get(unit, ())) == 1 else "" for unit in units]


def _compare(pool: Pool, held: Pool, groups: Sequence[str], *, n_sites: int, confidence: float) -> SiteOut:
    """Return site-out beside out-of-fold; the gap is about these networks, whose number is that of the sites."""
    single = [replace(one, fold=np.zeros_like(one.fold)) for one in (pool, held)]
    pair = Pair("out-of-fold", "site-out", score_pool(single[0]), score_pool(single[1]))
    gap = compare_pairs([pair], confidence=confidence, without_luck=True, margin=0)[0][HEADLINE]
    names, codes = np.unique(groups, return_inverse=True)
    by_site = replace(held, case=codes.astype(np.int64), cases=tuple(str(name) for name in names))
    return SiteOut(
        score=measure_margins(held, confidence=confidence)[HEADLINE],
        by_site=measure_margins(by_site, confidence=confidence)[HEADLINE],
        out_of_fold=measure_margins(pool, confidence=confidence)[HEADLINE],
        gap=DifferenceRecord(**asdict(gap)),
        chance=score_chance(held, confidence=confidence)[HEADLINE].prior,
        n_images=len(held.images), n_cases=held.n_cases, n_sites=n_sites, n_groups=len(names),
        n_seeds=len(held.scores),
    )  # fmt: skip


def tell_sites(sited: Sited, *, permutations: int = PERMUTATIONS) -> tuple[Told | None, str]:
    """Ask whether the site can be told from embeddings among images of one class; None, and why, where it cannot be
    asked.

    A case counts with the images of its most frequent class, a site in a class where it has two cases or more.
    """
    if sited.points is None:
        return None, NO_EMBEDDINGS
    rows = draw_rows(len(sited.images), most=MOST_IMAGES)
    cases, labels, sites = (np.array(x, dtype=str)[rows] for x in (sited.cases, sited.labels, sited.sites))
    blocks = [_choose_block(cases, labels, sites, name) for name in np.unique(labels)]
    blocks = [block for block in blocks if len(block)]
    number = sum(map(len, blocks))
    if number < FEWEST:
        return None, (
            "in no class do two sites have two cases each, so that class and site cannot be parted"
            if len(set(sites) - {""}) > 1
            else "there is one site"
        )
    rng = np.random.default_rng(0)
    codes = [(code_groups(list(sites[block])), code_groups(list(cases[block]))) for block in blocks]
    measures = [
        _prepare_measure(sited.points[rows[block]], case, int(own.max()) + 1)
        for block, (own, case) in zip(blocks, codes, strict=True)
    ]
    shares = [len(block) / number for block in blocks]
    value = sum(s * float(m(own[None])[0]) for s, m, (own, _) in zip(shares, measures, codes, strict=True))
    drawn = np.empty(0)
    while len(drawn) < permutations and (drawn >= value - 1e-9).sum() < ENOUGH:
        times, found = min(BLOCK, permutations - len(drawn)), np.zeros(1)
        for share, measure, (own, case) in zip(shares, measures, codes, strict=True):
            found = found + share * measure(permute(own, case, times=times, rng=rng))
        drawn = np.append(drawn, found)
    chance = float(drawn.mean())
    used = np.concatenate(blocks)
    return Told(
        accuracy=value, chance=chance, p=float((1 + (drawn >= value - 1e-9).sum()) / (1 + len(drawn))),
        effect=(value - chance) / max(1e-9, 1 - chance), n_images=number, n_cases=len(set(cases[used])),
        n_classes=len(blocks), n_sites=len(set(sites[used])),
    ), ""  # fmt: skip


def _prepare_measure(points: NDArray[np.floating], cases: Codes, count: int) -> Callable[[Codes], Floats]:
    neighbours = Neighbours(points.astype(np.float64), cases)
    return lambda groups: measure_accuracy(neighbours.score(groups, count), groups)


def _choose_block(cases: NDArray[np.str_], labels: NDArray[np.str_], sites: NDArray[np.str_], label: str) -> Codes:
    """Return the images of a class whose site has two of its cases or more; none where there are no two such sites."""
    counts = pd.crosstab(pd.Series(cases, name="case"), pd.Series(labels, name="label"))
    own = counts.idxmax(axis=1).reindex(list(cases)).to_numpy(dtype=str)  # the most frequent class of each image's case
    rows = (labels == label) & (own == label) & (sites != "")
    table = pd.DataFrame({"site": sites[rows], "case": cases[rows]}).groupby("site")["case"].nunique()
    kept = rows & np.isin(sites, table.index[table >= 2].to_numpy(dtype=str))
    return np.flatnonzero(kept) if len(set(sites[kept])) > 1 else np.empty(0, dtype=np.int64)


def measure_association(sited: Sited) -> float | None:
    """Return Cramér's V of class and site over cases, corrected for bias (Bergsma 2013); None with one site."""
    table = pd.DataFrame({"case": sited.cases, "label": sited.labels, "site": sited.sites})
    table = table[table["site"] != ""].drop_duplicates()
    counts = pd.crosstab(table["label"], table["site"]).to_numpy(float)
    if min(counts.shape) < 2:
        return None
    total = counts.sum()
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total
    rows, columns = counts.shape
    square = max(0.0, ((counts - expected) ** 2 / expected).sum() / total - (rows - 1) * (columns - 1) / (total - 1))
    least = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    return float(min(1.0, np.sqrt(square / least))) if least > 0 else None


def _measure_robust(sited: Sited) -> Robust | None:
    kept = np.array([site != "" for site in sited.sites])
    if sited.points is None or len(set(sited.sites) - {""}) < 2 or len({*np.array(sited.cases)[kept]}) < 2:
        return None
    labels, sites, cases = (
        code_groups(list(np.array(x, dtype=str)[kept])) for x in (sited.labels, sited.sites, sited.cases)
    )
    return Robust(**asdict(measure_robustness(sited.points[kept].astype(np.float64), labels, sites, cases)))


def _conclude(
    outcome: SiteOut | None, told: Told | None, association: float | None, *, why: str, by_site: bool
) -> tuple[str, bool]:
    """Return one sentence, and whether it is an alarm."""
    seen = told is not None and told.p <= ALPHA
    words = "" if told is None else (
        f"balanced accuracy {told.accuracy:.2f} among images of one class, chance {told.chance:.2f}, p = {told.p:.3f}"
    )  # fmt: skip
    if by_site:
        able = "" if told is None else f" The site {'can' if seen else 'cannot'} be told from the embeddings ({words})."
        return f"The scores of this run are on sites that no network had seen.{able}", False
    if outcome is None:
        if association is not None and association >= ONE:
            return (
                f"Class and site go together (Cramér's V {association:.2f}), so that no score can part them: {why}.",
                True,
            )
        if told is None:
            return f"Other sites were not scored: {why}.", False
        able = "can be told" if seen else "cannot be told"
        return f"The site {able} from the embeddings ({words}); what that does to the score is open: {why}.", False
    gap, score, base = outcome.gap, outcome.score, outcome.out_of_fold
    falls = gap.verdict == "better"
    numbers = (
        f"macro-F1 is {base.say()} out of fold and {score.say()} on sites that no network had seen (difference "
        f"{gap.say()}; chance {outcome.chance or 0:.3f}; {outcome.n_cases} cases, {outcome.n_sites} sites)"
    )
    tied = association is not None and association >= ASSOCIATED
    goes = f" and class goes with site (Cramér's V {association:.2f})" if tied else ""
    if falls and seen:
        return (
            f"The score leans on the site: {numbers}, since the site can be told from the embeddings ({words}){goes}.",
            True,
        )
    if falls:
        asked = f"the site cannot be told from the embeddings ({words})" if told else "the embeddings cannot be asked"
        return f"The score is lower on other sites: {numbers}; why is open, since {asked}{goes}.", False
    smallest = gap.smallest_detectable
    able = "" if smallest is None else f", where a difference of {smallest:.3f} could have been seen"
    if seen:
        return f"The site can be told from the embeddings ({words}), and yet the score holds: {numbers}{able}.", False
    return f"Nothing shows that the score leans on the site: {numbers}{able}.", False
