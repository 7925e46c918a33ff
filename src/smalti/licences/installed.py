"""What an installed package says about its own licence, and whether the ledger agrees."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator

from packaging.requirements import Requirement

# Words of older metadata -> the family that a name of SPDX begins with.
FAMILIES = {"apache": "Apache", "bsd": "BSD", "mit": "MIT", "mozilla": "MPL", "python software": "PSF", "lgpl": "LGPL"}
# The licence of matplotlib is one like Python's, which is all that its metadata says.
LIKE = {"Matplotlib": "PSF"}
STRONG = re.compile(r"\b(?:A|L)?GPL|\bMPL|\bEUPL|\bNC\b|Proprietary|Commercial")
SHORT = 60  # a longer field holds the text of the licence


def list_requirements() -> Iterator[tuple[str, str]]:
    """Yield name and extra of every package that the installed smalti asks for; smalti itself first."""
    yield "smalti", ""
    for line in importlib.metadata.requires("smalti") or ():
        requirement = Requirement(line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", str(requirement.marker or ""))
        if requirement.name != "smalti":
            yield requirement.name, extra[1] if extra else ""


def read_installed(name: str) -> tuple[str, str]:
    """Return version and licence of an installed package, as its metadata say; "" for what is not there."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return "", ""
    version = str(metadata["Version"] or "")
    if "License-Expression" in metadata:
        return version, str(metadata["License-Expression"])
    classifiers = [text for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
    if classifiers:
        return version, " AND ".join(text.rpartition(" :: ")[2] for text in classifiers)
    text = " ".join(str(metadata["License"]).split()) if "License" in metadata else ""
    return version, "" if text == "UNKNOWN" else text[:SHORT]


def agrees(licence: str, said: str) -> bool:
    """Tell whether the words of a package fit the ledger's licence.

    They do where they name its family and nothing stricter. A choice, ``(A OR B)``, counts as its first part.
    """
    words = re.sub(r"\(([\w.-]+) OR [^)]*\)", r"\1", said)
    family = LIKE.get(licence) or licence.partition("-")[0]
    named = {licence} if licence in words else set()
    named |= {own for word, own in FAMILIES.items() if word in words.lower()} | set(re.findall(r"[A-Za-z]+", words))
    return family in named and (not STRONG.search(words) or bool(STRONG.search(licence)))
