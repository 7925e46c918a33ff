"""Checks of the samples of a cohort, whatever the layout: pixels, masks, labels, classes."""

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
from .masks.values import Seen
from .result import Candidate, LayoutResult, format_setting
from .tables.names import natural_key

Progress = Callable[[int, int], None]
FORMULA_SIGNS = tuple("=+-@＝＋－＠")  # the wide ones are made narrow by some spreadsheets
MOST_WORKERS = 8  # each holds one decoded image, and one of them at most a large one, of up to 0.7 GB
_large_lock = threading.Lock()


def check_files(
    candidates: Sequence[Candidate],
    root: Path,
    *,
    largest: dict[Path, int],
    seen: dict[str, Seen],
    progress: Progress | None = None,
) -> list[Problem]:
    """Decode every image and mask, in threads (decoders work outside the interpreter lock), and return the problems.

    ``largest`` gets the largest value of each file that does not say how many bits of its 16-bit values are in use,
    ``seen`` what was found of each mask that can be read, by the name of its image.
    """
    problems: list[Problem] = []
    with ThreadPoolExecutor(min(MOST_WORKERS, os.cpu_count() or 1)) as pool:
        checked = pool.map(lambda candidate: _check_candidate(candidate, root, largest=largest, seen=seen), candidates)
        for done, found in enumerate(checked, start=1):
            problems += found
            if progress is not None:
                progress(done, len(candidates))
    return problems


