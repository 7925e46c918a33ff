"""A folder of slides through an encoder: what it stands on is settled first, then each slide is a unit of work."""

from __future__ import annotations

import importlib.metadata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import images
from ..cohort import list_fresh
from ..cohort.inspection import GUESS_ALL
from ..cohort.layouts.bags import NONE
from ..engine import Outcome, Unit, carry_out, parse_place
from ..engine.resources import measure_resources
from ..errors import DataError, Problem, RunError, SmaltiError
from ..features.writing import find_file_layout
from ..licences import find_weights
from ..project import SILENT, Listener
from ..records import EncodedRow, EncodingRecord, PlacesRecord, SlideRecord, log_outcome, write_encoded
from ..records.layout import UNITS, name_encoded
from ..records.record import Record
from ..store import hash_code, hash_text
from ..store.leftovers import remove_leftovers
from ..types import Sample
from .embedder import Embedder, label_encoder, open_embedder
from .slide_task import name_bag
from .tiling import TileRules

SHOWN = 5


@dataclass(frozen=True, slots=True)
class EncodedSlides:
    """What was encoded.

    Attributes:
        folder: of the encoder.
        table: ``encoded.csv``.
        features: folder of the files to be read; None where no slide has any.
        rows: one a slide.
    """

    folder: Path
    table: Path
    features: Path | None
    rows: tuple[EncodedRow, ...]


def encode_folder(
    root: Path,
    out: Path,
    encoder: str,
    *,
    weights: Path | None = None,
    weights_part: str | None = None,
    layout: str = "smalti",
    mpp: float | None = 0.5,
    image_mpp: float | None = None,
    tile_px: int | None = None,
    overlap_frac: float = 0.0,
    min_tissue: float = 0.5,
    keep_pen: bool = False,
    dtype: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    on: str = "here",
    cpus: int | None = None,
    listener: Listener = SILENT,
) -> EncodedSlides:
    """Find the tiles of all slides of a folder, and write their features; an interrupted call goes on where it was.

    A slide that cannot be read is a row with the reason. Tiles that were found for one encoder serve the next.

    Args:
        root: folder of the slides, or of pictures of any layout; it is never changed.
        out: folder of the tiles and, below it, of each encoder.
        encoder: name of an encoder, of timm, ``hf-hub:OWNER/NAME`` or ``local-dir:FOLDER``.
        weights, weights_part: file instead of the hub's, and which network of it.
        layout: of the files: smalti, clam, trident or stamp.
        mpp: microns per pixel of a tile; None takes pixels as they are.
        image_mpp: those of slides that do not say their own.
        tile_px: side of a tile; None takes what the encoder was made for.
        overlap_frac, min_tissue, keep_pen: as in `TileRules`.
        dtype: ``float16`` or ``float32``; None takes what the layout has.
        device, precision: as in a recipe.
        on: where units run (`smalti.engine`).
        cpus: threads of a unit; None takes all that are here, shared among processes.
        listener: hears what is done.

    Raises:
        DataError: there is no slide, or microns per pixel are asked for and not known.
        RunError: ``out`` lies in the folder of the slides, or holds tiles or features of other rules.
        WeightsError, PartError, RecipeError: the encoder, the layout, a device or a place is not there.
    """
    root, place, kind = root.resolve(), parse_place(on), find_file_layout(layout)
    if root == out.resolve() or root in out.resolve().parents:
        raise RunError(f"{out} lies inside the slides in {root}, which are never changed", fix="--out elsewhere")
    asked = {
        "name": encoder, "weights": None if weights is None else str(weights.resolve()), "part": weights_part,
        "device": device, "precision": precision,
    }  # fmt: skip
    embedder = open_embedder(**asked)
    side = tile_px or embedder.backbone.spec.size_px
    rules = TileRules(mpp, image_mpp, side, overlap_frac, min_tissue, keep_pen)
    fresh = list_fresh(root, columns=replace(GUESS_ALL, features=NONE), rows=False)
    for note in (*fresh.notes, *filter(None, [embedder.backbone.note, embedder.device.reason])):
        listener.say(note)
    samples = [sample for sample in _drop_parts(fresh.samples) if sample.image not in fresh.wrong]
    _refuse_twins(samples, folders=kind.folders)
    if image_mpp is None:
        _refuse_unknown(samples, rules, needed=kind.needs_mpp, listener=listener)
    folder = out / label_encoder(encoder)
    _agree(_describe_places(root, rules), out)
    _agree(_describe_encoding(embedder, encoder, rules, layout=layout, dtype=dtype or kind.dtype, file=weights), folder)
    remove_leftovers(folder)
    wrong = fresh.wrong | _check_done(samples, folder)
    threads = cpus or _share_cores(place.kind, place.workers)
    gpus = int(embedder.device.accelerator == "cuda")
    units = [
        _make_unit(sample, folder, encoder=asked, rules=rules, cpus=threads, gpus=gpus)
        for sample in samples
        if sample.image not in wrong
    ]

    def keep(outcome: Outcome) -> None:
        if outcome.status != "reused":
            log_outcome(folder / UNITS, outcome)

    outcomes = carry_out(units, on=on, listener=listener, stage="encode", each=keep)
    failed = wrong | {o.unit.name: o.error for o in outcomes if o.status not in {"done", "reused"}}
    names = list(dict.fromkeys((*(s.image for s in samples), *fresh.wrong)))
    rows = tuple(_make_row(name, folder, failed) for name in names)
    first = next((row.image for row in rows if row.status != "failed"), None)
    features = None
    if first is not None:
        # Slides of folders have their files below the folder of those without.
        features = (folder / _read(first, folder).files[-1]).parents[first.count("/") if kind.folders else 0]
    return EncodedSlides(folder, write_encoded(folder, rows), features, rows)


