"""The counts of benchmarks/bench_house.py, on a drawn package whose counts are known."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
READER = '''
"""scores.json in a docstring is no literal."""
def read(folder):
    """Read scores.json."""
    path = folder / "scores.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; scores.json is written by 'smalti run'")
    return _parse(path)
def _parse(path):
    return dict[str, Any](path)
class Run:
    @property
    def inner(self):
        return self.path / f"{self.name}/inner.csv", self.path / f"{self.name}.npz"
    def _twice(self):
        def nested():
            pass
        return nested() or nested()
'''


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Row -> number of a package of 17 modules."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from bench_house import count_house

    for folder, text in (
        ("evaluate", READER.lstrip()),
        ("records", 'NAME = "scores.json"\n'),
        ("cohort", 'A = "cases.csv"\n'),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / "scores.py").write_text(text)
    for number in range(11):
        (tmp_path / "evaluate" / f"room{number}.py").write_text("x = 1\n" * (401 if number == 0 else 1))
    return {count.what: count.number for count in count_house(tmp_path)}


def test_files_and_rooms_are_counted_without_init(numbers: dict[str, object]) -> None:
    assert numbers["Python files"] == 17
    assert numbers["lines"] == READER.count("\n") - 1 + 2 + 411
    assert numbers["files above 400 lines"] == 1
    assert numbers["rooms in the fullest folder"] == 12
    assert numbers["folders of more than 12 rooms"] == 0
    assert numbers["file stems in more than one folder"] == 1


def test_bodies_are_counted_after_the_docstring_and_nested_ones_too(numbers: dict[str, object]) -> None:
    assert numbers["functions"] == 5
    assert numbers["body, median"] == 1  # of 4, 1, 1, 3, 1 lines
    assert numbers["body, longest"] == 4
    assert numbers["bodies of 3 lines or fewer, %"] == 80.0


def test_a_short_function_that_is_used_once_is_found(numbers: dict[str, object]) -> None:
    assert numbers["private functions of 3 lines or fewer used once"] == 1  # _parse; _twice is used nowhere
    assert numbers["public functions of 3 lines or fewer used once"] == 0  # nested is used twice, a property by others
    assert numbers["dict[str, Any]"] == 1


def test_names_of_files_are_told_from_docstrings_messages_and_the_files_of_data_folders(
    numbers: dict[str, object],
) -> None:
    assert numbers["names of run-folder files outside records/"] == 2  # scores.json and {name}/inner.csv
    assert numbers["names of files put together outside records/"] == 1
    assert numbers["texts outside records/ that mention such a file"] == 1
