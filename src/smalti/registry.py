"""One small class for every kind of exchangeable part."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .errors import PartError
from .notation import parse_yaml

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A registered part.

    Attributes:
        name: how recipes call it.
        build: makes the part; its own signature says which keyword arguments exist.
        summary: one line for ``smalti parts``.
        reference: paper (author, year) or the library it comes from.
    """

    name: str
    build: Callable[..., T]
    summary: str
    reference: str

    @property
    def call(self) -> Callable[..., T]:
        """The registered function itself, for kinds that are called and not built: metrics, checks, criteria."""
        return self.build


class Registry(Generic[T]):
    """Parts of one kind by name.

    ``kind`` is the singular word for messages, for example ``optimiser``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries.values())

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def register(
        self, name: str, *, summary: str, reference: str = ""
    ) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Decorate a builder with its name, summary and reference.

        Raises:
            PartError: the name is taken.
        """

        def add(build: Callable[..., T]) -> Callable[..., T]:
            if name in self._entries:
                raise PartError(f"{self.kind} '{name}' is registered twice", fix="give one of them another name")
            self._entries[name] = Entry(name, build, summary, reference)
            return build

        return add

    def add(self, name: str, part: T, *, summary: str, reference: str = "") -> None:
        """Register a part that is ready and takes no arguments.

        Raises:
            PartError: the name is taken.
        """
        self.register(name, summary=summary, reference=reference)(lambda: part)

    def find(self, name: str) -> Entry[T]:
        """Return the entry called ``name``.

        Raises:
            PartError: there is none; the message names the nearest.
        """
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(sorted(self._entries))}."
        raise PartError(f"no {self.kind} is called '{name}'. {hint}", fix="see 'smalti parts'")

    def build(self, name: str, /, *args: Any, **kwargs: Any) -> T:
        """Build the part called ``name``.

        Raises:
            PartError: unknown name, or arguments that the builder does not take.
        """
        entry = self.find(name)
        try:
            inspect.signature(entry.build).bind(*args, **kwargs)
        except TypeError as error:
            takes = ", ".join(inspect.signature(entry.build).parameters) or "no arguments"
            raise PartError(f"{self.kind} '{name}': {error}. It takes: {takes}") from None
        return entry.build(*args, **kwargs)


def read_options(options: tuple[str, ...]) -> dict[str, object]:
    """Return keyword arguments of a part from ``name=value``; values are read as YAML."""
    pairs = (option.partition("=") for option in options)
    return {name: parse_yaml(value, f"option {name}") for name, _, value in pairs}
