"""The base of every group of knobs."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _check_option(option: str) -> str:
    if not option.partition("=")[0].isidentifier():
        raise ValueError(f"options are written name=value, not {option}")
    return option


Option = Annotated[str, AfterValidator(_check_option)]
Seed = Annotated[int, Field(ge=0, le=1_000_000)]  # derived seeds must stay below the 2**32 of NumPy


# Bounds that no study reaches: beyond them a run never ends, or no machine holds it.
MOST_EPOCHS = 100_000
MOST_IMAGES = 100_000  # in a batch
MOST_TILES = 1_000_000  # of an image


class Section(BaseModel):
    """A frozen group of knobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)
