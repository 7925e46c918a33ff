"""Every number of an article as a LaTeX macro, so that text and tables cannot disagree."""

from __future__ import annotations

from dataclasses import dataclass, field

from .latex import Latex, escape_latex, spell_ascii

ONES = (
    "", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve", "Thirteen",
    "Fourteen", "Fifteen", "Sixteen", "Seventeen", "Eighteen", "Nineteen",
)  # fmt: skip
TENS = ("", "", "Twenty", "Thirty", "Forty", "Fifty", "Sixty", "Seventy", "Eighty", "Ninety")


@dataclass(slots=True)
class Numbers:
    """Macros in the order of their definition; a name is letters only, as TeX wants it."""

    macros: dict[str, tuple[Latex, str]] = field(default_factory=dict)

    def define(self, name: str, value: object, *, about: str = "") -> Latex:
        """Define ``\\name`` and return its use; ``about`` stands beside it as a comment."""
        if not (name.isascii() and name.isalpha()):
            raise ValueError(f"'{name}' cannot name a macro. Fix: letters only")
        text = value if isinstance(value, Latex) else escape_number(str(value))
        self.macros[name] = (text, spell_ascii(about))
        return Latex(f"\\{name}{{}}")

    def write(self) -> str:
        """Return the file ``numbers.tex``."""
        lines = ["% Every number of the article. Written by smalti; written anew with the article."]
        for name, (text, about) in self.macros.items():
            lines.append(f"\\newcommand{{\\{name}}}{{{text}}}" + (f" % {about}" if about else ""))
        return "\n".join(lines) + "\n"


def escape_number(text: str) -> Latex:
    """Return a number or range with proper minus signs."""
    return Latex(escape_latex(text).replace("\\allowbreak{}", "").replace("-", "$-$").replace("$-$$-$", "--"))


def spell_number(number: int) -> str:
    """Return English words without spaces, for names of macros: 42 is ``FortyTwo``.

    Raises:
        ValueError: below 1 or above 9,999.
    """
    if not 1 <= number <= 9999:
        raise ValueError(f"{number} cannot be part of a macro's name. Fix: 1 to 9999")
    words = ""
    for size, word in ((1000, "Thousand"), (100, "Hundred")):
        if number >= size:
            words += ONES[number // size] + word
            number %= size
    return words + (ONES[number] if number < 20 else TENS[number // 10] + ONES[number % 10])
