"""Scores of a run on sites that were left out of training, and what the site has to do with them; ``sites.json``."""

from __future__ import annotations

from typing import ClassVar

from ..layout import SITE_FOLDS, SITES
from ..record import Number, Part, Record
from ..scored import Margin, Unit
from .comparison import Difference


class SiteFolds(Record):
    """``site_out.json``: which sites were held out together.

    Attributes:
        folds: the sites of each fold and seed, by its name.
        why: why no site was held out; empty where they were.
    """

    FILE: ClassVar[str] = SITE_FOLDS
    FIX: ClassVar[str] = "delete it and run the same command again"

    folds: dict[str, tuple[str, ...]]
    why: str = ""


class SiteOut(Part):
    """Macro-F1 on sites that no network had learned from.

    Attributes:
        score: with its interval by case: other cases of these sites.
        by_site: the same score with its interval by site: other sites like these.
        out_of_fold: macro-F1 of the same images out of fold: other cases of the same sites.
        gap: out of fold less site-out, on the same cases, for these networks.
        chance: of a class drawn with the shares of classes.
        n_groups: what was held out together: sites, or sites that share cases or folds.
    """

    score: Margin
    by_site: Margin
    out_of_fold: Margin
    gap: Difference
    chance: Number
    n_images: int
    n_cases: int
    n_sites: int
    n_groups: int
    n_seeds: int


class Told(Part):
    """Whether the site can be told from embeddings, among images of one class.

    Attributes:
        accuracy: balanced accuracy of the site by neighbours in other cases of the class, mean over classes.
        chance: the same where whole cases of a class swap their sites.
        p: share of these permutations that reach it.
        effect: of the way from chance to certainty.
    """

    accuracy: float
    chance: float
    p: float
    effect: float
    n_images: int
    n_cases: int
    n_classes: int
    n_sites: int


class Robust(Part):
    """Robustness of embeddings to the site; see `smalti.stats.robustness_index.Robustness`."""

    index: Number
    neighbours: int
    support: float
    margin: Number
    tail: Number
    dominated: Number
    lacking: int


class Subgroup(Part):
    """The out-of-fold score of one value of a column.

    Attributes:
        column: ``site``, or what ``data.subgroups`` names.
        classes: class -> number of units.
        score: balanced accuracy over the classes of the subgroup; None with fewer cases than an interval needs.
        site_out: the same where its site was left out of training; None elsewhere.
        difference: to all others over the classes that both have, Holm over all rows; None where too few.
        why: why there is no difference; empty where there is one.
    """

    column: str
    value: str
    n_images: int
    n_cases: int
    classes: dict[str, int]
    score: Margin | None
    site_out: Margin | None
    difference: Difference | None
    why: str


class SitesRecord(Record):
    """``sites.json``: what the sites of a run mean for its score.

    Attributes:
        unit: what is scored, images or cases.
        n_sites: sites of the labelled images.
        site_out: None where no site was held out, with the reason in ``site_out_why``.
        told: None where it cannot be asked, with the reason in ``told_why``.
        robust: None without embeddings or sites.
        association: Cramér's V of class and site over cases, bias-corrected; None with one site.
        sentence: what all of it means.
        alarm: whether the score leans on the site.
    """

    FILE: ClassVar[str] = SITES
    FIX: ClassVar[str] = "run 'smalti evaluate' on this run again"

    unit: Unit
    n_sites: int
    site_out: SiteOut | None
    site_out_why: str
    told: Told | None
    told_why: str
    robust: Robust | None
    association: Number
    subgroups: tuple[Subgroup, ...]
    sentence: str
    alarm: bool
