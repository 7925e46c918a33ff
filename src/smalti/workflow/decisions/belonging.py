"""Which decisions and seals belong to a data folder: those about what its images hold, whatever it is called.

Both lie beside the runs under the last name of the data folder, which several folders may share and one folder may
change. So each is kept with hashes of the images that it is about, and nothing acts on an image that it was not about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ...audit import Audit, hold_decisions, read_decisions, settle_decisions, validate_decisions, write_decisions
from ...errors import DataError, Problem, RecipeError, RunError
from ...logbook.seal import (
    Seal,
    apply_seal,
    extend_seal,
    find_seal,
    find_sealed,
    hash_sealed,
    list_seals,
    make_seal,
    read_seal,
    write_seal,
)
from ...project import CACHE, Project
from ...records import CohortRecord
from ...records.layout import COHORT, DECISIONS_SUFFIX, HASHES
from ...store import hash_files, hash_text, name_apart, read_memo
from ...types import Cohort, Content, Decision


@dataclass(frozen=True, slots=True)
class Sealing:
    """A cohort under all seals that hold images of it, and where these seals are, its own first."""

    cohort: Cohort
    seals: tuple[Path, ...] = ()


def find_decisions(project: Project) -> Path:
    """Return the file of decisions that the project names, or where those about its data folder are kept.

    ``RUNS/<data>.decisions.csv``, unless that file is about another folder of this last name: then a file of its own.
    A file of another name is taken where all that it decides about is here, as after a folder was renamed.

    Raises:
        DataError: nothing tells which of several folders the file is about.
    """
    if project.decisions is not None:
        return project.decisions
    root, runs, say = project.data.resolve(), project.runs, project.listener.say
    plain, apart = (runs / f"{name}{DECISIONS_SUFFIX}" for name in (root.name, name_apart(root)))
    if not apart.is_file() and plain.is_file() and _is_about(plain, root):
        return plain
    shared = []
    for path in [] if apart.is_file() else sorted(runs.glob(f"*{DECISIONS_SUFFIX}")):
        rows = tuple(settle_decisions(read_decisions(path)).values())
        if rows and all(row.content for row in rows) and all(_are_here(rows, root, runs)):
            shared.append(path)
    if len(shared) > 1:
        names = " and ".join(str(path) for path in shared)
        raise DataError(f"both {names} decide about images of {project.data}", fix="name one with --decisions")
    if shared:
        say(f"the decisions in {shared[0]} are about these images, and are followed")
        return shared[0]
    if not plain.is_file() and not apart.is_file():
        return plain
    if plain.is_file():
        say(f"{plain} is about another folder and is not followed; decisions about {root} are in {apart}")
    return apart


def _is_about(path: Path, root: Path) -> bool:
    """Whether a file of a folder's last name is about this one, as far as hashes tell.

    Raises:
        DataError: there are none, and another folder of this name holds other images under the names in it.
    """
    rows = read_decisions(path)
    marked = [row for row in rows if row.content]
    if marked:
        return any(row.folder == str(root) for row in marked) or any(_are_here(marked, root, path.parent))
    named = [row.image for row in settle_decisions(rows).values()]
    for other in _list_roots(path.parent):
        if other == root or other.name != root.name:
            continue
        theirs, ours = (_hash_named(where, named, runs=path.parent) for where in (other, root))
        if differing := [image for image in named if image in theirs and theirs[image] != ours.get(image)]:
            raise DataError(
                f"nothing tells whether {path} is about {root} or about {other}: both have a name that is in it, "
                f"'{differing[0]}', for other images",
                fix=(
                    f"'smalti audit {root} --decisions {path}' says that it is "
                    f"about the first (the other folder in its place, about the other), or give it another name"
                ),
            )
    return True


def _are_here(rows: Collection[Decision], root: Path, runs: Path) -> list[bool]:
    """Whether the folder holds, under its name, the image that each row was about."""
    found = _hash_named(root, {row.image for row in rows}, runs=runs)
    return [found.get(row.image) == row.content for row in rows]


def _hash_named(root: Path, images: Iterable[str], *, runs: Path) -> dict[str, str]:
    paths = {image: root / image for image in images if (root / image).is_file()}
    hashes = hash_files(paths.values(), memo=runs / CACHE / HASHES)
    return {image: hashes[path] for image, path in paths.items()}


def _list_roots(runs: Path) -> dict[Path, list[str]]:
    """Data folder -> runs beside each other that were made on it."""
    found: dict[Path, list[str]] = {}
    for path in sorted(runs.glob(f"*/{COHORT}")):
        with suppress(RunError):
            found.setdefault(Path(CohortRecord.read(path.parent).root), []).append(path.parent.name)
    return found


def read_contents(project: Project, cohort: Cohort, seen: Audit, *, unusable: Collection[str]) -> dict[str, Content]:
    """Return image -> its content, also of images that could not be read; no entry where there is no file."""
    known = {} if seen.digest is None else {d.image: Content(d.file_hash, d.pixel_hash) for d in seen.digest.images}
    paths = {s.image: s.path for s in cohort.samples} | {image: cohort.root / image for image in unusable}
    paths = {image: path for image, path in paths.items() if image not in known and path.is_file()}
    hashes = hash_files(paths.values(), memo=project.cache / HASHES)
    rows = {s.image: s.bag for s in cohort.samples if s.bag is not None}  # of one table
    return known | {
        image: Content(hashes[path] if image not in rows else hash_text(hashes[path], str(rows[image])))
        for image, path in paths.items()
    }


def mark_decisions(
    decisions: Iterable[Decision], contents: Mapping[str, Content], *, root: Path
) -> tuple[Decision, ...]:
    """Rows with the content that they are about, where they do not say it already."""
    return tuple(
        replace(d, content=contents[d.image].file, folder=str(root.resolve()))
        if not d.content and d.image in contents
        else d
        for d in decisions
    )


def bind_decisions(
    project: Project,
    decisions: tuple[Decision, ...],
    cohort: Cohort,
    *,
    contents: Mapping[str, Content],
    unusable: Collection[str],
    bound: Mapping[str, tuple[str, ...]],
) -> tuple[Decision, ...]:
    """Return the decisions that act on this cohort, each with the content that it is about.

    Rows without one, as a person writes them, are taken as about this folder; that is said, and they get it now.
    Rows that were made in another folder about images that are not in this one do nothing here; that is said too.

    Args:
        project: its file of decisions is the one that they are from.
        decisions: all rows of that file.
        contents: of all images that have a file.
        unusable: images of the folder that are not in the cohort.
        bound: image -> all images of its case, where these share their label.

    Raises:
        DataError: with every row that cannot be followed: see `validate_decisions`; an image that changed since.
    """
    names, root = {s.image for s in cohort.samples} | set(unusable), cohort.root.resolve()
    path, say = find_decisions(project), project.listener.say
    elsewhere = {d.image for d in decisions if d.content and d.folder != str(root)} - names
    gone = {d.image for d in decisions if d.content} - names - elsewhere
    problems = _check_contents(decisions, contents, names=names, gone=gone, path=path)
    try:
        validate_decisions(decisions, images=names | elsewhere | gone, classes=cohort.classes, bound=bound)
    except DataError as error:
        problems += error.problems
    if problems:
        raise DataError(f"{len(problems)} rows of {path} cannot be followed", problems)
    if elsewhere:
        first = min(elsewhere)
        say(f"{len(elsewhere)} images in {path} are not in {root}, such as {first}: that does nothing here")
    marked = mark_decisions(decisions, contents, root=root)
    if number := sum(new is not old for new, old in zip(marked, decisions, strict=True)):
        said = f"{number} decision(s) in {path} had no fingerprint of their images; taken as about {root}"
        if path.resolve().is_relative_to(root):
            say(said)  # the data folder is never written to
        else:
            with hold_decisions(path):
                write_decisions(path, mark_decisions(read_decisions(path), contents, root=root))
            say(f"{said}, and fingerprinted now")
    return tuple(d for d in marked if d.image not in elsewhere)


def _check_contents(
    decisions: Iterable[Decision],
    contents: Mapping[str, Content],
    *,
    names: Collection[str],
    gone: Collection[str],
    path: Path,
) -> list[Problem]:
    """Each row that acts and is about another image than the one that has its name now."""
    rows = {decision.image: row for row, decision in enumerate(decisions, start=2)}
    now_called = {content.file: image for image, content in contents.items()}
    problems = []
    for image, made in settle_decisions(decisions).items():
        where = f"{path.name} row {rows[image]}"
        if image in gone:
            moved = now_called.get(made.content)
            fix = f"write '{moved}', which holds this image now" if moved else "remove the row, or bring the image back"
            problems.append(Problem("decision-image", where, f"the data folder has no image '{image}'.", fix))
        elif made.content and image in names and image in contents and contents[image].file != made.content:
            message = f"'{image}' is another image than the one that was decided about in {made.folder}, or changed."
            fix = f"bring that image back, or remove the row (or add '{image},reset' below) and decide anew"
            problems.append(Problem("decision-content", where, message, fix))
    return problems


def seal_cohort(project: Project, cohort: Cohort, *, contents: Mapping[str, Content], share: float) -> Sealing:
    """Return the cohort under every seal that holds an image of it; a new one is made where the recipe asks for it.

    Args:
        project: its runs hold the seals.
        cohort: duplicates joined into one case.
        contents: image -> what it holds.
        share: of the cases that the recipe wants sealed.

    Raises:
        RecipeError: another share than that of the folder's seal.
        DataError: a class is sealed whole.
    """
    path, say = find_seal(project), project.listener.say
    seals = _read_seals(path, memo=project.cache / HASHES)
    if any(seal.pixels for seal in seals.values()) and not any(content.pixels for content in contents.values()):
        say("no check of the audit reads pixels: copies of sealed images in other files are not recognised")
    held = {where: _find_held(project, cohort, seal, where, contents) for where, seal in seals.items()}
    held = {where: images for where, images in held.items() if images}
    files = {content.file for content in contents.values()}
    whole = [where for where in held if where == path or files.issuperset(seals[where].files)]
    if whole and share not in (0, seals[whole[0]].share):
        raise RecipeError(
            f"{whole[0]} seals {seals[whole[0]].share:.0%} of the cases, the recipe asks for {share:.0%}; a seal is "
            f"not moved",
            fix=f"--set split.sealed_frac={seals[whole[0]].share:g}",
        )
    if share > 0 and not whole:
        outside = apply_seal(cohort, frozenset().union(*held.values()))
        seals[path], held[path] = _make_seal(project, outside, path, contents, share=share)
    if not held:
        return Sealing(cohort)
    closed = apply_seal(cohort, frozenset().union(*held.values()))
    say(f"{len(closed.sealed)} images are sealed; 'smalti compare --open-seal' opens them")
    if path in held and seals[path].data == str(closed.root.resolve()):
        # What was sealed with a case since is kept: in a copy of the folder nothing else would tell.
        cases = {s.case for s in closed.sealed if s.image in held[path]}
        more = extend_seal(seals[path], [s.image for s in closed.sealed if s.case in cases], contents, cases=cases)
        if more != seals[path]:
            write_seal(path, more)
    if lost := sorted({str(s.label) for s in cohort.labelled} - {str(s.label) for s in closed.labelled}):
        raise DataError(
            f"every case of {', '.join(lost)} in {cohort.root} is sealed ({', '.join(map(str, held))}): nothing is "
            "left to learn from",
            fix="add cases of it that are not sealed",
        )
    return Sealing(closed, tuple(sorted(held, key=lambda where: (where not in whole, where))))


def _read_seals(path: Path, *, memo: Path) -> dict[Path, Seal]:
    """The seal at a path and all that lie beside it; those that are older than hashes get them where files are left."""
    found = list_seals(path.parent)
    if (own := read_seal(path)) is not None:
        found[path] = own
    for where, seal in found.items():
        found[where] = hash_sealed(seal, memo=memo)
        if found[where] != seal:
            write_seal(where, found[where])
    return found


def _find_held(
    project: Project, cohort: Cohort, seal: Seal, where: Path, contents: Mapping[str, Content]
) -> frozenset[str]:
    """Return the labelled images that a seal holds; what it means for another folder than its own is said."""
    root, names, say = cohort.root.resolve(), {s.image for s in cohort.samples}, project.listener.say
    if seal.data == str(root):
        found = find_sealed(cohort, seal, contents)
        if not found:
            raise DataError(
                f"none of the images that {where} seals is in {root} any more",
                fix="bring them back, or move the seal to another place on purpose",
            )
        return found
    if not seal.files:
        if Path(seal.data).name != root.name or not names.issuperset(seal.images):
            say(f"{where} is older than fingerprints and {seal.data} is gone: it is not followed here")
            return frozenset()
        say(f"{where} is older than fingerprints and {seal.data} is gone: images are taken by their names")
        return frozenset(seal.images)
    found = find_sealed(cohort, seal, contents)
    if found:
        say(
            f"{len(found)} images here are sealed in {where} (of {seal.data}): they and their cases are sealed here too"
        )
    return found


def _make_seal(
    project: Project, cohort: Cohort, path: Path, contents: Mapping[str, Content], *, share: float
) -> tuple[Seal, frozenset[str]]:
    from ...samples import choose_sealed

    images = choose_sealed(cohort, share=share)
    files = {contents[image].file for image in images if image in contents}
    # Runs on a copy of this folder have seen these images too.
    memo = project.cache / HASHES
    places = [Path(place).resolve() for place, (*_, file) in read_memo(memo).items() if file in files]
    sizes = {s.path.stat().st_size for s in cohort.samples if s.image in images}
    before: list[str] = []
    for root, names in _list_roots(path.parent).items():
        same = root == cohort.root.resolve() or any(place.is_relative_to(root) for place in places)
        if not same:
            alike = [p for p in root.rglob("*") if p.is_file() and p.stat().st_size in sizes]
            same = not files.isdisjoint(hash_files(alike, memo=memo).values())
        if same:
            before += names
    seal = make_seal(cohort, images, share=share, runs_before=before, contents=contents)
    write_seal(path, seal)
    project.listener.say(f"{seal.n_cases} cases ({seal.n_images} images) are sealed from now on, recorded in {path}")
    return seal, frozenset(images)
