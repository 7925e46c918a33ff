"""Text that LaTeX takes as text: special characters, letters beyond ASCII, words that are too long for a line.

Everything leaves as ASCII, so that any engine and any input encoding reads the same.
"""

from __future__ import annotations

import re
import unicodedata

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", "-": "-",
    "[": "{[}", "]": "{]}",
}  # fmt: skip
SYMBOLS = {
    "–": "--", "—": "---", "−": "$-$", "…": r"\dots{}", "‘": "`", "’": "'", "“": "``", "”": "''",
    "„": r"\quotedblbase{}", "«": r"\guillemotleft{}", "»": r"\guillemotright{}", "°": r"\textdegree{}", "±": "$\\pm$",
    "×": r"$\times$", "·": r"\textperiodcentered{}", "µ": r"$\mu$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$",
    "≈": r"$\approx$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "∞": r"$\infty$", "§": r"\S{}", "€": "EUR",
    "£": r"\pounds{}", "©": r"\textcopyright{}", "®": r"\textregistered{}", "™": r"\texttrademark{}", "²": r"$^{2}$",
    "³": r"$^{3}$", "ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}",
    "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}", "đ": r"\dj{}", "Đ": r"\DJ{}", "ð": r"\dh{}", "Ð": r"\DH{}", "þ": r"\th{}",
    "Þ": r"\TH{}", "ı": r"\i{}", "¿": "?`", "¡": "!`",
}  # fmt: skip
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0328": "k",
    "\u0331": "b",
}  # fmt: skip
# Scientific transliteration would need accents; this is what a passport writes (ICAO Doc 9303).
CYRILLIC = dict(
    zip(
        "абвгдеёжзийклмнопрстуфхцчшщъыьэюяєіїґ",
        re.split(" ", "a b v g d e e zh z i i k l m n o p r s t u f kh ts ch sh shch ie y  e iu ia ie i i g"),
        strict=True,
    )
)
DASHES = {"\u00ad": "", "\u2010": "-", "\u2011": "-", "\u2044": "/"}
GREEK_LETTERS = re.compile(
    "(alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|omicron|pi|rho|sigma|tau|upsilon|phi|chi"
    "|psi|omega)"
)
GREEK_CAPITALS = {"Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"}
GREEK_AS_LATIN = {"Eta": "H", "Rho": "P", "Chi": "X", "omicron": "o"}  # other capitals look like their first letter
LONGEST = 12  # letters and digits in a row that may stay together
PIECE = 6
AFTER = "/_.=:,;-@\\|&)]}"  # a line may end after these


class Latex(str):
    """Text that is LaTeX already; everything else is escaped where it enters a template."""

    __slots__ = ()


def escape_latex(value: object) -> Latex:
    """Return a value as LaTeX text that any line breaks; `Latex` stays as it is.

    A line may end after signs, and inside what is longer than a column is wide.
    """
    if isinstance(value, Latex):
        return value
    words = []
    for word in re.split(r"\s+", str(value).strip()):
        pieces: list[str] = []
        run = 0
        # Plain words are left to TeX's hyphenation.
        parts = [part for part in re.split(r"\W|_", word) if not re.fullmatch("[A-Za-z]{1,20}", part)]
        long = max(map(len, parts), default=0) > LONGEST
        composed = unicodedata.normalize("NFC", word)
        for position, character in enumerate(composed):
            pieces.append(_spell(character))
            run += 1
            last = position == len(composed) - 1
            if not last and (character in AFTER or (long and run >= PIECE)):
                pieces.append(r"\allowbreak{}")
                run = 0
        words.append("".join(pieces))
    return Latex(" ".join(words))


def spell_ascii(text: str) -> str:
    """Return plain ASCII for places that take no commands: PDF titles, comments, file names."""
    letters = []
    for character in unicodedata.normalize("NFKD", " ".join(text.split())):
        if character.isascii():
            letters.append(character if character.isprintable() else " ")
        elif not unicodedata.combining(character):
            letters.append(CYRILLIC.get(character.lower(), "?"))
    return re.sub(r"[\\{}$&#%_~^]", "-", "".join(letters))


def _spell(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    for table in (SYMBOLS, DASHES):
        if character in table:
            return table[character]
    if character.lower() in CYRILLIC:
        spelled = CYRILLIC[character.lower()]
        return spelled if character.islower() else spelled.capitalize()
    # A letter with accents, a ligature or a width variant by its parts; the code point where there are none.
    base, *marks = list(unicodedata.normalize("NFKD", character))
    if unicodedata.category(character) in {"Cf", "Mn", "Me"}:
        return ""
    if base.isascii() and marks and all(mark in ACCENTS for mark in marks):
        spelled = _spell(base)
        for mark in marks:
            spelled = f"\\{ACCENTS[mark]}{{{spelled}}}"
        return spelled
    greek = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)( WITH .*)?", unicodedata.name(character, ""))
    name = greek[2].lower().replace("lamda", "lambda") if greek else ""
    if greek and GREEK_LETTERS.fullmatch(name):
        name = name.capitalize() if greek[1] == "CAPITAL" else name
        latin = GREEK_AS_LATIN.get(name, "" if name.islower() or name in GREEK_CAPITALS else name[0])
        return latin or f"$\\{name}$"
    parts = [c for c in (base, *marks) if not unicodedata.combining(c)]
    if parts != [character] and parts:
        return "".join(_spell(c) for c in parts)
    return f"{{[}}U+{ord(character):04X}{{]}}\\allowbreak{{}}"
