"""The papers: the site builds, no link is dead, and what pages name is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer
import yaml

from smalti.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
LARGEST_BYTES = 150_000


class Links(HTMLParser):
    """The ids of a page, what it links to, and what a browser loads with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in ("script", "img", "source", "iframe") and "src" in found:
            self.loaded.append(found["src"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "preload", "preconnect", "icon"):
            self.loaded.append(found["href"])


@pytest.mark.slow
def test_the_site_builds_and_all_that_it_names_is_there(tmp_path: Path) -> None:
    """One test, so that the site is built once."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    parsed = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert not find_dead(parsed)
    loaded = {link for page in parsed.values() for link in page.loaded}
    assert loaded
    assert not {link for link in loaded if urlsplit(link).netloc}, "the site loads nothing from elsewhere"
    check_reference({path.stem: path.read_text(encoding="utf-8") for path in (site / "reference").iterdir()})


def find_dead(parsed: dict[Path, Links]) -> list[str]:
    """Return links, and anchors, of pages that lead nowhere."""
    dead = []
    for path, page in parsed.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = not parts.fragment or target not in parsed or unquote(parts.fragment) in parsed[target].ids
            if not target.is_file() or not known:
                dead.append(f"{path.name}: {link}")
    return dead


def check_reference(pages: dict[str, str]) -> None:
    """Check that every command, knob, part, preset and public name stands in the reference."""
    import smalti
    from smalti.doctor import list_parts
    from smalti.recipe import list_documents, list_knobs

    text = {name: page.replace("<wbr>", "") for name, page in pages.items()}
    assert all(f">smalti {name}" in text["commands"] for name in list_commands())
    assert all(f"<code>{knob}</code>" in text["recipe"] for knob in list_knobs())
    assert all(f"<code>{entry.name}</code>" in text["parts"] for _, entry in list_parts())
    assert all(f'id="preset-{name}"' in text["presets"] for name in list_documents("preset"))
    assert all(f'id="{name.lower()}"' in text["python"] for name in smalti.__all__)


def list_commands() -> list[str]:
    """Return the names of the commands in the order of the alphabet."""
    return sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_files_of_the_repository_hold(page: Path) -> None:
    """As they are read without the site: on a code host, or in an editor."""
    text = re.sub(r"```.*?```|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not urlsplit(link).scheme]
    files = [link.partition("#")[0] for link in links]
    made = [DOCS / "reference"]  # written when the site is built
    gone = [f for f in files if f and not (page.parent / f).exists() and (page.parent / f).resolve().parent not in made]
    assert not gone


@pytest.mark.parametrize(
    "page", [DOCS / "architecture.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=lambda p: p.name
)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    """Paths stand in backticks; those of modules begin at `src/smalti/`."""
    names = re.findall(
        r"`([\w./-]+/[\w./-]*|[\w.-]+\.(?:py|md|toml|yaml|yml|txt|cff))`", page.read_text(encoding="utf-8")
    )
    assert len(names) > 10
    homes = (ROOT, ROOT / "src" / "smalti")
    assert not [name for name in names if not any((home / name).exists() for home in homes)]


def test_the_architecture_names_every_folder_and_module() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    entries = [p for p in (ROOT / "src" / "smalti").iterdir() if not p.name.startswith("_") and p.name != "py.typed"]
    assert not [p.name for p in entries if f"`{p.name}{'/' if p.is_dir() else ''}`" not in text]


def test_the_architecture_draws_the_layers_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = [layer for layer in contracts[0]["layers"] if layer != "__main__"]
    assert "\n→ ".join(layers) in (DOCS / "architecture.md").read_text(encoding="utf-8")


def test_names_in_the_glossary_are_in_the_code() -> None:
    names = re.findall(
        r"^\| `([A-Z]\w+)` \|.* \| `([\w.]+)/?` \|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.M
    )
    assert len(names) > 10
    for name, home in names:
        place = ROOT / "src" / "smalti" / home
        files = [place] if place.is_file() else place.rglob("*.py")
        assert any(f"class {name}" in file.read_text(encoding="utf-8") for file in files), f"{name} is not in {home}"


def test_the_readme_lists_every_command() -> None:
    listed = re.findall(r"^\|[^|]*\| `smalti (\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == list_commands()


def test_pictures_are_small() -> None:
    pictures = sorted((DOCS / "pictures").iterdir())
    assert {p.name for p in pictures} == {"report.webp", "review.webp", "ladder.webp", "heatmap.webp"}
    assert all(p.stat().st_size < LARGEST_BYTES for p in pictures)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda p: p.stem[:4])
def test_a_decision_has_its_head_and_its_row(page: Path) -> None:
    head, empty, status, *_ = page.read_text(encoding="utf-8").splitlines()
    number, title = re.fullmatch(r"# (\d{4}) · (.+)", head).groups()  # type: ignore[union-attr]
    date, state = re.fullmatch(r"\*(\d{4}-\d\d-\d\d) · (.+)\*", status).groups()  # type: ignore[union-attr]
    assert (number, empty) == (page.name[:4], "")
    assert re.fullmatch(r"in force|(amended|superseded) by \[\d{4}\]\(.*", state)
    row = f"| [{number}]({page.name}) | {title} | {date} | {state} |"
    assert row in (DOCS / "decisions" / "index.md").read_text(encoding="utf-8").splitlines()


def test_every_month_of_the_log_is_in_its_index_and_in_the_navigation() -> None:
    months = {path.name for path in (DOCS / "log").glob("[0-9]*.md")}
    assert set(re.findall(r"\((\d{4}-\d\d\.md)\)", (DOCS / "log" / "index.md").read_text(encoding="utf-8"))) == months
    assert set(re.findall(r"log/(\d{4}-\d\d\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))) == months


def test_the_citation_can_be_read() -> None:
    import smalti

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{citation["version"]}"' in project
    assert f'license = "{citation["license"]}"' in project
    assert citation["authors"] == [{"name": smalti.__name__}]
