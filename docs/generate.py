"""A hook of mkdocs: writes the reference from the code, and brings in the pages at the top of the repository.

Nothing that it writes is kept in the repository. `mkdocs build` calls `on_config` and `on_files`.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import typer
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import smalti
from smalti.cli import app
from smalti.doctor import list_parts
from smalti.models import ENCODERS
from smalti.recipe import Recipe, Section, list_documents

ROOT = Path(__file__).parents[1]
TOP_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
ENCODER_TABLE = "<!-- table of encoders -->"  # where docs/how-to/encoders.md has it
NO_DEFAULT = (None, (), [], "", False)  # defaults of an option that are not worth a word


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add one entry of the navigation for each decision."""
    pages = sorted(path.name for path in (Path(config.docs_dir) / "decisions").glob("[0-9]*.md"))
    entry = next(item for item in config.nav or [] if "Decisions" in item)
    entry["Decisions"] = ["decisions/index.md", *(f"decisions/{name}" for name in pages)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and move links to pages at the top of the repository to where the site has them."""
    for name, target in TOP_PAGES.items():
        files.append(File.generated(config, target, content=_move_links((ROOT / name).read_text(encoding="utf-8"))))
    for name, write in REFERENCE.items():
        files.append(File.generated(config, f"reference/{name}.md", content="\n".join(write()) + "\n"))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links that leave docs/ to the pages that the site made of their targets; fill in the table of encoders."""
    if ENCODER_TABLE in markdown:
        markdown = markdown.replace(ENCODER_TABLE, "\n".join(write_encoders()))
    for name, target in TOP_PAGES.items():
        markdown = markdown.replace(f"](../../{name}", f"](../{target}").replace(f"](../{name}", f"]({target}")
    return markdown


def _move_links(text: str) -> str:
    """Return a page from the top of the repository with links as seen from docs/.

    Files that the site does not have lose their link.
    """
    for name, target in TOP_PAGES.items():
        text = text.replace(f"]({name}", f"]({target}")
    text = text.replace("](docs/", "](").replace('="docs/', '="')
    return re.sub(r"\[([^\]]+)\]\((?:examples/[^)]+|LICENSE|CITATION\.cff)\)", r"\1", text)


def write_commands() -> Iterator[str]:
    """Yield the page of the command line: each command with its arguments and options."""
    yield "# Commands\n\nEvery command ends with two lines: where its result is, and what to run next."
    yield "`smalti COMMAND --help` shows the same in the terminal.\n"
    root = typer.main.get_command(app)
    for words, command in _walk_commands("smalti", root):
        yield f"## {words}\n\n{_flatten(command.help)}\n"
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        names = [f"[{p.name.upper()}]" if not p.required else p.name.upper() for p in arguments]
        yield f"```\n{' '.join([words, *names])} [OPTIONS]\n```\n"
        options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
        rows = [(f"`{p.name.upper()}`", _escape(p.help), "") for p in arguments]
        rows += [(_name_option(p), _escape(p.help), _say_default(p.default)) for p in options]
        if rows:
            yield from _tabulate(("name", "what it is", "default"), rows)


def _walk_commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield words, command
        return
    if any(p.name != "help" for p in command.params):
        yield words, command
    for name, child in sorted(command.commands.items()):
        yield from _walk_commands(f"{words} {name}", child)


def _name_option(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    return ", ".join(f"`{name}`" for name in names)


def write_recipe() -> Iterator[str]:
    """Yield the page of the recipe: each section with its knobs."""
    yield "# Recipe\n\nA recipe is one YAML file: a preset, and what differs from it. On the command line,"
    yield "`--set section.knob=value` changes one knob. `smalti parts --knobs` prints the list below.\n"
    yield from _write_section(Recipe, "")


def _write_section(section: type[Section], prefix: str) -> Iterator[str]:
    kinds = {name: field.annotation for name, field in section.model_fields.items()}
    inner = {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}
    rows = [
        (_show_code(f"{prefix}{name}"), _name_kind(kinds[name]), _say_value(field.default), _escape(field.description))
        for name, field in section.model_fields.items()
        if name not in inner
    ]
    if prefix:
        yield f"## {prefix.rstrip('.')}\n\n{inspect.getdoc(section)}\n"
    if rows:
        yield from _tabulate(("knob", "values", "default", "what it does"), rows)
    for name, kind in inner.items():
        yield from _write_section(kind, f"{prefix}{name}.")


def _name_kind(kind: Any) -> str:
    """Return the values that a knob takes, in words: ``float or null``, ``list of str``, the names of a choice."""
    origin, inner = typing.get_origin(kind), [a for a in typing.get_args(kind) if a is not ...]
    if origin is typing.Literal:
        return ", ".join(map(str, inner))
    if origin is typing.Annotated:
        return _name_kind(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_name_kind, inner))
    if origin is tuple:
        return f"list of {_name_kind(inner[0])}"
    return (
        "null"
        if kind is types.NoneType
        else {"str": "text", "bool": "true, false"}.get(kind.__name__, kind.__name__.lower())
    )


def write_presets() -> Iterator[str]:
    """Yield the page of the built-in files: presets, ladders, search spaces and portfolios."""
    yield "# Presets, ladders, spaces, portfolios\n\nThe files that ship with smalti, as they are. Each name can be"
    yield "replaced with the path of a `.yaml` file of your own.\n"
    kinds = {k: list_documents(k) for k in ("preset", "ladder", "space", "portfolio")}
    for kind, names in kinds.items():
        yield f"## {kind.capitalize()}s\n"
        for name in names:
            content = (resources.files("smalti") / f"{kind}s" / f"{name}.yaml").read_text(encoding="utf-8")
            about = (yaml.safe_load(content) or {}).get("about", "")
            yield f"### {kind} {name}\n\n{about}\n\n```yaml\n{content.rstrip()}\n```\n"


def write_parts() -> Iterator[str]:
    """Yield the page of the registries: each kind of part with its names."""
    yield "# Parts\n\nWhat recipes can name. `smalti parts` prints the same list. *Options* are written name=value, for"
    yield "example `--set model.pooler_options=[hidden=128]`.\n"
    kinds: dict[str, list[tuple[str, ...]]] = {}
    for kind, entry in list_parts():
        options = [p for p in inspect.signature(entry.build).parameters.values() if p.default is not p.empty]
        told = ", ".join(f"`{p.name}={p.default}`" for p in options)
        kinds.setdefault(kind, []).append(
            (_show_code(entry.name), _escape(entry.summary), told, _escape(entry.reference))
        )
    for kind, rows in kinds.items():
        yield f"## {kind}\n"
        yield from _tabulate(("name", "what it is", "options", "reference"), rows)


def write_encoders() -> Iterator[str]:
    """Yield the table of encoders for its page: one row a record."""
    rows = []
    for entry in ENCODERS:
        encoder = entry.build()
        terms = encoder.terms
        size = f"{encoder.size_px} px" if encoder.size_px else ""
        page = f"[{encoder.hub_id}](https://huggingface.co/{encoder.hub_id})" if encoder.hub_id else ""
        built = f"timm: {encoder.architecture}" if encoder.architecture else encoder.built_by
        unread = "; ".join(filter(None, (encoder.unchecked, terms.note)))
        rows.append((
            f"`{entry.name}`", terms.title, str(encoder.features or ""), size, encoder.embedding, terms.licence,
            terms.commercial, terms.gated, page, _escape(built), _escape(terms.source), _escape(unread),
        ))  # fmt: skip
    header = ("name", "what it is", "features", "input", "embedding", "licence", "commercial", "gated", "hub")
    yield from _tabulate((*header, "built by", "paper", "to know"), rows)


def write_python() -> Iterator[str]:
    """Yield the page of the public names: each with its signature and docstring."""
    yield "# Python\n\nThe functions behind the command line: `import smalti`.\n"
    for name in smalti.__all__:
        thing = getattr(smalti, name)
        yield f"## {name}\n\n```python\n{_sign(name, thing)}\n```\n"
        yield _format_docstring(inspect.getdoc(thing) or "") + "\n"


def _sign(name: str, thing: Any) -> str:
    if not inspect.isfunction(thing):
        return f"class {name}"
    signature = inspect.signature(thing)
    parameters = [str(p).replace("'", "") for p in signature.parameters.values()]
    keyword = next((i for i, p in enumerate(signature.parameters.values()) if p.kind is p.KEYWORD_ONLY), None)
    if keyword is not None:
        parameters.insert(keyword, "*")
    returned = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"{name}(\n{lines}){returned}".replace("'", "")


def _format_docstring(text: str) -> str:
    """Return a docstring as Markdown: the blocks Args, Attributes, Raises and Returns become lists."""
    lines: list[str] = []
    listed = False
    for line in text.splitlines():
        if re.fullmatch(r"(Args|Attributes|Raises|Returns|Yields):", line):
            listed = True
            lines += ["", f"**{line.rstrip(':')}**", ""]
        elif listed and (found := re.match(r"    (\w+): (.*)", line)):
            lines.append(f"- `{found[1]}`: {_escape(found[2])}")
        else:
            listed = listed and (line.startswith(" ") or not line)
            lines.append(f"  {_escape(line.strip())}" if listed else _escape(line))
    return re.sub(r"(`+)(.+?)\1", r"`\2`", "\n".join(lines))


def _tabulate(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |\n|{'---|' * len(header)}"
    for row in rows:
        cells = [_flatten(cell).replace("|", "\\|") for cell in row]
        yield f"| {' | '.join(cells)} |"
    yield ""


def _show_code(name: str) -> str:
    """Return a name as code that a narrow screen may break after a point or a low line."""
    return "<code>" + re.sub(r"([._])", r"\1<wbr>", name) + "</code>"


def _flatten(text: str | None) -> str:
    return " ".join((text or "").split())


def _escape(text: str | None) -> str:
    return (text or "").replace("<", "&lt;").replace("*", "\\*")


def _say_default(value: Any) -> str:
    return "" if value in NO_DEFAULT or callable(value) else f"`{value}`"


def _say_value(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return f"`{yaml.safe_dump(value, default_flow_style=True).strip().removesuffix('...').strip()}`"


REFERENCE = {
    "commands": write_commands,
    "recipe": write_recipe,
    "presets": write_presets,
    "parts": write_parts,
    "python": write_python,
}
