"""Run folders, atomic writes, the environment record, and caches keyed by inputs + code."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import shutil
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray

from . import images
from .errors import RunError
from .leftovers import name_temporary, remove_leftovers
from .recipe import Recipe, load_recipe
from .types import PREDICTION_COLUMNS, SAMPLE_COLUMNS, Cohort, MaskReading, Repair, Sample

CACHE = "cache"  # in the folder of all runs
CASES = "cases.csv"  # image, and the case that the data names, also of images that decisions have left out
FEW_CASES = 3  # of a class: with fewer there may be none to hold back
LIBRARIES = (
    "smalti", "torch", "torchvision", "timm", "lightning", "numpy", "pandas", "scikit-learn",
    "opencv-python-headless", "Pillow", "tifffile", "imagecodecs", "pydantic", "safetensors", "matplotlib",
)  # fmt: skip
TICK_NS = 2_000_000_000  # the coarsest clock of a file system, FAT's
# What network shares, FUSE and WSL answer where they know no such request; EIO and ENOSPC are losses and stay errors.
UNKNOWN_REQUEST = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
FOLDER_REFUSALS = UNKNOWN_REQUEST | {errno.EPERM, errno.EACCES, errno.EISDIR, errno.EBADF}


def write_atomic(path: Path, content: bytes | str) -> Path:
    """Write to a temporary name beside ``path``, then rename; a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A path from a command line may hold bytes that are not UTF-8; in JSON, the escape means the same.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    temporary = name_temporary(path.parent)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            with passing_over(UNKNOWN_REQUEST):
                os.fsync(file.fileno())
        with passing_over(UNKNOWN_REQUEST | {errno.EPERM}):  # shares and FAT keep modes of their own
            temporary.chmod(0o644)
        temporary.replace(path)
        _keep_renames(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _keep_renames(folder: Path) -> None:
    """Put the names in a folder on disk; without it a power cut could bring the old file back."""
    if os.name == "nt":
        return  # Windows opens no folder, and its file system keeps renames in a journal
    with passing_over(FOLDER_REFUSALS):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def passing_over(answers: frozenset[int]) -> Iterator[None]:
    """Go on where the file system answers a request of the block with one of these error numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in answers:
            raise


def write_json(path: Path, content: Any) -> Path:
    """Write JSON atomically; keys keep their order."""
    return write_atomic(path, json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a CSV atomically; floats keep nine digits, with which single precision is read back to the same number."""
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n", float_format="%.9g")
    return write_atomic(path, buffer.getvalue())


# What Python says where a record is not what it should be.
UNFIT = (
    ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, EOFError, RecursionError, OSError,
    pd.errors.ParserError, pd.errors.EmptyDataError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def reading(path: Path, *, fix: str = "delete it and run the stage again") -> Iterator[None]:
    """Turn whatever goes wrong while a record is taken apart into one message that names it.

    Args:
        path: the record, a file or a folder.
        fix: what to do where it is damaged.

    Raises:
        RunError: the record is missing or damaged.
    """
    try:
        yield
    except FileNotFoundError:
        raise RunError(f"{path} does not exist. Fix: run the stage that writes it ('smalti run')") from None
    except UNFIT as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # no fault of the record
        what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) and error.args else str(error)
        raise RunError(f"{path} is damaged: {what or type(error).__name__}. Fix: {fix}") from None


def read_json(path: Path, *keys: str) -> Any:
    """Read a JSON file of a run folder; with ``keys``, one that must be a mapping and have them.

    Raises:
        RunError: the file is missing or damaged.
    """
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        if keys:
            for key in keys:
                content[key]
            dict(content)
        return content


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV of a run folder, which must have ``columns``; text columns stay text, empty stays empty text.

    Raises:
        RunError: the file is missing or damaged.
    """
    with reading(path):
        text = dict.fromkeys(("image", "case", "label", "mask", "part", "index", "role", "phase"), str)
        header = pd.read_csv(path, nrows=0).columns
        if absent := [name for name in columns if name not in header]:
            raise KeyError(", ".join(absent))
        # A class may be called "None" or "NA": only numbers may be missing.
        missing = {name: ["", "nan"] for name in header if name not in text}
        return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write named arrays as ``.npz`` atomically; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return write_atomic(path, buffer.getvalue())


def read_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of an ``.npz`` by name, or all of them; pickles are refused.

    Raises:
        RunError: the file is missing or damaged, or an array is not in it.
    """
    with reading(path), path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in (file.files if names is None else names)}


