"""The article: compiles as it is, tells the numbers of the JSON, leaves a person's text alone, same bytes twice."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from smalti.errors import RunError
from smalti.report import write_article
from smalti.report.article.latex import Latex, escape_latex, spell_ascii
from smalti.report.article.numbers import Numbers, spell_number
from smalti.report.figures.drawing import Drawing
from smalti.store import write_json
from test_ladder_report import NASTY, draw_comparison, draw_entries, draw_ladder
from test_report import build_run


def compile_article(path: Path) -> str:
    """Compile three times, as cross-references need; the log of the last time."""
    if shutil.which("pdflatex") is None:
        pytest.skip("not applicable: no pdflatex")
    for _ in range(3):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-2000:]
    return path.with_suffix(".log").read_text(encoding="utf-8", errors="replace")


def check_log(log: str) -> None:
    assert not re.findall(r"^! .*", log, flags=re.M)
    assert not re.findall(r"Overfull \\hbox.*", log)
    assert not re.findall(r"LaTeX Warning: (?:Reference|Citation|There were|Label).*", log)
    assert not re.findall(r"(?:Package|LaTeX Font) \w* ?Warning.*", log)


def count_body_pages(path: Path) -> int:
    aux = path.with_suffix(".aux").read_text(encoding="utf-8", errors="replace")
    return int(re.findall(r"\\newlabel\{sec:bodyend\}\{\{[^}]*\}\{(\d+)\}", aux)[0])


def read_pdf(path: Path) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("not applicable: no pdftotext")
    command = ["pdftotext", "-layout", str(path.with_suffix(".pdf")), "-"]
    text = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8")
    return " ".join(text.replace("\u2212", "-").split())


@pytest.mark.slow
@pytest.mark.parametrize(("rungs", "nasty"), [(6, False), (6, True), (14, False), (14, True), (1, True)])
def test_a_ladder_compiles_and_tells_its_numbers(tmp_path: Path, rungs: int, nasty: bool) -> None:
    folder = draw_ladder(tmp_path, rungs=rungs, nasty=nasty)
    path = write_article(folder)
    check_log(compile_article(path))
    if rungs <= 6:
        assert count_body_pages(path) <= 3
    words = read_pdf(path)
    content = json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    for rung in content["rungs"]:
        for metric in (rung["metrics"] or {}).values():
            assert f"{metric['value']:.3f}" in words
            assert f"{metric['low']:.3f} to {metric['high']:.3f}" in words
        if rung["difference"]:
            assert f"{rung['difference']['macro_f1']['value']:+.3f}" in words
    assert "References" in words
    if not nasty:
        assert all(rung["settings"][0] in words for rung in content["rungs"])
    if rungs == 6 and not nasty:
        assert "CUDA out of memory: tried 2.00 GiB" in words
        assert "Of 3 paired comparisons, 2 showed an improvement, 0 a loss, and 1 cannot be told apart" in words
        assert "Holm" in words
        assert "The highest of 4 scores, 0.577 of colour, is worth about 0.543" in words
        assert "Guo" not in words  # no temperature was used
        assert "Luminal A 40.0 %" in words


@pytest.mark.slow
def test_a_run_compiles_with_its_data_seal_and_metrics(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    score = {"value": 0.6789, "low": None, "high": None}
    opening = {"time": "2026-11-20", "runs": ["demo_x"], "scores": {"demo_x": {"macro_f1": score}}}
    seal = {"data": str(tmp_path / "data"), "share": 0.2, "sealed_at": "x", "images": [], "n_images": 0, "n_cases": 12}
    write_json(run.path.parent / "data.seal.json", seal | {"openings": [opening]})
    path = write_article(run.path)
    check_log(compile_article(path))
    words = read_pdf(path)
    scores = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))
    for metric in scores["metrics"].values():
        assert f"{metric['value']:.3f} {metric['low']:.3f} to {metric['high']:.3f}" in words
    assert "120 labelled images of 80 cases and 30 images without a label" in words
    assert "The audit found 1 pair of images" in words
    assert "12 further cases were sealed" in words
    assert "demo_x scores a macro-F1 of 0.679" in words
    assert "train.finetune.augmentation" in words
    assert count_body_pages(path) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("compared", [False, True])
def test_many_runs_compile_failures_included(tmp_path: Path, compared: bool) -> None:
    if compared:
        draw_comparison(tmp_path, ["run-0", "run-3", "other_tool.csv"])
    path = write_article(tmp_path, entries=draw_entries(tmp_path, 19), title=f"Runs {NASTY}")
    check_log(compile_article(path))
    words = read_pdf(path)
    assert all(f"run-{i}" in words for i in range(19))
    assert "train: CUDA out of <memory> at 100 %_" in words
    assert ("+0.031" in words) == compared
    assert ("not compared in pairs" in words) != compared


@pytest.mark.slow
def test_temperature_brings_its_paper(tmp_path: Path) -> None:
    folder = draw_ladder(tmp_path, rungs=2)
    content = json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    content["rungs"][1]["settings"] = ["predict.calibration=temperature", "ensemble.method=stack_ovr"]
    write_json(folder / "ladder.json", content)
    text = write_article(folder).read_text(encoding="utf-8")
    assert set(re.findall(r"\\bibitem\{(\w+)\}", text)) >= {"guo2017", "wolpert1992", "holm1979", "forman2010"}
    cited = {key for keys in re.findall(r"\\cite\{([\w,]+)\}", text) for key in keys.split(",")}
    assert cited == set(re.findall(r"\\bibitem\{(\w+)\}", text))


@pytest.mark.slow
def test_every_number_of_the_text_is_a_macro(tmp_path: Path) -> None:
    folder = draw_ladder(tmp_path)
    path = write_article(folder)
    macros = dict(
        re.findall(r"\\newcommand\{\\(\w+)\}\{(.*?)\}(?: %.*)?$", read(path.parent / "numbers.tex"), flags=re.M)
    )
    assert macros["RungTwoScore"] == "0.472"
    assert macros["RungTwoDifference"] == "+0.160"
    assert macros["SmallestDetectable"] == "0.073"
    assert macros["DataOneCases"] == "80"
    for name in ("main.tex", "table.tex", "appendix.tex"):
        text = read(path.parent / name)
        assert not re.findall(r"(?<![\d.])\d\.\d{3}(?!\d)", text.split("\\begin{longtable}{@{}L{65mm}L{93mm}@{}}")[0])
        used = set(re.findall(r"\\((?:Rung|Data)[A-Z]\w*)", text))
        assert used <= set(macros)


def read(path: Path) -> str:
    return path.read_text(encoding="ascii")


@pytest.mark.slow
def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        folder = draw_ladder(tmp_path / name)
        write_article(folder)
        contents.append((folder / "article.zip").read_bytes())
        write_article(folder)
        assert (folder / "article.zip").read_bytes() == contents[-1]
    assert contents[0] == contents[1]
    names = zipfile.ZipFile(io.BytesIO(contents[0])).namelist()
    assert names == [
        "README.txt", "appendix.tex", "figures/differences.pdf", "figures/scores.pdf", "main.tex", "numbers.tex",
        "table.tex",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_text_that_a_person_changed_is_kept(tmp_path: Path) -> None:
    folder = draw_ladder(tmp_path)
    path = write_article(folder)
    first = path.read_text(encoding="utf-8")
    mine = first.replace("\\section{Problem}", "\\section{Our problem}")
    path.write_text(mine, encoding="utf-8")
    content = json.loads((folder / "ladder.json").read_text(encoding="utf-8"))
    content["rungs"][1]["metrics"]["macro_f1"]["value"] = 0.4444
    write_json(folder / "ladder.json", content)
    assert write_article(folder) == path
    assert path.read_text(encoding="utf-8") == mine
    assert "0.444" in read(path.parent / "numbers.tex")
    assert "\\section{Problem}" in read(path.parent / "main-new.tex")
    archive = zipfile.ZipFile(folder / "article.zip")
    assert b"Our problem" in archive.read("main.tex")
    assert "main-new.tex" not in archive.namelist()
    path.write_text(first, encoding="utf-8")
    write_article(folder)
    assert not (path.parent / "main-new.tex").exists()


@pytest.mark.slow
def test_what_latex_makes_is_not_packed_but_own_pictures_are(tmp_path: Path) -> None:
    folder = draw_ladder(tmp_path, rungs=1)
    article = write_article(folder).parent
    for name in ("main.pdf", "main.aux", "main.log", ".hidden.tex", "figures/photo.png"):
        (article / name).write_bytes(b"x")
    write_article(folder)
    names = set(zipfile.ZipFile(folder / "article.zip").namelist())
    assert "figures/photo.png" in names
    assert not names & {"main.pdf", "main.aux", "main.log", ".hidden.tex"}


def test_a_folder_without_anything_to_write_about_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no ladder\.json, comparison\.json or scores\.json"):
        write_article(tmp_path)
    (tmp_path / "ladder.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        write_article(tmp_path)


@pytest.mark.slow
def test_only_packages_of_a_plain_installation_are_used(tmp_path: Path) -> None:
    text = write_article(draw_ladder(tmp_path, rungs=1)).read_text(encoding="utf-8")
    packages = set(re.findall(r"\\usepackage(?:\[[^]]*\])?\{(\w+)\}", text))
    plain = {"inputenc", "fontenc", "lmodern", "textcomp", "amsmath", "geometry", "graphicx", "booktabs", "array"}
    assert packages <= plain | {"longtable", "hyperref"}


def test_every_character_becomes_ascii_that_latex_takes() -> None:
    for number in (*range(0x3000), *range(0x3000, 0x110000, 97)):
        assert escape_latex(chr(number)).isascii()
    assert escape_latex("50% & $x_1$ {a} #1 ~ ^ \\") == (
        r"50\% \& \$x\_\allowbreak{}1\$ \{a\} \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert escape_latex("Zürich ß ñ é Ł") == "Z\\\"{u}rich \\ss{} \\~{n} \\'{e} \\L{}"
    assert escape_latex("β-catenin Ω Α") == r"$\beta$-\allowbreak{}catenin $\Omega$ A"
    assert escape_latex("рак щи Яма") == "rak shchi Iama"
    assert escape_latex("中") == r"{[}U+4E2D{]}\allowbreak{}"
    assert escape_latex(Latex(r"\a")) == r"\a"


@pytest.mark.slow
def test_letters_of_many_scripts_compile(tmp_path: Path) -> None:
    numbers = [*range(0x20, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x2300), 0x4E2D, 0x1F52C, 0xFB01, 0x200B]
    text = " ".join(f"{escape_latex(chr(n))}." for n in numbers)
    path = tmp_path / "letters.tex"
    head = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{textcomp,amsmath}\\begin{document}\\sloppy\n"
    path.write_text(f"{head}{text}\n\\end{{document}}\n", encoding="ascii")
    log = compile_article(path)
    assert not re.findall(r"^! .*", log, flags=re.M)


def test_long_names_may_break_everywhere_and_plain_words_nowhere() -> None:
    assert "\\allowbreak" not in escape_latex("classification of transillumination")
    pieces = escape_latex("0123456789abcdef" * 4).split("\\allowbreak{}")
    assert max(map(len, pieces)) <= 6
    assert "".join(pieces) == "0123456789abcdef" * 4
    assert spell_ascii("naïve 50% \\x{}") == "naive 50- -x--"


@pytest.mark.parametrize(
    ("number", "word"), [(1, "One"), (14, "Fourteen"), (42, "FortyTwo"), (2106, "TwoThousandOneHundredSix")]
)
def test_numbers_are_spelled(number: int, word: str) -> None:
    assert spell_number(number) == word


def test_names_of_macros_differ_and_hold_letters_only() -> None:
    words = [spell_number(n) for n in range(1, 3000)]
    assert len(set(words)) == len(words)
    assert all(word.isalpha() for word in words)
    with pytest.raises(ValueError, match="cannot name a macro"):
        Numbers().define("Rung1", 2)
    with pytest.raises(ValueError, match="1 to 9999"):
        spell_number(0)


@pytest.mark.slow
def test_figures_hold_outlines_no_dates_and_the_same_bytes(tmp_path: Path) -> None:
    folder = draw_ladder(tmp_path, nasty=True)
    figures = write_article(folder).parent / "figures"
    first = {path.name: path.read_bytes() for path in figures.iterdir()}
    write_article(folder)
    assert first == {path.name: path.read_bytes() for path in figures.iterdir()}
    for content in first.values():
        assert b"CreationDate" not in content
        assert b"/Type3" not in content


def test_a_drawing_is_the_same_for_page_and_paper() -> None:
    seen: list[Any] = []

    def paint(figure: Figure) -> None:
        figure.text(0.1, 0.5, "中 é \U0001f52c $x_1$")
        seen.append(mpl.rcParams["text.parse_math"])

    drawing = Drawing("d", "words", 2, 1, paint)
    assert "中 é" in drawing.to_svg()
    assert drawing.to_pdf() == drawing.to_pdf()
    assert seen == [False] * 3