def _drop_parts(samples: Sequence[Sample]) -> list[Sample]:
    """Return the slides, of which each file of a DICOM series would be one."""
    seen: set[Path] = set()
    kept = []
    for sample in samples:
        if sample.path not in seen:
            kept.append(sample)
            seen |= set(images.list_parts(sample.path)) if sample.path.suffix.lower() == ".dcm" else set()
    return kept


def _refuse_twins(samples: Sequence[Sample], *, folders: bool) -> None:
    """Refuse slides that would have the same file of features.

    Raises:
        DataError: two have the same name but for the suffix, or the folder where the layout has none.
    """
    named = defaultdict(list)
    for sample in samples:
        name = name_bag(sample.image)
        named[name if folders else name.rpartition("/")[2]].append(sample.image)
    twins = [names for names in named.values() if len(names) > 1]
    if twins:
        fix = "rename one of them, or encode their folders one by one"
        problems = [Problem("same-name", names[0], f"has the name of {names[1]}.", fix) for names in twins]
        raise DataError(f"{len(twins)} files of features would be those of several slides", problems)


def _refuse_unknown(samples: Sequence[Sample], rules: TileRules, *, needed: bool, listener: Listener) -> None:
    """Refuse slides that do not say their microns per pixel, where these matter.

    Raises:
        DataError: there are some; all are named.
    """
    if rules.mpp is None and not needed:
        return
    unknown = []
    for count, sample in enumerate(samples):
        try:
            known = images.read_mpp(sample.path) is not None
        except SmaltiError:
            known = True  # its own unit says what is wrong with it
        if not known:
            unknown.append(sample.image)
        listener.tell("look", count + 1, len(samples))
    if unknown:
        fix = "--image-mpp F says those of slides that do not" + (
            "" if needed else ", --mpp 0 takes pixels as they are"
        )
        shown = ", ".join(unknown[:SHOWN]) + (f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else "")
        message = f"microns per pixel of {len(unknown)} of {len(samples)} slides are not known: {shown}"
        raise DataError(message, fix=fix)


