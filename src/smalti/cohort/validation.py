"""What can be wrong with the samples of a cohort, whatever the layout: pixels, masks, labels, classes."""

from __future__ import annotations

import math
import os
import re
import threading
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath

from .. import images
from ..errors import DataError, MissingExtraError, Problem, is_plain
from .folder import Folder
from .masks.meaning import Seen
from .reading import Draft, Reading, write_setting
from .tables.names import natural_key

Progress = Callable[[int, int], None]
FORMULA_SIGNS = tuple("=+-@＝＋－＠")  # the wide ones are made narrow by some spreadsheets
MOST_WORKERS = 8  # each holds one decoded image, and one of them at most a large one, of up to 0.7 GB
_large_lock = threading.Lock()


def check_files(
    drafts: Sequence[Draft],
    root: Path,
    *,
    largest: dict[Path, int],
    seen: dict[str, Seen],
    progress: Progress | None = None,
) -> list[Problem]:
    """Decode every image and mask, in threads (decoders work outside the interpreter lock).

    ``largest`` gets the largest value of each file that does not say how many bits of its 16-bit values are in use,
    ``seen`` what was found of each mask that can be read, by the name of its image.
    """
    problems: list[Problem] = []
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        checked = pool.map(lambda draft: _check_draft(draft, root, largest=largest, seen=seen), drafts)
        for done, found in enumerate(checked, start=1):
            problems += found
            if progress is not None:
                progress(done, len(drafts))
    return problems


def _check_draft(draft: Draft, root: Path, *, largest: dict[Path, int], seen: dict[str, Seen]) -> list[Problem]:
    sample = draft.sample
    problems: list[Problem] = []
    size_px: tuple[int, int] | None = None
    try:
        with _wait_turn(sample.path):
            size_px = images.check_image(sample.path, doubts=problems, largest=largest)
    except (DataError, MissingExtraError) as error:
        problems.append(_describe_failure(error, sample.image, image=sample.image))
    # What was read by a rule is told of the cohort, not held against each image.
    problems = [
        replace(p, file=sample.image, images=() if p.code in images.RULES else (sample.image,)) for p in problems
    ]
    if sample.mask_path is None:
        return problems
    try:
        with _wait_turn(sample.mask_path):
            facts = images.survey_mask(sample.mask_path, reading=sample.mask_reading, most_px=images.WHOLE_PX)
        if size_px is not None:
            seen[sample.image] = Seen(facts, size_px, images.read_orientation(sample.path))
    except (DataError, MissingExtraError) as error:
        about = error.problems[0].file if isinstance(error, DataError) else str(sample.mask_path)
        failure = _describe_failure(error, Path(about).relative_to(root).as_posix(), image=sample.image)
        problems.append(replace(failure, code=f"mask-{failure.code.removeprefix('mask-')}"))
    return problems


def _wait_turn(path: Path) -> AbstractContextManager[object]:
    """Held while a large file is decoded; nothing to wait for with others.

    Raises:
        DataError, MissingExtraError: as `smalti.images.read_size`.
    """
    return _large_lock if math.prod(images.read_size(path)) > images.WHOLE_PX else nullcontext()


def _describe_failure(error: DataError | MissingExtraError, file: str, *, image: str) -> Problem:
    if isinstance(error, DataError):
        return replace(error.problems[0], file=file, images=(image,))
    return Problem(
        "missing-extra", file, "is a whole-slide file and needs OpenSlide.", "pip install 'smalti[openslide]'", (image,)
    )


def check_masks_present(drafts: Iterable[Draft], reported: Iterable[Problem]) -> list[Problem]:
    """Images without a mask where others of their part have one; a whole part without masks is one warning."""
    known = {name for p in reported if p.code.startswith(("mask-", "path-", "ambiguous-")) for name in p.images}
    parts: dict[bool, list[Draft]] = defaultdict(list)
    for draft in drafts:
        parts[draft.test].append(draft)
    masked = {test: any(d.sample.mask_path for d in part) for test, part in parts.items()}
    problems = [
        Problem(
            "mask-missing",
            d.sample.image,
            "has no mask, while other images have one.",
            "add its mask",
            (d.sample.image,),
        )
        for test, part in parts.items()
        if masked[test]
        for d in part
        if d.sample.mask_path is None and d.sample.image not in known
    ]
    if len(masked) == 2 and masked[True] != masked[False]:
        bare = "part to predict" if masked[False] else "labelled part"
        first = next(d for d in parts[masked[False]] if d.sample.mask_path is None)
        problems.append(
            Problem(
                "mask-missing",
                first.sample.image,
                f"and all others of the {bare} have no mask.",
                "add masks there too, or expect whole images to be compared with masked ones",
                warning=True,
            )
        )
    return problems


