"""The files of a data folder that are neither sample, mask nor table: told by kind, so that nothing vanishes.

What may be an image that was meant to be read is a problem and not only told: a picture or slide of a kind that smalti
does not open, or one whose content is of a kind that it opens while its suffix says otherwise. In class folders that
holds anywhere, in other layouts where samples lie beside it; not for another form of a sample that lies beside it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

from ..errors import DataError, show_text
from ..images import list_parts, open_file
from .folder import LITTER, MOST_LITTER, Folder, is_image_name
from .layouts.classes import NEVER_READ
from .masks.pairing import is_mask_name
from .result import LayoutResult

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


def tell_unused(folder: Folder, result: LayoutResult) -> None:
    """Add the problems of pictures that would be samples if they were opened, and one note of all unused files."""
    samples = [PurePosixPath(d.sample.image) for d in result.candidates if result.layout != "features"]
    forms, folders = {path.with_suffix("") for path in samples}, {path.parent for path in samples}
    for kind, names in list_unused(folder, result).items():
        if kind not in MAY_BE_PICTURES and not kind.startswith(UNKNOWN):
            continue
        for name in names:
            path = PurePosixPath(name)
            beside = result.layout == "class-folders" or path.parent in folders
            if not beside or path.with_suffix("") in forms or is_mask_name(name):
                continue
            what, suffix = _look(folder.files[name])
            if suffix and not (kind in MAY_BE_PICTURES and suffix == ".tif"):  # raw pictures begin as TIFF does
                message = f"is {what} by its content, and no image is looked for under '{path.suffix}'."
                fix = f"rename it to {suffix}, or move it away"
                result.report("picture-suffix", name, message=message, fix=fix, images=(name,))
            elif kind in MAY_BE_PICTURES:
                message, fix = "is a picture of a kind that is not opened.", "export it as PNG or TIFF, or move it away"
                result.report("picture-kind", name, message=message, fix=fix, images=(name,))
    if text := describe_unused(folder, result):
        result.notes.append(text)


def describe_unused(folder: Folder, result: LayoutResult) -> str:
    """Return the note of the files that are not used, with their kinds and their number; empty where there are none."""
    unused = list_unused(folder, result)
    kinds = []
    for kind, names in unused.items():
        count = f"{MOST_LITTER} or more" if kind == LITTER and len(names) >= MOST_LITTER else str(len(names))
        shown = ", ".join(map(show_text, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
        kinds.append(f"{kind} {count} ({shown})")
    return f"files that are not used ({sum(map(len, unused.values()))}): {'; '.join(kinds)}" if unused else ""


def list_unused(folder: Folder, result: LayoutResult) -> dict[str, list[str]]:
    """Return every file that is no sample, no mask of one, no table that counts, and in no problem: names by kind."""
    used = {d.sample.image for d in result.candidates} | result.tables
    for path in (d.sample.path for d in result.candidates):
        if path.suffix.lower() in {".mrxs", ".vms", ".vmu"}:  # slides of several files
            used |= {part.relative_to(folder.root).as_posix() for part in list_parts(path)}
    paths = {path for d in result.candidates for path in d.sample.files}
    # Of masks without an image a problem names the first alone; here all are counted.
    told = [problem for problem in result.problems if problem.code != "mask-without-image"]
    used |= {name for problem in told for name in (problem.file, *problem.images)}
    found: dict[str, list[str]] = defaultdict(list)
    table = result.layout == "table"
    for name, path in folder.files.items():
        if name in used or path in paths:
            continue
        suffix, top = PurePosixPath(name).suffix.lower(), PurePosixPath(name).parts[0]
        if not table and "/" in name and top.lower() in NEVER_READ:
            kind = f"files below {top}/, never looked into"
        elif name in result.passed:
            kind = result.passed[name]
        elif is_image_name(name) and name in folder.pairs.names:
            kind = "masks of no image"
        elif is_image_name(name):
            kind = "pictures without a row in a table" if table else "pictures in no part of the layout"
        else:
            kind = KIND_OF_SUFFIX.get(suffix, f"files {suffix}" if suffix else "files without a suffix")
        found[kind].append(name)
    unknown = [kind for kind in found if kind.startswith("files .")]
    if len(unknown) > MOST_SUFFIXES:
        found["other files"] = [name for kind in unknown for name in found.pop(kind)] + found.get("other files", [])
    return {**found, **{kind: sorted(names) for kind, names in folder.passed.items() if names}}


def _look(path: Path) -> tuple[str, str]:
    """Return the kind of a file by its first bytes, and its suffix; empty where smalti does not open that kind."""
    try:
        with open_file(path) as file:
            start = file.read(16)
    except (DataError, OSError):
        return "", ""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "a WebP", ".webp"
    return next(((what, suffix) for sign, what, suffix in CONTENTS if start.startswith(sign)), ("", ""))
