"""The sites that a data folder names: a column, a level of folders, or TCGA barcodes; a guess is sound or not taken.

A site never becomes a label. One case belongs to one site; where a guessed column says otherwise it is not taken, and
where a named one does, the case joins its sites: they are held out together (`smalti.samples.splits`).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...types import Sample
from ..result import Columns, LayoutResult, format_setting, list_names
from .spelling import fold_text, is_missing
from .table import NAMES, SITE_NAMES, Row, Table, plain_name

BARCODE = re.compile(r"(?:^|[^A-Z0-9])TCGA-([A-Z0-9]{2})-[A-Z0-9]{4}(?![A-Z0-9])", re.IGNORECASE)
BARCODES = "the tissue source sites of TCGA barcodes"
MOST_MISSING = 0.5  # of the images; a guessed column that says less is not taken
SHOWN = 6
NO_SITES = "none"  # of `Columns.site`


def guess_site(table: Table, chosen: Columns) -> str | None:
    """Return the column with a common name of sites whose values may be sites, the likeliest first."""
    taken = {getattr(chosen, kind) for kind in NAMES} | set(chosen.class_columns)
    places = {name: place for place, name in enumerate(SITE_NAMES)}
    free = [column for column in table.header if plain_name(column) in places and column not in taken]
    number = len({row.read(chosen.case) for row in table.rows} if chosen.case is not None else table.rows)
    for column in sorted(free, key=lambda name: places[plain_name(name)]):
        if column in table.rows[0].cells:
            values = {row.read(column) for row in table.rows if not is_missing(row.read(column))}
            if 1 < len(values) < number and not _are_measured(values):
                return column
    return None


def _are_measured(values: set[str]) -> bool:
    """Return whether all values are numbers and some have a fraction, so that they are measured and name no site."""
    try:
        return any(not float(value).is_integer() for value in values)
    except ValueError:
        return False


def read_site(row: Row, chosen: Columns) -> str:
    """Return the site that a row names; empty where it names none."""
    text = row.read(chosen.site)
    return "" if is_missing(text) else text


def read_subgroups(row: Row, chosen: Columns) -> tuple[tuple[str, str], ...]:
    """Return column and value of each column that is to be scored value by value; empty cells are left out."""
    cells = ((column, row.read(column)) for column in chosen.subgroups)
    return tuple((column, text) for column, text in cells if text)


def lay_sites(table: Table, rows: Mapping[str, Row], wanted: Columns, *, result: LayoutResult) -> None:
    """Lay the sites of a table of cases, and what subgroups it has, over the candidates.

    Args:
        table: of images and cases.
        rows: image -> its row.
        wanted: columns that are named.
        result: whose candidates get the sites; a named column that is nowhere is a problem.
    """
    known = bool(result.site_source)
    missing = [("site", wanted.site)] if wanted.site not in (None, *table.header) and not known else []
    had = {column for d in result.candidates for column, _ in d.sample.subgroups}
    missing += [("subgroups", name) for name in wanted.subgroups if name not in table.header and name not in had]
    for kind, name in missing:
        result.report("column-missing", table.file,
                      message=f"has no column '{name}' ({kind}), but {list_names(table.header)}.",
                      fix="name the right one: "
                      f"{format_setting(kind, ['COLUMN'] if kind == 'subgroups' else 'COLUMN')}")  # fmt: skip
    chosen = replace(wanted, site=wanted.site if wanted.site in table.header else None,
                     subgroups=tuple(name for name in wanted.subgroups if name in table.header))  # fmt: skip
    if wanted.site is None and not known:
        chosen = replace(chosen, site=guess_site(table, chosen))
    if chosen.site is not None and not known:
        result.site_source = describe_column(table, chosen)
    for i, candidate in enumerate(result.candidates):
        row = rows.get(candidate.sample.image)
        if row is not None:
            more = tuple(pair for pair in read_subgroups(row, chosen) if pair[0] not in had)
            site = candidate.sample.site or ("" if known else read_site(row, chosen))
            sample = replace(candidate.sample, site=site, subgroups=(*candidate.sample.subgroups, *more))
            result.candidates[i] = replace(candidate, sample=sample)


def drop_sites(columns: Columns) -> Columns:
    """Return what a layout is to look for: ``none``, which says that there are no sites, is no column."""
    return replace(columns, site=None) if columns.site == NO_SITES else columns


def settle_sites(result: LayoutResult, columns: Columns) -> None:
    """Read barcodes where nothing else says sites, take what was guessed only where it is sound, and say what was.

    Where ``columns.site`` is ``none`` no sample keeps a site; the layout was read as if nothing were named.
    """
    if columns.site == NO_SITES:
        result.candidates = [replace(d, sample=replace(d.sample, site="")) for d in result.candidates]
        return
    if not any(d.sample.site for d in result.candidates) and columns.site is None:
        _read_barcodes(result)
    written: dict[str, Counter[str]] = defaultdict(Counter)
    for candidate in result.candidates:
        if candidate.sample.site:
            written[fold_text(candidate.sample.site)][candidate.sample.site] += 1
    names = {fold: counts.most_common(1)[0][0] for fold, counts in written.items()}
    samples = [d.sample for d in result.candidates if not d.test]
    sites = [names.get(fold_text(s.site), "") if s.site else "" for s in samples]
    if not any(sites):
        names = {}
    elif columns.site is None and (doubt := _find_doubt(samples, sites)):
        result.notes.append(
            f"site: {result.site_source} would be a guess and is not taken: {doubt}; --set data.site=COLUMN names one"
        )
        names = {}
    else:
        _note_sites(samples, sites, result, guessed=columns.site is None)
    result.candidates = [
        replace(d, sample=replace(d.sample, site=names.get(fold_text(d.sample.site), ""))) if d.sample.site else d
        for d in result.candidates
    ]


def _read_barcodes(result: LayoutResult) -> None:
    """Take the two letters after TCGA as the site where the name of every image or its case is such a barcode."""
    found = [BARCODE.search(d.sample.case) or BARCODE.search(d.sample.image) for d in result.candidates]
    codes = [match[1].upper() for match in found if match is not None]
    if len(codes) == len(result.candidates):
        result.site_source = BARCODES
        result.candidates = [
            replace(d, sample=replace(d.sample, site=code)) for d, code in zip(result.candidates, codes, strict=True)
        ]


def _find_crossing(samples: Sequence[Sample], sites: Sequence[str]) -> dict[str, set[str]]:
    """Return the cases that lie in several sites."""
    of_case: dict[str, set[str]] = defaultdict(set)
    for sample, site in zip(samples, sites, strict=True):
        of_case[sample.case] |= {site} - {""}
    return {case: found for case, found in of_case.items() if len(found) > 1}


def _find_doubt(samples: Sequence[Sample], sites: Sequence[str]) -> str:
    """Return why the values are no sound guess of sites; empty where they are one."""
    number, missing = len(set(sites) - {""}), sites.count("") / len(sites)
    cases = len({s.case for s in samples})
    crossing = _find_crossing(samples, sites)
    if number < 2:
        return "it says the same of all images"
    if number >= cases:
        return f"it has {number} values for {cases} cases"
    if missing > MOST_MISSING:
        return f"{missing:.0%} of the images have none"
    if crossing:
        case, found = next(iter(sorted(crossing.items())))
        return f"it differs inside {len(crossing)} case(s), such as {case} ({', '.join(sorted(found))})"
    return ""


def _note_sites(samples: Sequence[Sample], sites: Sequence[str], result: LayoutResult, *, guessed: bool) -> None:
    """Say where sites come from, how many there are, and what is uncommon about them."""
    counts = Counter(site for site in sites if site)
    listed = ", ".join(f"{name} ({count})" for name, count in counts.most_common(SHOWN))
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    wrong = "; --set data.site=none if these are no sites" if guessed else ""
    result.notes.append(f"site: {result.site_source}: {len(counts)} site(s), {listed}{more}{wrong}")
    if missing := sites.count(""):
        result.notes.append(
            f"{missing} image(s) have no site: they are held out together as if they were one, though they may be of "
            "the others"
        )
    if crossing := _find_crossing(samples, sites):
        case, found = next(iter(sorted(crossing.items())))
        result.notes.append(
            f"{len(crossing)} case(s) lie in several sites, such as {case} ({', '.join(sorted(found))}): these sites "
            "are held out together"
        )


def describe_column(table: Table, chosen: Columns) -> str:
    """Return the column of sites for people, with others that may be meant."""
    taken = {getattr(chosen, kind) for kind in NAMES}
    others = [name for name in table.header if plain_name(name) in SITE_NAMES and name not in taken]
    beside = f" (not {list_names(others)}; {format_setting('site', others[0])} takes it)" if others else ""
    return f"column '{chosen.site}' of {table.file}{beside}"
