"""Draw a planned cohort into a folder, in the challenge layout, on several processes."""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from ..process import settle_process
from ..store.leftovers import name_temporary, remove_leftovers
from .field import draw_tissue
from .plan import CLASS_SHARES, CohortPlan, ImagePlan, plan_cohort
from .planted import NEAR_WAYS, draw_blank, draw_foreign, foreign_mask, nearly_copy, paint_slime
from .shapes import Byte

Progress = Callable[[int, int], None]

# Tissue has grain, in which deflate finds hardly any repeats. Run lengths alone, after one filter, take half the time
# to write, two thirds to read, and 5 % more bytes.
PNG_OPTIONS = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
)


def draw_cohort(
    folder: Path,
    *,
    seed: int = 0,
    labelled: int = 160,
    unlabelled: int = 60,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Draw a synthetic cohort with known truth in the challenge layout.

    Four molecular subtypes, imbalanced, differ in size, density and pleomorphism of the nuclei inside the mask and
    nowhere else. Among the labelled images are foreign pictures, painted and blank ones, copies and wrong labels.
    ``folder/truth/`` says which; nothing else in smalti reads it.

    Args:
        folder: where to; must not exist or be empty.
        seed: same seed, same bytes, whatever the number of workers.
        labelled: images with a label, planted ones included.
        unlabelled: images of the test part.
        workers: processes; None takes one per CPU.
        progress: called with (images done, all images).

    Returns:
        ``folder``.

    Raises:
        DataError: ``folder`` holds something already.
        RecipeError: too few images for all that is planted.
    """
    plan = plan_cohort(seed=seed, labelled=labelled, unlabelled=unlabelled)
    return draw_plan(plan, folder, workers=workers, progress=progress)


def draw_plan(plan: CohortPlan, folder: Path, *, workers: int | None = None, progress: Progress | None = None) -> Path:
    """Draw a plan into ``folder``; it appears whole or not at all. See `draw_cohort`."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"cannot draw a cohort into {folder}: it exists and is not an empty folder",
            fix="name a new folder, or delete this one",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    draft = name_temporary(folder.parent)
    try:
        for part in ("train_data", "test_data", "truth"):
            (draft / part).mkdir(parents=True)
        drawn = [*plan.train, *plan.test]  # each depends on its own plan only
        count = min(workers or os.cpu_count() or 1, len(drawn))
        if count == 1:
            _count((_draw_one(draft, image) for image in drawn), len(drawn), progress=progress)
        else:
            # spawn: a fork would copy the locks of whatever threads the caller has
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker) as pool:
                _count(pool.map(_draw_one, [draft] * len(drawn), drawn, chunksize=2), len(drawn), progress=progress)
        header = ("sample_index", "label")
        placeholder = next(iter(CLASS_SHARES))  # the sample names a class in every row; it is no answer
        _write_csv(draft / "train_labels.csv", header, rows=((i.index, i.given) for i in plan.train))
        _write_csv(draft / "sample_submission.csv", header, rows=((i.index, placeholder) for i in plan.test))
        _write_csv(draft / "cases.csv", ("sample_index", "case"), rows=((i.index, i.case) for i in plan.train))
        _write_csv(draft / "truth" / "test_labels.csv", header, rows=((i.index, i.given) for i in plan.test))
        _write_csv(draft / "truth" / "planted.csv", ("image", "kind", "detail"), rows=plan.planted)
        if folder.exists():
            folder.rmdir()  # empty, as checked; not every system renames over a folder
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder


def _begin_worker() -> None:
    cv2.setNumThreads(1)
    settle_process()


def _count(done: Iterable[str], total: int, *, progress: Progress | None) -> None:
    for number, _ in enumerate(done, start=1):
        if progress is not None:
            progress(number, total)


def _draw_one(folder: Path, plan: ImagePlan) -> str:
    """Write the image and the mask of one plan; runs in a worker. Returns the name."""
    image, mask = draw_image(plan)
    _write_png(folder / plan.name, np.ascontiguousarray(image[..., ::-1]))  # OpenCV writes BGR
    _write_png(folder / plan.mask_name, mask)
    return plan.name


def draw_image(plan: ImagePlan) -> tuple[Byte, Byte]:
    """Draw one planned image, (H, W, 3) RGB, and its mask, (H, W) with 0 and 255."""
    rng = np.random.default_rng([*plan.seed, 9])
    if plan.kind == "foreign":
        return draw_foreign(rng, plan.way), foreign_mask()
    if plan.tissue is None:
        return draw_blank(rng, plan.shape)
    image, mask = draw_tissue(plan.tissue)
    if plan.kind == "painted":
        return paint_slime(rng, image), mask
    if plan.kind == "near-duplicate":
        return nearly_copy(image, mask, rng=rng, way=NEAR_WAYS[plan.way])
    return image, mask


def _write_png(path: Path, pixels: Byte) -> None:
    _, coded = cv2.imencode(".png", pixels, PNG_OPTIONS)
    path.write_bytes(coded.tobytes())


def _write_csv(path: Path, header: Sequence[str], *, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
