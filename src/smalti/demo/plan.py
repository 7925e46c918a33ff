"""The plan of a cohort: the kind of each image, decided before anything is drawn.

Laboratory, size, mask and stain are drawn without regard to the class; laboratories are dealt evenly within a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import RecipeError
from .field import LABORATORIES, TissuePlan
from .planted import FOREIGN_SHAPE, NEAR_WAYS

CLASS_SHARES = {"Luminal A": 0.35, "Luminal B": 0.30, "HER2(+)": 0.22, "Triple negative": 0.13}
PLANTED_SHARES = {
    "foreign": 8 / 160,
    "painted": 6 / 160,
    "blank": 4 / 160,
    "exact-duplicate": 4 / 160,
    "near-duplicate": 5 / 160,
    "wrong-label": 8 / 160,
}
MIN_LABELLED = 24
_PAIRED = 0.3  # share of cases with a second image


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One image of the cohort.

    Attributes:
        part: ``train`` or ``test``.
        number: of the file, ``img_0012.png`` for 12.
        kind: ``tissue`` or a key of `PLANTED_SHARES`.
        given: the label in the table (train) or the truth (test).
        true: the class that was drawn; empty for foreign and blank images.
        case: name of the case.
        tissue: what the tissue is drawn from; None for foreign and blank images.
        shape: (height_px, width_px) as drawn, before a crop.
        seed: of everything but the tissue.
        source: number of the image that this one repeats, in the same part; -1 when there is none.
        way: which picture or which change of a copy.
    """

    part: str
    number: int
    kind: str
    given: str
    true: str
    case: str
    tissue: TissuePlan | None
    shape: tuple[int, int]
    seed: tuple[int, ...]
    source: int = -1
    way: int = 0

    @property
    def index(self) -> str:
        """Name of the image in tables."""
        return f"img_{self.number:04d}.png"

    @property
    def name(self) -> str:
        """Path of the image from the cohort folder."""
        return f"{self.part}_data/{self.index}"

    @property
    def mask_name(self) -> str:
        """Path of the mask from the cohort folder."""
        return f"{self.part}_data/mask_{self.number:04d}.png"


@dataclass(frozen=True, slots=True)
class CohortPlan:
    """All images of a cohort in the order of their numbers, and the truth that is hidden from smalti."""

    train: tuple[ImagePlan, ...]
    test: tuple[ImagePlan, ...]

    @property
    def planted(self) -> list[tuple[str, str, str]]:
        """Rows of ``planted.csv``: image, kind, detail (source image, true label or way)."""
        rows = []
        for image in self.train:
            if image.source >= 0:
                rows.append((image.name, image.kind, self.train[image.source].name))
            elif image.kind in ("foreign", "blank"):
                rows.append((image.name, image.kind, ""))
            if image.true and image.given != image.true:
                rows.append((image.name, "wrong-label", image.true))
        return rows


