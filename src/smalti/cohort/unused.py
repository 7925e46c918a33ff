"""The files of a data folder that are neither sample, mask nor table: told by kind, so that nothing vanishes.

What may be an image that was meant to be read is a problem and not only told: a picture or slide of a kind that smalti
does not open, or one whose content is of a kind that it opens while its suffix says otherwise. In class folders that
holds anywhere, in other layouts where samples lie beside it; not for another form of a sample that lies beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..errors import DataError, show_text
from ..images import list_parts, open_file
from .folder import Folder, is_image_name
from .layouts.classes import NEVER_READ
from .litter import LITTER, MOST_LITTER
from .masks.pairing import is_mask_name
from .reading import Reading

UNREAD_PICTURES, UNREAD_SLIDES = "pictures of a kind that is not opened", "slides of a kind that is not opened"
KINDS = {
    UNREAD_PICTURES: ".heic .heif .avif .jxl .psd .xcf .dng .nef .cr2 .cr3 .arw .orf "
    ".rw2 .raf .tga .pcx .exr .jxr .eps",
    UNREAD_SLIDES: ".czi .lif .vsi .ets .nd2 .oib .oif .oir .zvi .lsm .isyntax .mcd .ims .afi .dicom .tmap .kfb .sdpc",
    "drawings and icons": ".svg .ico .icns .ai .emf .wmf .drawio",
    "outlines and annotations": ".xml .geojson .json .roi .qpdata .ndpa .qpproj .annot .shp",
    "tables that are not read": ".csv .tsv .xlsx .xls .xlsm .ods .parquet .feather .arff .sav "
    ".rds .sas7bdat .dta .db .sqlite",
    "documents": ".pdf .doc .docx .odt .md .rst .txt .rtf .ppt .pptx .odp .html .htm .tex .bib .log .url .lnk .eml",
    "archives": ".zip .tar .gz .tgz .7z .rar .bz2 .xz .zst .tbz2 .txz .lz4",
    "notebooks and code": ".ipynb .py .r .rmd .m .sh .bat .js .java .jar .groovy .cfg .ini .toml .yaml .yml .cff",
    "features, arrays and weights": ".h5 .hdf5 .npy .npz .pt .pth .pkl .joblib .mat "
    ".safetensors .onnx .ckpt .zarr .bin",
    "videos": ".mp4 .avi .mov .mkv .webm .wmv",
}
KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in KINDS.items() for suffix in suffixes.split()}
MAY_BE_PICTURES = (UNREAD_PICTURES, UNREAD_SLIDES)
# How files begin that smalti opens, and the suffix to give them.
CONTENTS = (
    (b"\xff\xd8\xff", "a JPEG", ".jpg"),
    (b"\x89PNG\r\n", "a PNG", ".png"),
    (b"II*\0", "a TIFF", ".tif"),
    (b"MM\0*", "a TIFF", ".tif"),
    (b"II+\0", "a TIFF", ".tif"),
    (b"MM\0+", "a TIFF", ".tif"),
    (b"GIF8", "a GIF", ".gif"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000", ".jp2"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000", ".j2k"),
)
UNKNOWN = ("files .", "files without", "other files")
MOST_SUFFIXES = 8  # more unknown ones are one kind
SHOWN = 3


def tell_unused(folder: Folder, reading: Reading) -> None:
    """Add the problems of pictures that are not read, and one note of every file that is not used."""
    _report_unread(folder, reading, list_unused(folder, reading))
    if text := describe_unused(folder, reading):
        reading.notes.append(text)


def describe_unused(folder: Folder, reading: Reading) -> str:
    """The note of the files that are not used, with their kinds and their number; empty where there are none."""
    unused = list_unused(folder, reading)
    kinds = [f"{kind} {_count(kind, names)} ({_show(names)})" for kind, names in unused.items()]
    return f"files that are not used ({sum(map(len, unused.values()))}): {'; '.join(kinds)}" if unused else ""


def list_unused(folder: Folder, reading: Reading) -> dict[str, list[str]]:
    """Every file that is no sample, no mask of one, no table that counts, and in no problem: names by kind."""
    used = {d.sample.image for d in reading.drafts} | reading.tables | set(_list_beside(folder, reading))
    paths = {path for d in reading.drafts for path in d.sample.files}
    # Of masks without an image a problem names the first alone; here all are counted.
    told = [problem for problem in reading.problems if problem.code != "mask-without-image"]
    used |= {name for problem in told for name in (problem.file, *problem.images)}
    found: dict[str, list[str]] = defaultdict(list)
    for name, path in folder.files.items():
        if name not in used and path not in paths:
            found[_find_kind(folder, name, reading)].append(name)
    unknown = [kind for kind in found if kind.startswith("files .")]
    if len(unknown) > MOST_SUFFIXES:
        found["other files"] = [name for kind in unknown for name in found.pop(kind)] + found.get("other files", [])
    return {**found, **{kind: sorted(names) for kind, names in folder.passed.items() if names}}


def _list_beside(folder: Folder, reading: Reading) -> Iterator[str]:
    """Files that belong to slides of several files."""
    several = [d.sample for d in reading.drafts if d.sample.path.suffix.lower() in {".mrxs", ".vms", ".vmu"}]
    for sample in several:
        yield from (part.relative_to(folder.root).as_posix() for part in list_parts(sample.path))


def _find_kind(folder: Folder, name: str, reading: Reading) -> str:
    path = PurePosixPath(name)
    if reading.layout != "table" and len(path.parts) > 1 and path.parts[0].lower() in NEVER_READ:
        return f"files below {path.parts[0]}/, never looked into"
    if name in reading.passed:
        return reading.passed[name]
    if is_image_name(name):
        if name in folder.pairs.names:
            return "masks of no image"
        return "pictures without a row in a table" if reading.layout == "table" else "pictures in no part of the layout"
    suffix = path.suffix.lower()
    return KIND_OF_SUFFIX.get(suffix, f"files {suffix}" if suffix else "files without a suffix")


def _count(kind: str, names: list[str]) -> str:
    return f"{MOST_LITTER} or more" if kind == LITTER and len(names) >= MOST_LITTER else str(len(names))


def _show(names: list[str]) -> str:
    return ", ".join(map(show_text, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def _report_unread(folder: Folder, reading: Reading, unused: Mapping[str, list[str]]) -> None:
    """Report pictures that would be samples if they were opened."""
    samples = [PurePosixPath(d.sample.image) for d in reading.drafts]
    forms, folders = {path.with_suffix("") for path in samples}, {path.parent for path in samples}
    for kind, names in unused.items():
        if kind not in MAY_BE_PICTURES and not kind.startswith(UNKNOWN):
            continue
        for name in names:
            path = PurePosixPath(name)
            beside = reading.layout == "class-folders" or path.parent in folders
            if not beside or path.with_suffix("") in forms or is_mask_name(name):
                continue
            what, suffix = _look(folder.files[name])
            if suffix and not (kind in MAY_BE_PICTURES and suffix == ".tif"):  # raw pictures begin as TIFF does
                message = f"is {what} by its content, and no image is looked for under '{path.suffix}'."
                fix = f"rename it to {suffix}, or move it away"
                reading.report("picture-suffix", name, message=message, fix=fix, images=(name,))
            elif kind in MAY_BE_PICTURES:
                message, fix = "is a picture of a kind that is not opened.", "export it as PNG or TIFF, or move it away"
                reading.report("picture-kind", name, message=message, fix=fix, images=(name,))


def _look(path: Path) -> tuple[str, str]:
    """What a file is by how it begins, and the suffix for it; nothing where smalti does not open the like."""
    try:
        with open_file(path) as file:
            start = file.read(16)
    except (DataError, OSError):
        return "", ""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "a WebP", ".webp"
    return next(((what, suffix) for sign, what, suffix in CONTENTS if start.startswith(sign)), ("", ""))
