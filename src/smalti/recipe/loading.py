"""Recipes from presets, files and settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ..errors import RecipeError
from ..notation import parse_yaml, read_yaml
from .documents import list_documents
from .recipe import Recipe
from .section import Section
from .sections import Data

SHOWN = 80  # signs of a setting in a message
Values = dict[str, object]  # of a recipe, section by section


def load_recipe(
    source: str | Path = "default", *, settings: Iterable[str] = (), overlays: Iterable[str] = ()
) -> Recipe:
    """Read a preset by name or a recipe file, then lay overlays and ``section.knob=value`` settings over it.

    A recipe file may name the ``preset`` that it starts from and give only what differs.

    Raises:
        RecipeError: unknown preset, unreadable YAML, an unknown knob or a value that does not fit.
    """
    path = Path(source)
    if path.suffix in {".yaml", ".yml"}:
        content = read_yaml(path, kind="recipe", fix=f"check the path, or name a preset: {_presets_text()}")
        if content is None and path.stat().st_size == 0:  # of comments alone, all that is left out is the default
            raise RecipeError(f"{path} is empty", fix=f"write the recipe anew, or name a preset: {_presets_text()}")
        values = _take_mapping(content, str(path))
        if "preset" in values:
            values = _merge({"preset": values["preset"], **_read_preset(str(values["preset"]))}, values)
    else:
        values = {"preset": str(source), **_read_preset(str(source))}
    for overlay in overlays:
        values = _merge(values, _read_preset(overlay))
    for setting in settings:
        values = _merge(values, _parse_setting(setting))
    return _validate(values, f"recipe '{source}'")


def overlay_recipe(recipe: Recipe, overlay: str) -> Recipe:
    """Return the recipe with a named preset's values laid over it.

    Raises:
        RecipeError: no preset has this name.
    """
    return _validate(_merge(recipe.model_dump(mode="json"), _read_preset(overlay)), f"overlay '{overlay}'")


def change_recipe(recipe: Recipe, settings: Iterable[str], *, where: str) -> Recipe:
    """Return the recipe with ``section.knob=value`` settings laid over it; ``where`` names it in errors.

    Raises:
        RecipeError: an unknown knob, or a value that does not fit.
    """
    values: Values = recipe.model_dump(mode="json")
    for setting in settings:
        values = _merge(values, _parse_setting(setting))
    return _validate(values, where)


def _presets_text() -> str:
    return ", ".join(list_documents("preset"))


def _read_preset(name: str) -> Values:
    file = resources.files("smalti") / "presets" / f"{name}.yaml"
    if not name.isidentifier() or not file.is_file():
        raise RecipeError(f"no preset is called '{name}'", fix=f"one of {_presets_text()}, or the path of a .yaml file")
    return _take_mapping(parse_yaml(file.read_text(encoding="utf-8"), f"preset {name}"), f"preset {name}")


def _take_mapping(values: object, where: str) -> Values:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise RecipeError(f"{where} holds no mapping", fix="write 'section:' lines with knobs below them")
    return values


def _parse_setting(setting: str) -> Values:
    key, found, text = setting.partition("=")
    if not found or not key.strip():
        raise RecipeError(f"--set {setting}: no '='", fix="--set section.knob=value, for example split.folds=3")
    if key.strip() == "preset":
        raise RecipeError(f"--set {setting}: a preset is laid below all else", fix=f"--recipe {text}")
    shown = setting if len(setting) <= SHOWN else f"{setting[:SHOWN]}..."
    # What the user's data calls things is text, also where it looks like a number: a class 1, a column 2024.
    section, _, knob = key.strip().partition(".")
    names = section == "data" and knob in Data.model_fields and not _takes_numbers(Data.model_fields[knob].annotation)
    *sections, last = key.strip().split(".")
    values: Values = {last: parse_yaml(text, f"--set {shown}", names=names) if text else None}
    for part in reversed(sections):
        values = {part: values}
    return values


def _takes_numbers(kind: Any) -> bool:
    """Return whether a type admits numbers or true and false, at any depth."""
    return kind in (int, bool) or isinstance(kind, int) or any(map(_takes_numbers, get_args(kind)))


def _merge(below: Mapping[str, object], above: Mapping[str, object]) -> Values:
    """Return the values of both, section by section; those above count."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _validate(values: Mapping[str, object], where: str) -> Recipe:
    """Return the recipe of these values.

    Raises:
        RecipeError: they do not fit; all that is wrong at once.
    """
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        lines = []
        for found in error.errors():
            path, given = ".".join(str(part) for part in found["loc"]), found["input"]
            if found["type"] == "extra_forbidden":
                near = difflib.get_close_matches(path, list_knobs(), n=1, cutoff=0.4)
                hint = f" Did you mean {near[0]}?" if near else ""
                text = f"there is no such knob.{hint} Fix: 'smalti parts --knobs' lists them all"
            else:
                shown = f" (given: {shorten(str(given), 40)})" if isinstance(given, int | float | str) else ""
                text = f"{found['msg']}{shown}"
            lines.append(f"  {path or 'recipe'}: {text}")
        fix = "Fix: correct what is named; 'smalti parts --knobs' says what each knob does"
        raise RecipeError("\n".join([f"{where} does not fit:", *lines, fix])) from None


def list_knobs() -> dict[str, str]:
    """Return dotted name of every knob with its description."""
    return dict(_walk_knobs(Recipe, ""))


def _walk_knobs(section: type[BaseModel], prefix: str) -> Iterable[tuple[str, str]]:
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _walk_knobs(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info.description or ""
