"""The licence ledger: nothing enters the project without a row, and what is not known is not promised."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

import smalti
from smalti.cli import app, console
from smalti.licences import count_open, find_data, find_weights, list_code, list_datasets, list_weights, read_code
from smalti.licences.installed import agrees, read_installed
from smalti.packages import PACKAGES
from smalti.recipe.automatic import PACKAGED, USUAL

ROOT = Path(__file__).parents[2]
SOURCE = Path(smalti.__file__).parent
KNOWN = {"glas", "osteosarcoma", "idc279", "lymphocytosis", "breakhis", "lc25000", "hif"}
FOLDERS = ("presets", "ladders", "spaces", "portfolios")


def list_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {Requirement(line).name.lower() for line in lines} | {"smalti"}


def list_backbones() -> set[str]:
    """Backbones that the code or a built-in recipe, ladder, space or portfolio names."""
    found = {USUAL, PACKAGED, *PACKAGES}
    for folder in FOLDERS:
        for path in (SOURCE / folder).glob("*.yaml"):
            found |= set(walk(yaml.safe_load(path.read_text(encoding="utf-8"))))
    return found


def walk(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from walk(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner, key)
    elif isinstance(value, str):
        setting = re.match(r"model\.backbone=\"?([^\"\s]+)", value)
        if setting:
            yield setting[1]
        elif key in ("backbone", "model.backbone") and value != "auto":
            yield value


def test_every_dependency_has_a_row_and_no_row_is_left_over() -> None:
    assert set(read_code()) == list_dependencies()


def test_every_backbone_that_is_named_has_a_row() -> None:
    backbones = list_backbones()
    assert len(backbones) > 5
    assert not [name for name in backbones if find_weights(name).licence == "unknown"]


def test_every_data_set_that_is_named_has_a_row() -> None:
    """Folders of shared data sets, and the data that benchmarks and tests name."""
    rows = [row.name for row in list_datasets()]
    named = set()
    for folder in ("benchmarks", "tests", "examples", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".md", ".ipynb"}:
                text = path.read_text(encoding="utf-8")
                named |= set(re.findall(r"shared/data/([a-z]\w+)", text))
                named |= set(re.findall(r"\b([a-z]+\d*)(?:_\w+)?-a\b", text)) & KNOWN
    assert named
    assert not [name for name in named if not any(name.startswith(row) for row in rows)]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("row", list_code(), ids=lambda row: row.name)
def test_what_is_installed_says_what_the_ledger_says(row: Any) -> None:
    assert row.licence != "unknown"
    assert not row.note.startswith("its metadata say"), row.note
    assert (row.commercial, row.passing_on) == ("yes", "yes")


def test_a_stricter_licence_is_noticed() -> None:
    assert agrees("BSD-3-Clause", "BSD License")
    assert agrees("Apache-2.0", "Apache Software License")
    assert agrees("BSD-3-Clause", "Apache-2.0 AND BSD-3-Clause AND MIT")
    assert agrees("MIT", "MIT AND (BSD-3-Clause OR GPL-2.0-only)")
    assert not agrees("MIT", "MIT AND GPL-3.0-only")
    assert not agrees("BSD-3-Clause", "GNU Affero General Public License v3 (AGPLv3)")
    assert not agrees("Apache-2.0", "BUSL-1.1")
    assert read_installed("no-such-package-here") == ("", "")


def test_what_is_not_known_is_not_promised() -> None:
    mine = find_weights("resnet50", file="mine.safetensors")
    assert (mine.licence, mine.commercial, mine.passing_on) == ("unknown", "unknown", "unknown")
    assert find_weights("no_such_net").commercial == "unknown"
    assert find_data(None).licence == "not stated"
    assert find_data(None).commercial == "unknown"
    assert (find_data("CC-BY-4.0").commercial, find_data("CC-BY-4.0").passing_on) == ("yes", "yes")
    assert find_data("our own terms").commercial == "unknown"
    assert find_data("glas").title.startswith("GlaS")
    assert find_weights("hf-hub:MahmoodLab/UNI2-h").commercial == "no"
    assert "agreement" in find_weights("hf-hub:paige-ai/Virchow").doubts
    assert find_weights("hf-hub:paige-ai/Virchow2").title == "Virchow2"


def test_rows_that_ask_for_more_than_a_notice_are_named() -> None:
    plain, others = count_open(list_code())
    assert plain + len(others) == len(list_code())
    assert {row.name for row in others} == {"openslide-python", "openslide-bin", "hypothesis"}
    assert all(row.source for row in (*list_weights(), *list_datasets()))


def test_the_doctor_prints_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "width", 240)  # else lines are broken inside words
    done = CliRunner().invoke(app, ["doctor", "--licences"])
    assert done.exit_code == 0, done.output
    for word in ("torch", "BSD-3-Clause", "UNI2-h", "CC-BY-NC-ND-4.0", "glas", "no legal advice"):
        assert word in done.output
