"""Duplicates belong to one case: what must never straddle two folds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..types import Cohort, Finding, Sample

DUPLICATE_CODES = ("exact-duplicate", "near-duplicate", "overlapping-fields")  # what shows the same tissue


def join_groups(links: Iterable[Sequence[str]]) -> dict[str, str]:
    """Name -> smallest name of its group, for all names that some link mentions (union-find)."""
    parents: dict[str, str] = {}

    def find(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = name = parents[parents[name]]
        return name

    for link in links:
        roots = sorted(find(name) for name in link)
        for root in roots[1:]:
            parents[find(root)] = find(roots[0])
    groups: dict[str, list[str]] = {}
    for name in list(parents):
        groups.setdefault(find(name), []).append(name)
    return {name: min(members) for members in groups.values() for name in members}


def join_duplicates(cohort: Cohort, findings: Iterable[Finding]) -> Cohort:
    """The cohort with duplicates in one case each; whole cases merge, under the smallest of their names.

    Why: a model that has seen a picture knows its twin, so a fold between them reports memory as skill.
    Findings about images that are no longer in the cohort do nothing.
    """
    case_of = {s.image: s.case for s in cohort.samples}
    links = [
        [case_of[image] for image in finding.images if image in case_of]
        for finding in findings
        if finding.code in DUPLICATE_CODES
    ]
    joined = join_groups(links)

    def rename(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(replace(s, case=joined.get(s.case, s.case)) for s in samples)

    return replace(
        cohort, labelled=rename(cohort.labelled), unlabelled=rename(cohort.unlabelled), sealed=rename(cohort.sealed)
    )


def find_bound_cases(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """Image -> all labelled images of its case, where a label belongs to its whole case; else nothing.

    It does where no case has two labels and some case has several images: then one image of a case cannot have another
    label than the rest. Cases of one image are left out, since nothing is bound there.
    """
    members: dict[str, list[Sample]] = {}
    for sample in cohort.labelled:
        members.setdefault(sample.case, []).append(sample)
    if any(len({s.label for s in group}) > 1 for group in members.values()):
        return {}
    groups = [tuple(s.image for s in group) for group in members.values() if len(group) > 1]
    return {image: group for group in groups for image in group}
