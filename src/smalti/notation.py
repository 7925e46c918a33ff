"""Read YAML that people wrote: recipes, ladders, spaces, settings and options of parts.

It is stricter than YAML 1.1 where that would hide a mistake: a duplicate key is an error, dates stay text, and aliases
that multiply without end are refused before anything is built from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import RecipeError

MOST_BYTES = 1_000_000  # a recipe has about 1,500
MOST_VALUES = 100_000  # after aliases are followed
FAULTS = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)  # of PyYAML's constructors


class _Loader(yaml.SafeLoader):
    """The safe loader without dates and without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"'{name}' is there twice", key.start_mark)
            if name is not None:
                seen.add(name)
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise yaml.constructor.ConstructorError(None, None, "half a surrogate is no sign", node.start_mark)
        return text


class _NameLoader(_Loader):
    """Read 1, 01 and yes as text; only null is not text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own
        sign: [(tag, form) for tag, form in known if tag == "tag:yaml.org,2002:null"]
        for sign, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_scalar)
del _Loader.yaml_constructors["tag:yaml.org,2002:binary"]  # no knob takes bytes


def read_yaml(path: Path, *, kind: str, fix: str) -> Any:
    """Return what a YAML file holds; None if it holds only comments.

    Args:
        path: the file.
        kind: what it should be, for the message.
        fix: what to do where there is no such file.

    Raises:
        RecipeError: no ordinary file, too large, not UTF-8 or no YAML.
    """
    if path.is_dir():
        raise RecipeError(f"{path} is a folder, no {kind} file", fix=fix)
    if not path.exists():
        raise RecipeError(f"no {kind} file at {path}", fix=fix)
    if not path.is_file():  # a pipe would keep smalti waiting for ever
        raise RecipeError(f"{path} is no ordinary file", fix=fix)
    if path.stat().st_size > MOST_BYTES:
        raise RecipeError(f"{path} has more than {MOST_BYTES // 1_000_000} MB", fix=fix)
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", fix="save it as UTF-8 text") from None


def parse_yaml(text: str, where: str, *, names: bool = False) -> Any:
    """Return what YAML text holds; ``where`` is for the message. With ``names`` all values but null stay text.

    Raises:
        RecipeError: no YAML, a value that YAML cannot make of its text, a key that is there twice, or nested too deep.
    """
    loader = None
    try:
        loader = (_NameLoader if names else _Loader)(text)  # looks at the first signs already
        node = loader.get_single_node()
        if node is None:
            return None
        if _count_values(node, {}) > MOST_VALUES:
            raise RecipeError(
                f"{where} has aliases that stand for more than {MOST_VALUES:,} values", fix="write it out"
            )
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where} is not valid YAML: {error}", fix="correct the line named above") from None
    except RecursionError:
        raise RecipeError(
            f"{where} nests too deep", fix="a section, a knob and its value are all that is read"
        ) from None
    except FAULTS as error:
        what = str(error).partition("; use sys.")[0]  # Python's advice about long numbers helps nobody here
        raise RecipeError(f"{where} has a value that cannot be read: {what}", fix="correct or quote it") from None
    finally:
        if loader is not None:
            loader.dispose()


def _count_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values below a node with every alias written out; a node inside itself counts as endless."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_VALUES + 1  # until it is counted: whoever meets it before that is inside of it
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    below = sum(_count_values(part, known) for part in parts) if isinstance(node, yaml.CollectionNode) else 0
    known[id(node)] = 1 + below
    return known[id(node)]


def flatten(section: Mapping[Any, Any], prefix: str = "") -> dict[str, object]:
    """Return dotted name -> value of nested mappings, such as a recipe."""
    flat: dict[str, object] = {}
    for name, value in section.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def say_value(value: object) -> str:
    """Return a value as ``--set`` takes it: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