def _check_candidate(
    candidate: Candidate, root: Path, *, largest: dict[Path, int], seen: dict[str, Seen]
) -> list[Problem]:
    sample = candidate.sample
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
    """Return held while a large file is decoded; nothing to wait for with others.

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


def check_masks_present(candidates: Iterable[Candidate], reported: Iterable[Problem]) -> list[Problem]:
    """Return images without a mask where others of their part have one; a whole part without masks is one warning."""
    known = {name for p in reported if p.code.startswith(("mask-", "path-", "ambiguous-")) for name in p.images}
    parts: dict[bool, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        parts[candidate.test].append(candidate)
    masked = {test: any(d.sample.mask_path for d in part) for test, part in parts.items()}
    bare = [d for part in parts.values() for d in part if d.sample.mask_path is None]
    message, fix = "has no mask, while other images have one.", "add its mask"
    problems = [
        Problem("mask-missing", d.sample.image, message, fix, (d.sample.image,))
        for d in bare
        if masked[d.test] and d.sample.image not in known
    ]
    if len(masked) == 2 and masked[True] != masked[False]:
        first = next(d for d in bare if not masked[d.test])
        message = f"and all others of the {'part to predict' if first.test else 'labelled part'} have no mask."
        fix = "add masks there too, or expect whole images to be compared with masked ones"
        problems.append(Problem("mask-missing", first.sample.image, message, fix, warning=True))
    return problems


def account_masks(folder: Folder, result: LayoutResult) -> None:
    """Note masks that were found by a name alone, and report those that no image has, folder by folder.

    ``truth/`` is never looked into.
    """
    read = {d.sample.image for d in result.candidates}
    if not read:
        return  # why, is said already
    known = {path for d in result.candidates for path in d.sample.files}
    # What is wrong with an image that is there and not read is said of the image.
    known |= {folder.files[m] for image, masks in folder.pairs.of.items() if image not in read for m in masks}
    if loose := [name for name in sorted(folder.pairs.loose) if folder.files[name] in known]:
        result.notes.append(f"{len(loose)} masks such as {loose[0]} belong to the only image of their name")
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
        result.report("mask-without-image", names[0], message=message, fix=fix, warning=True)


def check_labels(candidates: Iterable[Candidate]) -> list[Problem]:
    """Return the problems of labels that are empty, or there only in one part, or spelt in two ways."""
    problems: list[Problem] = []
    trained = [d for d in candidates if not d.test]
    parts: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in trained:
        parts[candidate.part].append(candidate)
    for part, group in parts.items():
        empty = [d for d in group if d.sample.label is None]
        if not empty or len(empty) == len(trained):  # all of them: see `check_classes`
            continue
        where = empty[0].where + (f" and {len(empty) - 1} more" if len(empty) > 1 else "")
        names = tuple(d.sample.image for d in empty)
        listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        texts = list(dict.fromkeys(d.label_text for d in empty if d.label_text))
        if part and len(empty) == len(group):
            code, message = "label-part", f"no row of part '{part}' has a label ({listed}); other parts have."
            fix = f"fill the labels of '{part}', or call the part 'test' if it is to be predicted"
        else:
            said = f": {' and '.join(repr(text) for text in texts)} is read as none" if texts else ""
            code, message = "label-empty", f"has no label ({listed}){said}."
            fix = "fill the label, or write 'test' in a column 'part' if it is to be predicted"
            fix += f", or, where it is a class: {format_setting('real_labels', texts)}" if texts else ""
        problems.append(Problem(code, where, message, fix, names))
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for candidate in trained:
        if candidate.sample.label is not None:
            plain = unicodedata.normalize("NFKC", candidate.sample.label).casefold().replace("_", " ")
            spellings[" ".join(plain.split())][candidate.sample.label] += 1
    for counts in (c for c in spellings.values() if len(c) > 1):
        listed = " and ".join(f"'{label}' ({n})" for label, n in counts.most_common())
        where = next(d.where for d in trained if d.sample.label == counts.most_common()[-1][0])
        message, fix = f"the labels {listed} differ only in spelling.", "write them alike if they mean the same"
        problems.append(Problem("label-spelling", where, message, fix, warning=True))
    return problems


def check_texts(candidates: Iterable[Candidate]) -> list[Problem]:
    """Return the problems of texts that no table can hold, or that a spreadsheet would carry out as a formula."""
    problems: list[Problem] = []
    formulas: dict[str, Candidate] = {}
    for candidate in candidates:
        sample = candidate.sample
        texts = {"label": sample.label or "", "case": sample.case, "name": sample.index, "image": sample.image}
        for kind, text in texts.items():
            if not is_plain(text):
                message = f"{kind} '{text}' holds control signs, such as a line break."
                problems.append(Problem("text", candidate.where, message, "write it without them", (sample.image,)))
            elif text[:1] in FORMULA_SIGNS and not re.fullmatch(r"[+-]?[0-9.]*", text):
                formulas.setdefault(text, candidate)
    if formulas:
        text, candidate = next(iter(formulas.items()))
        message = (
            f"'{text}' begins with '{text[0]}': a spreadsheet that opens a table with it carries it out as a formula"
        )
        others = f" (so do {len(formulas) - 1} more texts)" if len(formulas) > 1 else ""
        fix = "give it another beginning, or import tables of this data as text"
        problems.append(Problem("formula", candidate.where, f"{message}{others}.", fix, warning=True))
    return problems


def check_classes(candidates: Iterable[Candidate], *, min_cases: int, left_out: int) -> list[Problem]:
    """Report what the remaining samples lack: labels, two classes, enough cases of each for folds."""
    cases: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for candidate in candidates:
        if not candidate.test and candidate.sample.label is not None:
            cases[candidate.sample.label][candidate.sample.case].append(candidate.sample.image)
    after = f" once the {left_out} images above are left out" if left_out else ""
    if not cases:
        fix = "fill the column of labels of the part to learn from"
        return [Problem("no-labels", "the labels", f"no image has a label{after}.", fix)]
    problems = []
    for label, found in cases.items():
        if len(found) < min_cases:
            message = f"has {len(found)} case(s){after}; every fold needs one to learn from and one to score"
            fix = "add cases of this class, merge it with another, or leave it out with --skip-problems"
            names = tuple(name for names in found.values() for name in names)
            problems.append(Problem("few-cases", f"class '{label}'", f"{message}, so {min_cases}.", fix, names))
    if len(cases) == 1:
        fix = "add images of a second class, or check the column of labels"
        problems.append(Problem("one-class", f"class '{next(iter(cases))}'", f"is the only class{after}.", fix))
    return problems