def account_masks(folder: Folder, reading: Reading) -> None:
    """Note masks that were found by a name alone, and report those that no image has, folder by folder.

    ``truth/`` is never looked into.
    """
    read = {d.sample.image for d in reading.drafts}
    if not read:
        return  # why, is said already
    known = {path for d in reading.drafts for path in d.sample.files}
    # What is wrong with an image that is there and not read is said of the image.
    known |= {folder.files[m] for image, masks in folder.pairs.of.items() if image not in read for m in masks}
    if loose := [name for name in sorted(folder.pairs.loose) if folder.files[name] in known]:
        reading.notes.append(f"{len(loose)} masks such as {loose[0]} belong to the only image of their name")
    idle: dict[str, list[str]] = defaultdict(list)
    for name in sorted(folder.pairs.names, key=natural_key):
        if folder.files[name] not in known and not name.startswith("truth/"):
            idle[PurePosixPath(name).parent.as_posix()].append(name)
    for below, names in idle.items():
        message = "is a mask, but its image is not there."
        if len(names) > 1:
            where = "in the data folder" if below == "." else f"in {below}/"
            message = f"and {len(names) - 1} more {where} look like masks, and no image that is read has them."
        fix = "name masks as their images (masks/NAME.png, NAME_mask.png), name the column that lists them "
        fix += "(--set data.mask=COLUMN), or move them away"
        reading.report("mask-without-image", names[0], message=message, fix=fix, warning=True)


def check_labels(drafts: Iterable[Draft]) -> list[Problem]:
    """Labels that are empty, or there only in one part, or spelt in two ways."""
    problems: list[Problem] = []
    trained = [d for d in drafts if not d.test]
    parts: dict[str, list[Draft]] = defaultdict(list)
    for draft in trained:
        parts[draft.part].append(draft)
    for part, group in parts.items():
        empty = [d for d in group if d.sample.label is None]
        if empty and len(empty) < len(trained):  # all of them: see `check_classes`
            problems.append(_describe_empty(part, group, empty=empty))
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for draft in trained:
        if draft.sample.label is not None:
            plain = unicodedata.normalize("NFKC", draft.sample.label).casefold().replace("_", " ")
            spellings[" ".join(plain.split())][draft.sample.label] += 1
    for counts in (c for c in spellings.values() if len(c) > 1):
        listed = " and ".join(f"'{label}' ({n})" for label, n in counts.most_common())
        where = next(d.where for d in trained if d.sample.label == counts.most_common()[-1][0])
        problems.append(
            Problem(
                "label-spelling",
                where,
                f"the labels {listed} differ only in spelling.",
                "write them alike if they mean the same",
                warning=True,
            )
        )
    return problems


def check_texts(drafts: Iterable[Draft]) -> list[Problem]:
    """Labels, cases and names that no table can hold, or that a spreadsheet would carry out as a formula."""
    problems: list[Problem] = []
    formulas: dict[str, Draft] = {}
    for draft in drafts:
        sample = draft.sample
        texts = {"label": sample.label or "", "case": sample.case, "name": sample.index, "image": sample.image}
        for kind, text in texts.items():
            if not is_plain(text):
                problems.append(
                    Problem(
                        "text",
                        draft.where,
                        f"{kind} '{text}' holds control signs, such as a line break.",
                        "write it without them",
                        (sample.image,),
                    )
                )
            elif text[:1] in FORMULA_SIGNS and not re.fullmatch(r"[+-]?[0-9.]*", text):
                formulas.setdefault(text, draft)
    if formulas:
        text, draft = next(iter(formulas.items()))
        message = (
            f"'{text}' begins with '{text[0]}': a spreadsheet that opens a table with it carries it out as a formula"
        )
        others = f" (so do {len(formulas) - 1} more texts)" if len(formulas) > 1 else ""
        fix = "give it another beginning, or import tables of this data as text"
        problems.append(Problem("formula", draft.where, f"{message}{others}.", fix, warning=True))
    return problems


def _describe_empty(part: str, group: list[Draft], *, empty: list[Draft]) -> Problem:
    where = empty[0].where + (f" and {len(empty) - 1} more" if len(empty) > 1 else "")
    names = tuple(d.sample.image for d in empty)
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if part and len(empty) == len(group):
        return Problem(
            "label-part",
            where,
            f"no row of part '{part}' has a label ({listed}); other parts have.",
            f"fill the labels of '{part}', or call the part 'test' if it is to be predicted",
            names,
        )
    texts = list(dict.fromkeys(d.label_text for d in empty if d.label_text))
    said = f": {' and '.join(repr(text) for text in texts)} is read as none" if texts else ""
    chosen = f", or, where it is a class: {write_setting('real_labels', texts)}" if texts else ""
    return Problem(
        "label-empty",
        where,
        f"has no label ({listed}){said}.",
        f"fill the label, or write 'test' in a column 'part' if it is to be predicted{chosen}",
        names,
    )


def check_classes(drafts: Iterable[Draft], *, min_cases: int, left_out: int) -> list[Problem]:
    """Whether what remains can be learnt from: labels, two classes, enough cases of each for folds."""
    cases: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for draft in drafts:
        if not draft.test and draft.sample.label is not None:
            cases[draft.sample.label][draft.sample.case].append(draft.sample.image)
    after = f" once the {left_out} images above are left out" if left_out else ""
    if not cases:
        return [
            Problem(
                "no-labels",
                "the labels",
                f"no image has a label{after}.",
                "fill the column of labels of the part to learn from",
            )
        ]
    problems = [
        Problem(
            "few-cases",
            f"class '{label}'",
            f"has {len(found)} case(s){after}; every fold needs one to learn from and one to score, so {min_cases}.",
            "add cases of this class, merge it with another, or leave it out with --skip-problems",
            tuple(name for names in found.values() for name in names),
        )
        for label, found in cases.items()
        if len(found) < min_cases
    ]
    if len(cases) == 1:
        problems.append(
            Problem(
                "one-class",
                f"class '{next(iter(cases))}'",
                f"is the only class{after}.",
                "add images of a second class, or check the column of labels",
            )
        )
    return problems
