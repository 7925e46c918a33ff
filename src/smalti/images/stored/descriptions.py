"""Descriptions in words inside a TIFF: OME-XML, ImageJ's description, names of pages."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile

COUNTED = {"", "c", "ch", "channel", "image", "channelimage"}  # letters of names that only count
PRIMARY_ENDS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]  # last entries of ImageJ's colour tables
FLUORESCENT = ("Fluor", "EmissionWavelength", "ExcitationWavelength")  # of a channel in OME-XML


def find_ome(tif: TiffFile, series: int) -> ElementTree.Element | None:
    """Return the element ``Pixels`` of a picture of an OME-TIFF; None elsewhere, or where it cannot be read."""
    if not tif.is_ome or tif.ome_metadata is None:
        return None
    try:
        root = ElementTree.fromstring(tif.ome_metadata)
    except ElementTree.ParseError:
        return None
    found = [element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]
    return found[series] if series < len(found) else None


def list_channels(tif: TiffFile, series: Any, number: int) -> tuple[list[str], bool]:
    """Return names of the three channels of a picture and whether the file calls them channels of one colour image.

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
        coloured = about.get("mode") in {"composite", "color"}
        if tables is not None:  # shown in red, green and blue, in this order
            coloured &= [np.asarray(table)[:, -1].tolist() for table in tables] == PRIMARY_ENDS
        return [_drop_count(name) for name in about.get("Labels", [])][:3] or [""] * 3, coloured
    names = []
    for page in series.pages[:3]:  # a page is named by its tag PageName, or by a description of one word
        tags = getattr(page.aspage(), "tags", {})
        texts = [str(tags[code].value).strip() for code in (285, 270) if code in tags]
        names.append(next((text for text in texts if len(text.split()) == 1 and "{" not in text), ""))
    return names, False


def _drop_count(name: object) -> str:
    """Return a name, or nothing where it only counts."""
    text = str(name).partition(" - ")[0].strip()
    return "" if re.sub(r"[^a-z]", "", text.casefold()) in COUNTED else text


MICRONS = {  # of a unit, as OME-XML and ImageJ write it
    "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0,
    "mm": 1e3, "cm": 1e4, "inch": 25_400.0, "in": 25_400.0, "pixel": 0.0, "": 0.0,
}  # fmt: skip


def read_sides(tif: TiffFile, page: Any, series: int) -> tuple[float, float]:
    """Return microns per pixel, across and down, as OME-XML, ImageJ's description or the tags say; 0 for none."""
    pixels = find_ome(tif, series)
    sides = []
    if pixels is not None and pixels.get("PhysicalSizeX"):
        for axis in "XY":
            size = 0.0
            with suppress(ValueError):
                size = float(pixels.get(f"PhysicalSize{axis}") or pixels.get("PhysicalSizeX") or 0)
            sides.append(size * _read_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
        return sides[0], sides[1]
    microns = {2: MICRONS["inch"], 3: MICRONS["cm"]}.get(page.tags.valueof(296, 2), 0.0)
    if tif.is_imagej and (tif.imagej_metadata or {}).get("unit"):
        microns = _read_unit(tif.imagej_metadata["unit"])
    for tag in (282, 283):  # pixels per unit, which TIFF keeps as a fraction
        value = page.tags.valueof(tag)
        if isinstance(value, tuple) and len(value) == 2 and all(isinstance(n, int) for n in value):
            sides.append(microns * value[1] / value[0] if value[0] else 0.0)
        else:
            sides.append(microns / value if isinstance(value, (int, float)) and value else 0.0)
    return sides[0], sides[1]


def _read_unit(text: object) -> float:
    """Return microns of a unit, 0 where it is none; ImageJ escapes its mu."""
    return MICRONS.get(str(text).strip().replace("\\u00B5", "µ").casefold(), 0.0)