def plan_cohort(
    *, seed: int = 0, labelled: int = 160, unlabelled: int = 60, side_px: tuple[int, int] = (600, 1400)
) -> CohortPlan:
    """Decide a whole cohort.

    Args:
        seed: same seed, same cohort.
        labelled: images with a label, planted ones among them.
        unlabelled: images of the test part, all clean.
        side_px: smallest and largest side of an image.

    Raises:
        RecipeError: too few images for four classes and all that is planted, or sides that no image can have.
    """
    if labelled < MIN_LABELLED or unlabelled < 1:
        raise RecipeError(
            f"a demo cohort of {labelled} labelled and {unlabelled} unlabelled images is too small",
            fix=f"ask for at least {MIN_LABELLED} labelled and 1 unlabelled",
        )
    if not 128 <= side_px[0] <= side_px[1]:
        raise RecipeError(f"image sides of {side_px} px cannot be drawn", fix="smallest <= largest, from 128 px")
    counts = {kind: max(1, round(share * labelled)) for kind, share in PLANTED_SHARES.items()}
    counts["foreign"] = max(2, counts["foreign"])  # one alone shares its mask with nobody
    extra = sum(n for kind, n in counts.items() if kind != "wrong-label")
    rng = np.random.default_rng([seed, 0])
    tissue = list(_tissue(rng, "train", count=labelled - extra, seed=seed, side_px=side_px))
    numbers = rng.permutation(labelled)
    tissue = [replace(image, number=int(n)) for image, n in zip(tissue, numbers, strict=False)]
    chosen = {int(i) for i in rng.choice(len(tissue), counts["wrong-label"], replace=False)}
    tissue = [replace(m, given=_other(rng, m.true)) if i in chosen else m for i, m in enumerate(tissue)]
    untouched = [m for i, m in enumerate(tissue) if i not in chosen]
    rest = [int(n) for n in numbers[len(tissue) :]]
    # Foreign, painted and blank images and copies, each in a case of its own; every copy has another source.
    pool = [untouched[int(i)] for i in rng.permutation(len(untouched))]
    planted = []
    for kind in ("foreign", "painted", "blank", "exact-duplicate", "near-duplicate"):
        for way in range(counts[kind]):
            number = rest.pop()
            own, case = (seed, 0, 3, number), f"{kind} {way}"
            if kind in ("foreign", "blank"):
                label = str(rng.choice(list(CLASS_SHARES), p=list(CLASS_SHARES.values())))
                shape = FOREIGN_SHAPE if kind == "foreign" else _side(rng, side_px)
                planted.append(ImagePlan("train", number, kind, label, "", case, None, shape, own, way=way))
                continue
            source = pool.pop()
            contradicts = way == 0 and kind != "painted"
            given = _other(rng, source.true) if contradicts else source.given
            copy = replace(
                source, number=number, kind=kind, given=given, case=case, seed=own, source=source.number,
                way=way % len(NEAR_WAYS),
            )  # fmt: skip
            planted.append(copy)
    train = sorted([*tissue, *planted], key=lambda image: image.number)
    rng = np.random.default_rng([seed, 1])
    test = list(_tissue(rng, "test", count=unlabelled, seed=seed, side_px=side_px))
    shuffled = [replace(image, number=int(n)) for image, n in zip(test, rng.permutation(unlabelled), strict=True)]
    return CohortPlan(_name_cases(train), _name_cases(sorted(shuffled, key=lambda image: image.number)))


def _name_cases(images: list[ImagePlan]) -> tuple[ImagePlan, ...]:
    """Number the cases in the order in which they appear, so that a name says nothing about its class."""
    names: dict[str, str] = {}
    for image in images:
        names.setdefault(image.case, f"case_{len(names):03d}")
    return tuple(replace(image, case=names[image.case]) for image in images)


def class_counts(n: int) -> dict[str, int]:
    """Split ``n`` over the classes by `CLASS_SHARES`: largest remainders, and two of each where ``n`` allows."""
    least = min(2, n // len(CLASS_SHARES))
    exact = {name: least + share * (n - least * len(CLASS_SHARES)) for name, share in CLASS_SHARES.items()}
    if all(share * n >= least for share in CLASS_SHARES.values()):
        exact = {name: share * n for name, share in CLASS_SHARES.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: n - sum(counts.values())]:
        counts[name] += 1
    return counts


def _side(rng: np.random.Generator, side_px: tuple[int, int]) -> tuple[int, int]:
    height, width = (int(v) for v in rng.integers(side_px[0], side_px[1] + 1, 2))
    return height, width


def _tissue(
    rng: np.random.Generator, part: str, *, count: int, seed: int, side_px: tuple[int, int]
) -> Iterator[ImagePlan]:
    """Yield clean tissue images, some two to a case, with increasing numbers."""
    code = ("train", "test").index(part)
    number = case = 0
    for label, images in class_counts(count).items():
        labs: list[int] = []
        left = images
        while left:
            labs = labs or [int(v) for v in rng.permutation(len(LABORATORIES))]
            lab = labs.pop()
            size = min(left, 2 if rng.random() < _PAIRED else 1)
            for _ in range(size):
                shape = _side(rng, side_px)
                own = (seed, code, 1, number)
                drawn = TissuePlan(own, (seed, code, 2, case), shape, label, lab)
                yield ImagePlan(part, number, "tissue", label, label, f"tissue {case}", drawn, shape, own)
                number += 1
            case += 1
            left -= size


def _other(rng: np.random.Generator, label: str) -> str:
    """Return any class but ``label``."""
    return str(rng.choice([name for name in CLASS_SHARES if name != label]))