def hash_text(*parts: str) -> str:
    """Short hash of texts, in order."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(part.encode("utf-8"))
        digest.update(b"\0")
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()


def hash_code(*modules: str) -> str:
    """Hash of the source text of modules and packages, without importing them."""
    files: list[Path] = []
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise RunError(f"no source of module {name} was found. Fix: install smalti from its source or wheel")
        origin = Path(spec.origin)
        files += sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
    return hash_text(*(file.read_text(encoding="utf-8") for file in files))


def hash_files(paths: Iterable[Path], *, memo: Path | None) -> dict[Path, str]:
    """Hash of each image; files that were not touched since are looked up in ``memo``, where there is one.

    Raises:
        DataError: a file is gone, cannot be read, or changes while it is read.
    """
    known = {} if memo is None else read_memo(memo)
    hashes: dict[Path, str] = {}
    changed = False
    for path in dict.fromkeys(paths):
        stamp = list(images.read_stamp(path))
        entry = known.get(str(path))
        if entry is None or entry[:-1] != stamp:
            entry = [*stamp, images.hash_image(path)]
            if list(images.read_stamp(path)) != stamp:
                raise images.changed_error(path)
            # Clocks tick: what is written right after the hash may bear the time that was seen before it.
            if all(abs(time.time_ns() - moment) > TICK_NS for moment in images.list_times(stamp)):
                known[str(path)] = entry
                changed = True
        hashes[path] = str(entry[-1])
    if changed and memo is not None:
        write_json(memo, known)
    return hashes


def read_memo(memo: Path) -> dict[str, list[Any]]:
    """Read path -> stamp and hash of files seen so far. It only saves time, so a damaged one is an empty one."""
    try:
        known = json.loads(memo.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {path: entry for path, entry in entries if isinstance(entry, list) and len(entry) > 1}


def hash_cohort(cohort: Cohort, *, memo: Path) -> str:
    """Hash of everything that training sees: pixels, masks, labels, cases, order."""
    hashes = hash_files((path for s in cohort.samples for path in s.files), memo=memo)
    rows = [
        f"{s.image}|{hashes[s.path]}|{identify_mask(s, hashes)}|{s.label}|{s.case}" + (f"|{s.bits}" if s.bits else "")
        for s in cohort.samples
    ]
    return hash_text(*rows)


def identify_mask(sample: Sample, hashes: Mapping[Path, str]) -> str:
    """Name what is under the mask of a sample by the content of its files and how they are read; "" without a mask."""
    how = replace(sample.mask_reading, more=())
    return "+".join(hashes[path] for path in sample.mask_files) + (f" {how}" if how != MaskReading() else "")


def name_apart(root: Path) -> str:
    """Name a data folder so that another one of the same last name is named otherwise."""
    return f"{root.name}-{hash_text(str(root))[:8]}"


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Fill ``folder`` with ``build(temporary folder)`` unless it is there; safe when two processes do it at once.

    The first to finish renames its folder into place; a later one drops its own.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    temporary = name_temporary(folder.parent)
    try:
        temporary.mkdir()
        build(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def tabulate_samples(cohort: Cohort) -> pd.DataFrame:
    """The samples table: one row an image, paths relative to the data folder."""
    rows = [
        (
            s.image,
            ";".join(path.relative_to(cohort.root).as_posix() for path in s.mask_files),
            s.label or "",
            s.case,
            part,
            s.index,
            _describe_repair(s.repair),
        )
        for part in ("labelled", "unlabelled", "sealed")
        for s in getattr(cohort, part)
    ]
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))


def _describe_repair(repair: Repair | None) -> str:
    if repair is None:
        return ""
    parts = [f"{len(repair.outline)} outlines filled"] if repair.outline else []
    return "; ".join([*parts, *(["mask re-cut"] if repair.recut else [])])


def record_environment() -> dict[str, Any]:
    """Libraries, interpreter and machine, for ``environment.json``."""
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "libraries": versions,
    }


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One recipe carried out on one data set."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the weights."""
        return self.path / "checkpoints"

    @property
    def augmentation_picture(self) -> Path:
        """Real tiles as phase ``finetune`` sees them."""
        return self.path / "figures" / "augmentation.png"

    @property
    def policies(self) -> Path:
        """Folder of the policies of augmentation that folds have learned."""
        return self.path / "policies"

    @property
    def predictions(self) -> Path:
        """Folder of the prediction tables."""
        return self.path / "predictions"

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    def read_recipe(self) -> Recipe:
        """The resolved recipe, which must be the one that the run began with.

        Raises:
            RunError: it was changed or damaged since.
            RecipeError: it is missing, or no recipe.
        """
        path = self.path / "environment.json"
        if path.is_file() and self.recipe_path.is_file():
            with reading(path):
                began = dict(read_json(path)).get("identity", {}).get("recipe")
            if began not in (None, hash_text(self.recipe_path.read_text(encoding="utf-8", errors="replace"))):
                raise RunError(
                    f"{self.recipe_path} is not the recipe that this run began with. Fix: bring it back, or give the "
                    "changed recipe to 'smalti run', which makes another run of it"
                )
        return load_recipe(self.recipe_path)

    def read_classes(self) -> tuple[str, ...]:
        """The classes in the order of the scores.

        Raises:
            RunError: ``cohort.json`` is missing or damaged.
        """
        path = self.path / "cohort.json"
        with reading(path):
            classes = read_json(path, "classes")["classes"]
            if not isinstance(classes, list) or not classes:
                raise TypeError("classes are no list of names")
            return tuple(str(name) for name in classes)

    def read_cases(self) -> dict[str, str] | None:
        """Read image -> the case that the data names; None where there is no answer by case.

        Raises:
            RunError: the table is damaged.
        """
        path = self.path / CASES
        if not path.is_file():
            return None
        table = read_table(path, "image", "case")
        return dict(zip(table["image"], table["case"], strict=True))

    def read_out_of_fold(self) -> pd.DataFrame:
        """The out-of-fold predictions; where the folds are known, those of every image of every seed.

        Raises:
            RunError: the table is missing or damaged, or lacks rows.
        """
        return self._read_part("out_of_fold", role="outer")

    def read_inner(self) -> pd.DataFrame | None:
        """The predictions of inner images; None where there are none.

        Raises:
            RunError: the table is damaged or lacks rows.
        """
        if not (self.predictions / "inner.csv").is_file():
            return None
        table = self._read_part("inner", role="inner")
        return table if len(table) else None

    def _read_part(self, name: str, *, role: str) -> pd.DataFrame:
        """A table of predictions of labelled images, which must be those that the folds name.

        A head that is solved holds back each image that is not outer, so that all of these may be inner; or none of a
        fold, where a class has a single case left to learn from.
        """
        path, folds = self.predictions / f"{name}.csv", self.path / "folds.csv"
        table = read_table(path, *PREDICTION_COLUMNS)
        if not folds.is_file() or (role == "inner" and table.empty):
            return table
        plan = read_table(folds, "seed", "fold", "image", "case", "label", "role")
        blended = self.predictions / "ensemble.json"
        # Where an ensemble made one network of those of all seeds, seed and fold are none of theirs.
        joined = blended.is_file() and any(row.get("method") == "average_seeds" for row in read_json(blended))
        keys = [] if joined else ["seed", "fold"]
        found, rest = _name_images(table, keys), plan[plan["role"] != "outer"]
        wanted, unheld = [_name_images(plan[plan["role"] == role], keys)], set()
        if role == "inner":
            wanted.append(_name_images(rest, keys))
            fewest = rest.groupby(["seed", "fold", "label"])["case"].nunique().groupby(["seed", "fold"]).min()
            unheld = set(fewest.index[fewest < FEW_CASES]) if keys else set()
        fits = all(
            any(found.get(key) == part.get(key) for part in wanted) or (key in unheld and key not in found)
            for key in found.keys() | wanted[0].keys()
        )
        if not fits or table.duplicated(["seed", "fold", "image"]).any():
            raise RunError(
                f"{path} has {len(table)} rows, and not those that {folds} names. Fix: delete {path} and run the same "
                "command again; where that does not help, give the run another --name"
            )
        return table

    def log(self, event: str, **details: Any) -> None:
        """Append one line to ``events.log``: time, event, details as JSON."""
        line = json.dumps({"time": now_text(), "event": event, **details}, default=str, ensure_ascii=False)
        with (self.path / "events.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _name_images(table: pd.DataFrame, keys: list[str]) -> dict[Any, set[str]]:
    """The images of each seed and fold, or of all together without ``keys``."""
    groups = table.groupby(keys)["image"] if keys else [((), table["image"])]
    return {key: set(images.astype(str)) for key, images in groups}


def open_run(
    path: Path,
    *,
    recipe: Recipe,
    identity: Mapping[str, Any],
    training: str = "",
    device: Mapping[str, str] | None = None,
    weights: str | None = None,
) -> RunFolder:
    """Make a run folder, or continue the one that is there.

    ``identity`` (data hash, decisions hash, weights hash) and the recipe are written before anything else and must be
    the same when a run is continued. ``device``, ``weights``, what was read of a weights file, and ``training``, the
    hash of all that trained weights depend on, are recorded in ``environment.json``.

    Raises:
        RunError: the folder holds another recipe or other data, or something that is no run.
    """
    run = RunFolder(path)
    remove_leftovers(path, deep=True)
    remove_leftovers(path.parent)
    remove_leftovers(path.parent / CACHE, deep=True)
    wanted = {**identity, "recipe": hash_text(recipe.to_yaml())}
    if run.recipe_path.is_file():
        with reading(path / "environment.json", fix="give this run another --name, or delete the folder"):
            found = dict(read_json(path / "environment.json")["identity"])
            read_json(path / "environment.json", "training")
        differing = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        if differing:
            raise RunError(
                f"{path} belongs to another experiment (different: {', '.join(differing)}). "
                f"Fix: give this run another --name, or delete the folder"
            )
        return run
    # A start that was cut short leaves the first of the two files.
    if path.is_dir() and any(p.name != "environment.json" and p.name[0] != "." for p in path.iterdir()):
        raise RunError(f"{path} exists and is not a run folder. Fix: give this run another --name")
    path.mkdir(parents=True, exist_ok=True)
    started = {"identity": wanted, "training": training, "started": now_text(), "command": sys.argv, "weights": weights}
    write_json(path / "environment.json", started | {"device": dict(device or {})} | record_environment())
    write_atomic(run.recipe_path, recipe.to_yaml())
    return run


def now_text() -> str:
    """The present moment, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
