"""Every record is written by its writer and read back by its reader; what is damaged or older is one error."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from smalti import records
from smalti.errors import RunError, SmaltiError
from smalti.records import Record, layout, log_event, log_stage, read_events

SOURCE = Path(records.__file__).parents[1]
# What a data folder is called by its makers, not by smalti, may have the same name as a file of a run.
DATA = ("cohort", "demo")


def list_records(kind: type[Record] = Record) -> Iterator[type[Record]]:
    for module in pkgutil.walk_packages(records.__path__, "smalti.records."):
        importlib.import_module(module.name)
    for one in kind.__subclasses__():
        if "FILE" in vars(one):
            yield one
        yield from list_records(one)


def draw(kind: Any, *, empty: bool) -> Any:
    """A value of a type; with ``empty`` None and nothing wherever that is allowed."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return draw(args[0], empty=empty)
    if origin in (Union, types.UnionType):
        if empty and types.NoneType in args:
            return None
        return draw(next(arg for arg in args if arg is not types.NoneType), empty=empty)
    if origin is Literal:
        return args[0]
    if origin is tuple:
        if args[-1] is not Ellipsis:
            return tuple(draw(arg, empty=empty) for arg in args)
        return () if empty else (draw(args[0], empty=empty),)
    if origin in (list, frozenset):
        return origin([] if empty else [draw(args[0], empty=empty)])
    if origin in (dict, Mapping):
        return {} if empty else {draw(args[0], empty=empty): draw(args[1], empty=empty)}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        hints = get_type_hints(kind, include_extras=True)
        drawn = {name for name, field in kind.model_fields.items() if not field.exclude}
        return kind(**{name: draw(hints[name], empty=empty) for name in drawn})
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: draw(hints[field.name], empty=empty) for field in fields(kind)})  # type: ignore[call-overload]
    return {str: "ä, b", int: 3, float: 0.1 + 0.2, bool: True, Path: Path("ä", "b"), Any: "any"}[kind]


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("kind", list(list_records()), ids=lambda kind: kind.__name__)
def test_every_record_is_read_as_it_was_written(kind: type[Record], empty: bool, tmp_path: Path) -> None:
    record = draw(kind, empty=empty)
    path = record.write(tmp_path)
    assert path == kind.locate(tmp_path)
    assert kind.read(tmp_path) == record
    before = path.read_bytes()
    kind.read(tmp_path).write(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", list(list_records()), ids=lambda kind: kind.__name__)
def test_a_damaged_record_is_one_error_with_the_fix(kind: type[Record], tmp_path: Path) -> None:
    assert kind.find(tmp_path) is None
    path = draw(kind, empty=False).write(tmp_path)
    for text in (path.read_text(encoding="utf-8")[:-12], "{", '{"no": "record"}', "[1]"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SmaltiError, match="Fix: ") as told:
            kind.read(tmp_path)
        assert str(path) in str(told.value)


def test_a_record_of_another_version_says_so(tmp_path: Path) -> None:
    for kind in [kind for kind in list_records() if kind.VERSION is not None]:
        path = draw(kind, empty=False).write(tmp_path)
        content = json.loads(path.read_text(encoding="utf-8"))
        for version in ({}, {"version": 99}):
            kept = {key: value for key, value in content.items() if key != "version"}
            path.write_text(json.dumps(version | kept), encoding="utf-8")
            with pytest.raises(RunError, match=r"another version of smalti .* Fix: "):
                kind.read(tmp_path)


def test_a_number_that_is_none_is_none_in_memory_and_null_on_disk(tmp_path: Path) -> None:
    interval = records.Interval(value=float("nan"), low=0.0, high=1.0)
    assert interval.value is None
    assert json.loads(interval.model_dump_json()) == {"value": None, "low": 0.0, "high": 1.0}


def test_no_stage_is_logged_in_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / layout.CASES).write_text("sample_index,case\n", encoding="utf-8")  # a data folder has such a file too
    with pytest.raises(RunError, match=r"no run folder at .*Fix"), log_stage(tmp_path, "report"):
        pass
    assert not (tmp_path / layout.EVENTS).exists()


def test_states_of_stages_are_values(tmp_path: Path) -> None:
    (tmp_path / layout.RECIPE).touch()
    with log_stage(tmp_path, "tile"):
        log_event(tmp_path, "said", member="a", text="train failed")
    with pytest.raises(ValueError, match="no"), log_stage(tmp_path, "train"):
        raise ValueError("no")
    with (tmp_path / layout.EVENTS).open("a", encoding="utf-8") as file:
        file.write('{"time": "half a li')
    events = read_events(tmp_path)
    assert [(e.stage, e.state) for e in events] == [
        ("tile", "begins"), ("", None), ("tile", "done"), ("train", "begins"), ("train", "failed"),
    ]  # fmt: skip
    last = records.find_last_stage(events)
    assert last is not None
    assert (last.stage, last.state, last.error) == ("train", "failed", "ValueError: no")
    assert records.find_last_stage(events[:3]) is None
    assert records.sum_seconds(events) == events[2].seconds


def list_literals(tree: ast.Module) -> Iterator[str]:
    """Texts of a module that are no docstring and no part of a longer message."""
    words = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    words |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in words:
            yield node.value


def test_no_other_module_spells_the_name_of_a_file_of_a_run() -> None:
    names = {Path(name).name for key, name in vars(layout).items() if key.isupper() and "." in str(name)}
    named = {name for name in names if not name.startswith(".")}
    spelled = [
        f"{path.relative_to(SOURCE)}: {text}"
        for path in sorted(SOURCE.rglob("*.py"))
        if path.relative_to(SOURCE).parts[0] not in ("records", *DATA)
        for text in list_literals(ast.parse(path.read_text(encoding="utf-8")))
        if Path(text).name in named
    ]
    assert spelled == []
