"""The hash of the code that a result depends on: a module, what it imports, and what that imports."""

from __future__ import annotations

import ast
import functools
import importlib.util
from pathlib import Path

from ..errors import RunError
from .hashes import hash_text

# They carry values, name files and word messages; the values themselves are part of every key.
WITHOUT_EFFECT = ("errors", "faults", "notation", "recipe", "records", "store")


def hash_code(*modules: str) -> str:
    """Return a hash of the source text of modules and of all that they import of their package; nothing is imported.

    Args:
        modules: by their full names. The name of a package stands for its ``__init__`` and what that imports.

    Raises:
        RunError: the source of a module is not there.
    """
    return hash_text(*(_find_source(name).read_text(encoding="utf-8") for name in sorted(follow_imports(*modules))))


def follow_imports(*modules: str) -> frozenset[str]:
    """Return the names of modules and of what they import of their package, directly or through others."""
    found, waiting = set[str](), list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _list_imports(name)
    return frozenset(found)


@functools.cache
def _list_imports(module: str) -> tuple[str, ...]:
    """Return the modules of its own top package that a module imports, inside functions too."""
    path, (root, _, _) = _find_source(module), module.partition(".")
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), package or module)
            for alias in node.names:
                part = f"{name}.{alias.name}"
                found.add(part if part.startswith(f"{root}.") and _locate(part) is not None else name)
    apart = {f"{root}.{name}" for name in WITHOUT_EFFECT}
    inside = (name for name in found if name.startswith(f"{root}."))
    return tuple(sorted(name for name in inside if ".".join(name.split(".")[:2]) not in apart))


def _find_source(module: str) -> Path:
    if (path := _locate(module)) is None:
        raise RunError(f"no source of module {module} was found", fix="install smalti from its source or wheel")
    return path


@functools.cache
def _locate(module: str) -> Path | None:
    """Return the file of a module or of a package's ``__init__``; ``find_spec`` of a part would import its parents."""
    root, *parts = module.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    if not parts:
        return origin
    stem = origin.parent.joinpath(*parts)
    return next((p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()), None)
