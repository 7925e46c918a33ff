"""What a TIFF says about itself in words: OME-XML, ImageJ's description, names of pages."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile

COUNTED = {"", "c", "ch", "channel", "image", "channelimage"}  # letters of names that only count
FLUORESCENT = ("Fluor", "EmissionWavelength", "ExcitationWavelength")  # of a channel in OME-XML


def find_ome(tif: TiffFile, series: int) -> ElementTree.Element | None:
    """The element ``Pixels`` of a picture of an OME-TIFF; None elsewhere, or where it cannot be read."""
    if not tif.is_ome or tif.ome_metadata is None:
        return None
    try:
        root = ElementTree.fromstring(tif.ome_metadata)
    except ElementTree.ParseError:
        return None
    found = [element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]
    return found[series] if series < len(found) else None


def list_channels(tif: TiffFile, series: Any, number: int) -> tuple[list[str], bool]:
    """Names of the three channels of a picture and whether the file calls them channels of one colour image.

    Names that only count (``Channel 1``, ImageJ's ``c:1/3``) are empty.
    """
    pixels = find_ome(tif, number) if series.kind == "ome" else None
    if pixels is not None:
        channels = [element for element in pixels if element.tag.rpartition("}")[2] == "Channel"]
        names = [_drop_count(c.get("Name") or c.get("Fluor") or "") for c in channels]
        return names[:3] or [""] * 3, not any(c.get(sign) for c in channels for sign in FLUORESCENT)
    if series.kind == "imagej":
        about = tif.imagej_metadata or {}
        tables = about.get("LUTs")
        coloured = about.get("mode") in {"composite", "color"} and (tables is None or _are_primaries(tables))
        return [_drop_count(name) for name in about.get("Labels", [])][:3] or [""] * 3, coloured
    return [_name_page(page) for page in series.pages[:3]], False


def _drop_count(name: object) -> str:
    """A name, or nothing where it only counts."""
    text = str(name).partition(" - ")[0].strip()
    return "" if re.sub(r"[^a-z]", "", text.casefold()) in COUNTED else text


def _are_primaries(tables: Any) -> bool:
    """Whether ImageJ shows the channels in red, green and blue, in this order."""
    last = [np.asarray(table)[:, -1].tolist() for table in tables]
    return last == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def _name_page(page: Any) -> str:
    """The name of a page: its tag PageName, or a description of one word."""
    tags = getattr(page.aspage(), "tags", {})
    for number in (285, 270):
        text = str(tags[number].value).strip() if number in tags else ""
        if text and len(text.split()) == 1 and "{" not in text:
            return text
    return ""


MICRONS = {  # of a unit, as OME-XML and ImageJ write it
    "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0,
    "mm": 1e3, "cm": 1e4, "inch": 25_400.0, "in": 25_400.0, "pixel": 0.0, "": 0.0,
}  # fmt: skip


def read_sides(tif: TiffFile, page: Any, series: int) -> tuple[float, float]:
    """Microns per pixel, across and down, as OME-XML, ImageJ's description or the tags say; 0 where none does."""
    pixels = find_ome(tif, series)
    if pixels is not None and pixels.get("PhysicalSizeX"):
        return _read_ome(pixels, "X"), _read_ome(pixels, "Y")
    unit = page.tags.valueof(296, 2)
    microns = {2: MICRONS["inch"], 3: MICRONS["cm"]}.get(unit, 0.0)
    if tif.is_imagej and (tif.imagej_metadata or {}).get("unit"):
        microns = _read_unit(tif.imagej_metadata["unit"])
    return _divide(microns, page.tags.valueof(282)), _divide(microns, page.tags.valueof(283))


def _read_ome(pixels: ElementTree.Element, axis: str) -> float:
    try:
        size = float(pixels.get(f"PhysicalSize{axis}") or pixels.get("PhysicalSizeX") or 0)
    except ValueError:
        return 0.0
    return size * _read_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))


def _read_unit(text: object) -> float:
    """Microns of a unit, 0 where it is none; ImageJ escapes its mu."""
    return MICRONS.get(str(text).strip().replace("\\u00B5", "µ").casefold(), 0.0)


def _divide(microns: float, resolution: Any) -> float:
    """Microns by pixels per unit, which TIFF keeps as a fraction."""
    if isinstance(resolution, tuple) and len(resolution) == 2 and all(isinstance(n, int) for n in resolution):
        return microns * resolution[1] / resolution[0] if resolution[0] else 0.0
    return microns / resolution if isinstance(resolution, (int, float)) and resolution else 0.0
