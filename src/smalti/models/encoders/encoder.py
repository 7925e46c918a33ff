"""What is known of an encoder of tiles: how its network is made, what it expects, and which of its tokens are taken.

What is known of its licence, its gate and its paper is a row of the ledger (`smalti.licences`), and stands only there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...licences import Row, find_encoder_row
from ...registry import Registry
from ...types import InputSpec

Embedding = Literal["class", "mean", "class+mean", "model"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INCEPTION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HUB = "hf-hub:"


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder of tiles.

    Attributes:
        name: how recipes call it; the ledger has its row under the same name.
        features: D of its embedding; None where the card was not read.
        size_px: side of the tiles that it takes; None as above, or where it takes no tiles.
        colours: mean and standard deviation of RGB in 0..1.
        embedding: the class token, the mean of the patches, both one after the other, or what the model returns.
        architecture: timm's name of the network; empty where timm cannot build it.
        options: what timm's builder takes besides, layers by their names.
        files: of the hub that hold its weights under timm's names; empty where they have other names there.
        built_by: whose code builds it otherwise.
        unchecked: what of this record was taken from others, beyond the licence.
    """

    name: str
    features: int | None
    size_px: int | None = 224
    colours: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    embedding: Embedding = "class"
    architecture: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = HUB_FILES
    built_by: str = ""
    unchecked: str = ""

    @property
    def terms(self) -> Row:
        """Return licence, gate and paper, as the ledger has them."""
        row = find_encoder_row(self.name)
        assert row is not None, f"{self.name} has no row in the ledger"
        return row

    @property
    def hub_id(self) -> str:
        """Return OWNER/NAME of the hub; empty where its weights lie elsewhere, or where timm knows the place."""
        return self.terms.name.removeprefix(HUB) if self.terms.name.startswith(HUB) else ""

    @property
    def by_timm(self) -> bool:
        """Return whether timm has the weights under the name of the architecture, so that nothing is to be added."""
        return "." in self.architecture

    @property
    def spec(self) -> InputSpec:
        """Return what it expects of its input; tiles of another size are resized to the one that it was made for."""
        return InputSpec(self.size_px or 0, True, *self.colours)

    def describe(self) -> str:
        """Return one line: what it is, how large its embedding, its licence and its gate."""
        terms, size = self.terms, f" from {self.size_px} px" if self.size_px else ""
        made = f"{self.features} features{size}" if self.features else "see card"
        gate = ", gated" if terms.gated == "yes" else ""
        built = "" if self.architecture else "; own code"
        return f"{terms.title}: {made}; {terms.licence}, commercial {terms.commercial}{gate}{built}"


ENCODERS: Registry[Encoder] = Registry("encoder")


def register_encoders(*encoders: Encoder) -> None:
    """Register records."""
    for encoder in encoders:
        ENCODERS.add(encoder.name, encoder, summary=encoder.describe(), reference=encoder.terms.source)


def find_encoder(name: str) -> Encoder | None:
    """Return the encoder of a name, of another of its names, or of its id on the hub; None for all other backbones."""
    row = find_encoder_row(name)
    return None if row is None else ENCODERS.build(row.also[0])
