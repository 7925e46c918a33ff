"""The public names, and that neither importing smalti nor asking it for help loads what is heavy."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from typing import get_type_hints

import pytest

import smalti

NAMES = [
    "Cohort",
    "Columns",
    "Recipe",
    "SmaltiError",
    "audit_cohort",
    "compare_sources",
    "draw_cohort",
    "evaluate_run",
    "evaluate_table",
    "examine_machine",
    "explain_run",
    "inspect_folder",
    "learn_curve",
    "load_model",
    "load_recipe",
    "open_seal",
    "plan_data",
    "read_cohort",
    "read_logbook",
    "report_on",
    "report_run",
    "run",
    "run_ladder",
    "score_predictions",
    "train_run",
]
HEAVY = {"torch", "torchvision", "timm", "lightning", "pandas", "sklearn", "matplotlib", "cv2"}


def list_loaded(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``code``."""
    code += "\nimport sys\nsys.stdout.write('LOADED ' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED ")[2].split())


def test_the_public_names_are_these() -> None:
    assert smalti.__all__ == NAMES == sorted(NAMES)
    assert dir(smalti) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_explained(name: str) -> None:
    thing = getattr(smalti, name)
    assert callable(thing)
    assert thing.__name__ == name
    assert (thing.__doc__ or "").strip()
    home = importlib.import_module(thing.__module__)
    assert getattr(home, name) is thing
    if not isinstance(thing, type):
        assert thing.__annotations__.keys() >= {"return"} or get_type_hints(thing)


def test_no_public_name_is_hidden_by_a_module() -> None:
    """Importing a module puts it into its package under its own name, over whatever was there."""
    modules = {info.name for info in pkgutil.iter_modules(smalti.__path__)}
    assert {"train", "report", "workflow"} <= modules
    assert not modules & set(NAMES)
    for name in modules - {"__main__"}:
        importlib.import_module(f"smalti.{name}")
    assert all(callable(getattr(smalti, name)) for name in NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"smalti.*'trian'"):
        _ = smalti.trian
    assert not hasattr(smalti, "torch")


@pytest.mark.slow
def test_importing_smalti_loads_nothing_heavy() -> None:
    assert not list_loaded("import smalti") & (HEAVY | {"numpy", "pydantic", "PIL"})


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["parts", "--knobs"]])
def test_help_loads_no_network_library(words: list[str]) -> None:
    code = f"import sys\nsys.argv = ['smalti', *{words!r}]\nfrom smalti.__main__ import main\n"
    loaded = list_loaded(code + "try:\n    main()\nexcept SystemExit as error:\n    assert not error.code, error.code")
    assert not loaded & {"torch", "torchvision", "timm", "lightning", "matplotlib"}
    assert "typer" in loaded
