"""Paint a drawing once, and give it as inline SVG for a page or as PDF for an article.

SVG: text stays text, nothing refers to a file or a network. PDF: TrueType outlines (type 42), no dates, same bytes.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import dataclass

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
STYLE: dict[str, object] = {
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
        """Return inline SVG without the XML header; matplotlib has escaped every text."""
        with mpl.rc_context(STYLE | {"svg.hashsalt": self.name}), warnings.catch_warnings():
            # Text stays text: the reader's own fonts have what the measuring font lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure = Figure(figsize=(self.width_in, self.height_in), layout="constrained")
            self.paint(figure)
            FigureCanvasSVG(figure)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata=SVG_METADATA, transparent=True)
        text = buffer.getvalue()
        # Groups are numbered alike in every drawing and nothing refers to them; a page wants each name once.
        return Markup(re.sub(r'<g id="[^"]*"', "<g", text[text.index("<svg") :]))

    def to_pdf(self) -> bytes:
        """Return a PDF page of this size; characters that the font lacks become Latin letters or ``?``."""
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(self.width_in, self.height_in), layout="constrained")
            self.paint(figure)
            font = FT2Font(findfont(FONT))
            for text in figure.findobj(Text):
                spelled = ""
                for character in text.get_text():
                    if character == "\n" or font.get_char_index(ord(character)):
                        spelled += character
                    else:
                        parts = unicodedata.normalize("NFKD", character)  # the letter and its accents
                        spelled += "".join(c for c in parts if font.get_char_index(ord(c))) or "?"
                text.set_text(spelled)
            FigureCanvasPdf(figure)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="pdf", metadata=PDF_METADATA, transparent=True)
        return buffer.getvalue()
