"""The form of every record: one frozen class writes a file and reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from ..errors import RunError
from ..store import reading, write_json

Number = Annotated[float | None, BeforeValidator(lambda value: None if value != value else value)]
"""A number that may be unknown. NaN, which JSON does not know, is None too."""


class Part(BaseModel):
    """A part of a record; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    LEFT_OUT: ClassVar[frozenset[str]] = frozenset()  # fields that are not written where they are None

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        content: dict[str, object] = handler(self)
        return {key: value for key, value in content.items() if value is not None or key not in self.LEFT_OUT}


class Record(Part):
    """A file of a run folder (or of a ladder, a search, a cache), as JSON.

    Attributes:
        FILE: path below the folder.
        VERSION: layout of the file, written under ``version``; None for results, which are compared byte by byte and
            whose version is that of ``environment.json``.
        FIX: what to do where the file is damaged.
        OLD: what to do where it has another version.
    """

    FILE: ClassVar[str]
    VERSION: ClassVar[int | None] = None
    FIX: ClassVar[str] = "delete it and run the stage again"
    OLD: ClassVar[str] = "run the same command again under another --name"
    LIST: ClassVar[str] = ""  # the one field, where the file holds its rows alone

    @classmethod
    def locate(cls, folder: Path) -> Path:
        """Return where the record of a folder is."""
        return folder / cls.FILE

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record of a folder.

        Raises:
            RunError: the file is missing, damaged, or was written by another version.
        """
        return cls.read_file(cls.locate(folder))

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Read the record of a folder; None where there is none.

        Raises:
            RunError: the file is damaged, or was written by another version.
        """
        return cls.read(folder) if cls.locate(folder).is_file() else None

    @classmethod
    def read_file(cls, path: Path) -> Self:
        """Read a record from a file of any name; raises as `read`."""
        with reading(path, fix=cls.FIX):
            text = path.read_text(encoding="utf-8")
            if cls.VERSION is not None:
                content = json.loads(text)
                if not isinstance(content, dict):
                    raise TypeError("it holds no object")
                if (found := content.pop("version", None)) != cls.VERSION:
                    raise RunError(
                        f"{path} was written by another version of smalti (version {found} of the file; this is "
                        f"{cls.VERSION})",
                        fix=cls.OLD,
                    )
                text = json.dumps(content)
            if cls.LIST:
                text = f'{{"{cls.LIST}": {text}}}'
            try:
                return cls.model_validate_json(text)
            except ValidationError as error:
                raise ValueError(describe_fault(error)) from None

    def write(self, folder: Path) -> Path:
        """Write the record of a folder atomically."""
        return self.write_file(self.locate(folder))

    def write_file(self, path: Path) -> Path:
        """Write the record to a file of any name, atomically."""
        return write_json(path, self.dump())

    def dump(self) -> Any:
        """Return what the file holds."""
        if self.LIST:
            return self.model_dump()[self.LIST]
        return ({} if self.VERSION is None else {"version": self.VERSION}) | self.model_dump()


def describe_fault(error: ValidationError) -> str:
    """Return the first fault of a record, with the key that has it."""
    fault = error.errors(include_url=False)[0]
    key = ".".join(str(step) for step in fault["loc"])
    if fault["type"] == "missing":
        return f"'{key}' is missing"
    return f"{key}: {fault['msg']}" if key else str(fault["msg"])
