"""Files that say what is to be done, ladders and spaces: built-in by name, or YAML of one's own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from ..errors import RecipeError
from ..notation import parse_yaml, read_yaml
from .section import Section

S = TypeVar("S", bound=Section)


def list_documents(kind: str) -> tuple[str, ...]:
    """Return names of the built-in files of a kind, ``ladder`` or ``space``."""
    return tuple(sorted(Path(f.name).stem for f in (resources.files("smalti") / f"{kind}s").iterdir()))


def load_document(source: str | Path, kind: str, *, model: type[S]) -> S:
    """Read a built-in file by name, or a file.

    Raises:
        RecipeError: no such file, no YAML, or content that does not fit ``model``; all that is wrong at once.
    """
    path, names = Path(source), ", ".join(list_documents(kind))
    file = resources.files("smalti") / f"{kind}s" / f"{source}.yaml"
    if path.suffix in {".yaml", ".yml"}:
        content = read_yaml(path, kind=kind, fix=f"check the path, or name one of {names}")
    elif str(source).isidentifier() and file.is_file():
        content = parse_yaml(file.read_text(encoding="utf-8"), f"{kind} '{source}'")
    else:
        raise RecipeError(f"no {kind} is called '{source}'", fix=f"one of {names}, or the path of a .yaml file")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or kind}: {e['msg']}" for e in error.errors()]
        raise RecipeError("\n".join([f"{kind} '{source}' does not fit:", *lines, "Fix: correct the file"])) from None
