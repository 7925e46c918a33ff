"""A drawing is painted once and leaves as inline SVG for a page or as PDF for an article.

SVG: text stays text, nothing refers to a file or a network. PDF: TrueType outlines (type 42), no dates, same bytes.
"""

from __future__ import annotations

import functools
import io
import re
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

# Okabe & Ito 2008: told apart with any colour vision, and in grey.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#767676"
FONT = "DejaVu Sans"  # measured with what matplotlib ships; a page's own style decides
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a class may be called "$x$"
    "font.family": "sans-serif",
    "font.sans-serif": [FONT],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "lines.solid_capstyle": "round",
}
SVG_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
PDF_METADATA = {"Creator": None, "Producer": None, "CreationDate": None}


@dataclass(frozen=True, slots=True)
class Drawing:
    """What to paint, on a sheet of which size.

    Attributes:
        name: unique on a page; elements of the SVG are named after it.
        words: what it shows, for those who cannot see it.
        width_in, height_in: size in inches.
        paint: draws on an empty figure.
    """

    name: str
    words: str
    width_in: float
    height_in: float
    paint: Callable[[Figure], None]

    def to_svg(self) -> Markup:
        """Inline SVG. The page's own header stands for the XML one; matplotlib has escaped every text."""
        with mpl.rc_context(STYLE | {"svg.hashsalt": self.name}), warnings.catch_warnings():
            # Text stays text: the reader's own fonts have what the measuring font lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure = self._paint()
            FigureCanvasSVG(figure)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata=SVG_METADATA, transparent=True)
        text = buffer.getvalue()
        # Groups are numbered alike in every drawing and nothing refers to them; a page wants each name once.
        return Markup(re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :]))

    def to_pdf(self) -> bytes:
        """A PDF page of this size; characters that the font lacks are spelled in Latin letters or as ``?``."""
        with mpl.rc_context(STYLE):
            figure = self._paint()
            for text in figure.findobj(Text):
                text.set_text(_spell_known(text.get_text()))
            FigureCanvasPdf(figure)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="pdf", metadata=PDF_METADATA, transparent=True)
        return buffer.getvalue()

    def _paint(self) -> Figure:
        figure = Figure(figsize=(self.width_in, self.height_in), layout="constrained")
        self.paint(figure)
        return figure


def _spell_known(text: str) -> str:
    return "".join(c if _is_known(c) else _strip_accents(c) for c in text)


def _strip_accents(character: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", character) if _is_known(c))
    return plain or "?"


@functools.lru_cache(maxsize=4096)
def _is_known(character: str) -> bool:
    return character == "\n" or bool(_open_font().get_char_index(ord(character)))


@functools.lru_cache(maxsize=1)
def _open_font() -> FT2Font:
    return FT2Font(findfont(FONT))