def _describe_places(root: Path, rules: TileRules) -> PlacesRecord:
    return PlacesRecord(root=str(root), code=hash_code("smalti.encode.tiling"), **rules.dump())


def _describe_encoding(
    embedder: Embedder, encoder: str, rules: TileRules, *, layout: str, dtype: str, file: Path | None
) -> EncodingRecord:
    computed = (embedder.device.accelerator, embedder.device.precision)
    label, code = label_encoder(encoder), hash_code("smalti.encode.slide_task")
    key = hash_text(label, embedder.weights, layout, dtype, *computed, str(rules), code)
    return EncodingRecord(
        key=key, encoder=label, weights=embedder.weights,
        licence=find_weights(encoder, file=str(file or "")).licence, layout=layout, dtype=dtype, device=computed[0],
        precision=computed[1], tile_px=rules.tile_px, mpp=rules.mpp, smalti=importlib.metadata.version("smalti"),
    )  # fmt: skip


def _agree(record: Record, folder: Path) -> None:
    """Write a record, or check that it is the one that is there.

    Raises:
        RunError: the folder holds files of another key; what differs is named.
    """
    before = type(record).find(folder)
    if before is None:
        record.write(folder)
    elif before != record:
        old, new = before.model_dump(), record.model_dump()
        differs = [f"{name} {old[name]} (asked: {new[name]})" for name in new if old[name] != new[name]]
        differs = [text for text in differs if not text.startswith(("key ", "code "))] or ["another version of smalti"]
        # The one rule that an encoder says where nobody does.
        side = f"--tile-px {old['tile_px']}, " if old["tile_px"] != new["tile_px"] else ""
        raise RunError(
            f"{folder} holds files that were made otherwise: {'; '.join(differs)}",
            fix=f"{side}--out with another folder, or delete this one",
        )


def _check_done(samples: Sequence[Sample], folder: Path) -> dict[str, str]:
    """Return slides that were done and are other files now, with the reason; forget those whose features are gone."""
    wrong = {}
    for sample in samples:
        record = folder / name_encoded(sample.image)
        if not record.is_file():
            continue
        done = SlideRecord.read_file(record)
        if sample.path.exists() and done.size != sample.path.stat().st_size:
            wrong[sample.image] = f"is not the file that was encoded. Fix: delete {record} and its features"
        elif not all((folder / name).is_file() for name in done.files):
            record.unlink()
    return wrong


def _share_cores(kind: str, workers: int | None) -> int:
    """Return threads of a unit: all cores in this process, an equal share in each of several."""
    cores = measure_resources().cpus
    return cores if kind == "here" else max(1, cores // workers) if workers and kind == "processes" else 1


def _make_unit(
    sample: Sample, folder: Path, *, encoder: dict[str, Any], rules: TileRules, cpus: int, gpus: int
) -> Unit:
    args = {
        "image": sample.image, "path": str(sample.path), "bits": sample.bits, "out": str(folder.resolve()),
        "encoder": encoder, "rules": rules.dump(), "workers": cpus,
    }  # fmt: skip
    task, done = "smalti.encode.slide_task:encode_slide", folder / name_encoded(sample.image)
    return Unit(sample.image, task, args, done, cpus=cpus, gpus=gpus)


def _read(image: str, folder: Path) -> SlideRecord:
    return SlideRecord.read_file(folder / name_encoded(image))


def _make_row(image: str, folder: Path, failed: dict[str, str]) -> EncodedRow:
    if image in failed:
        return EncodedRow(image=image, status="failed", reason=failed[image])
    done = _read(image, folder)
    numbers = done.model_dump(include={"tiles", "glass", "pen", "side_px", "mpp", "seconds"})
    return EncodedRow(image=image, status="encoded" if done.tiles else "empty", reason=done.note, **numbers)
