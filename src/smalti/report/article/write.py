"""A short article as LaTeX: text to go on with, every number a macro, vector graphics, an appendix with everything."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from ...records.layout import ARTICLE, ARTICLE_ZIP, FIGURES
from ...store import hash_text, write_atomic
from ..figures.drawing import Drawing
from ..figures.plots import draw_headline, draw_reliability
from ..sections.experiments import draw_runs
from ..sections.rungs import SIGN_TEXT, draw_ladder
from ..subject import Subject, read_subject
from .chapters import fill_article
from .latex import Latex, escape_latex
from .numbers import Numbers

if TYPE_CHECKING:
    from ...logbook import Entry

MARK = "% smalti fingerprint "
SHIPPED = {".tex", ".pdf", ".png", ".jpg", ".jpeg", ".eps", ".bib", ".bst", ".cls", ".sty", ".txt"}
NOT_SHIPPED = {"main.pdf", "main-new.tex", "main-new.pdf"}
NO_DATE = (1980, 1, 1, 0, 0, 0)  # the first date that a ZIP file knows; no clock in the bytes
IN_BODY = 2


def write_article(folder: Path, *, entries: Sequence[Entry] = (), title: str = "", authors: str = "") -> Path:
    """Write ``article/`` and ``article.zip`` into a ladder, run or comparison folder; return the path of ``main.tex``.

    A ``main.tex`` that a person has changed is kept; the new text then lies beside it as ``main-new.tex``. Numbers,
    tables and figures are written anew. The same folder gives the same bytes.

    Args:
        folder: of a ladder, run or comparison; with ``entries`` any folder.
        entries: the runs of an article about many runs.
        title: of the article; by default from the data and the name.
        authors: as they shall stand below the title.

    Raises:
        RunError: the folder holds nothing to write about, or a file is damaged.
    """
    subject = read_subject(folder, entries=entries, title=title)
    numbers = Numbers()
    values = fill_article(subject, numbers, title=title, authors=authors)
    figures = draw_figures(subject)
    values |= _fill_figures(subject, figures)
    article = folder / ARTICLE
    environment = make_environment()
    for drawing in figures:
        write_atomic(article / FIGURES / f"{drawing.name}.pdf", drawing.to_pdf())
    for name in ("table.tex", "appendix.tex", "README.txt"):
        write_atomic(article / name, environment.get_template(name).render(values))
    write_atomic(article / "numbers.tex", numbers.write())
    text = environment.get_template("main.tex").render(values)
    stamped = f"{text}{MARK}{hash_text(text)}\n"
    path, fresh = article / "main.tex", article / "main-new.tex"
    known = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else stamped
    body, mark, fingerprint = known.rpartition(MARK)
    if mark and hash_text(body) == fingerprint.strip():
        fresh.unlink(missing_ok=True)
        write_atomic(path, stamped)
    else:  # a person has changed it
        write_atomic(fresh, stamped)
    write_atomic(folder / ARTICLE_ZIP, pack_folder(article))
    return path


def draw_figures(subject: Subject) -> list[Drawing]:
    """Return the drawings of the page, for paper."""
    if subject.kind == "ladder":
        return draw_ladder(subject) if any(t.score for t in subject.candidates) else []
    if subject.kind == "runs":
        return draw_runs(subject)
    drawings: list[Drawing] = []
    if subject.scores is None:
        return drawings
    score, calibration = subject.scores.headline, subject.scores.calibration
    if None not in (score.low, score.high):
        drawings.append(draw_headline(score, name="macro-F1", words=""))
    drawings.append(draw_reliability(calibration.bins, words=""))
    return drawings


def _fill_figures(subject: Subject, figures: Sequence[Drawing]) -> dict[str, object]:
    shown = figures[:IN_BODY]
    width = "0.49" if len(shown) > 1 else "0.6"
    # Axes of ladders stand on one line; the two pictures of a run differ in height and are centred.
    before, after = ("$\\vcenter{\\hbox{", "}}$") if subject.kind == "run" else ("", "")
    same = {"width": Latex(width), "height": Latex("0.4"), "before": Latex(before), "after": Latex(after)}
    items = [{"name": Latex(f"{drawing.name}.pdf"), **same} for drawing in figures]
    confidence = Latex("\\Confidence{}~\\% intervals")
    chance = subject.datasets[0].chance if subject.datasets else None
    words = {
        "ladder": f"Scores (left) and, where steps were compared, paired differences (right) with {confidence}. "
        + SIGN_TEXT,
        "run": "The score with its interval above the range of guesses (grey; dashed: always the most frequent class); "
        "and, where it was measured, accuracy against confidence.",
        "runs": f"Scores with {confidence}, runs in the order of their start. Dashed: guessing by shares. {SIGN_TEXT}",
    }[subject.kind]
    if subject.kind == "ladder" and chance is not None and chance.prior_low is not None:
        words += " Grey band: guessing by the shares of the classes."
    return {"figures": items[:IN_BODY], "more_figures": items[IN_BODY:], "figure_words": Latex(words)}


def pack_folder(folder: Path) -> bytes:
    """Return an article's files as ZIP, sorted, without dates and without what LaTeX makes; same files, same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            if path.suffix not in SHIPPED or path.name in NOT_SHIPPED or path.name.startswith("."):
                continue
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), NO_DATE)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, path.read_bytes())
    return buffer.getvalue()


def make_environment() -> jinja2.Environment:
    """Return what fills LaTeX templates; values are escaped unless `Latex`.

    Templates have ``<< >>`` and ``<% %>``, which LaTeX text does not hold.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smalti.report"), autoescape=False, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, finalize=escape_latex,
        variable_start_string="<<", variable_end_string=">>", block_start_string="<%", block_end_string="%>",
        comment_start_string="<#", comment_end_string="#>",
    )  # fmt: skip
    environment.filters["tex"] = Latex
    return environment
