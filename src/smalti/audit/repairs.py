"""Repairs that invent no tissue: paint is filled flat, a mask on glass is cut to the tissue.

A repair comes from the finding that a decision names, made anew in every audit, so that it fits the pixels that are
there now. The pixel work is done where tiles are cut (`smalti.tile`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..errors import DataError, Problem
from ..records.layout import DECISIONS
from ..types import Decision, Finding, Repair

REPAIRS = ("painted", "blank-under-mask")  # codes of findings that can be repaired


def plan_repair(findings: Sequence[Finding]) -> Repair:
    """Return the repair for the findings of one code about one image.

    Raises:
        DataError: nothing repairs findings of this code, or they do not say where.
    """
    code, image = findings[0].code, findings[0].images[0]
    repair = Repair(recut=code == "blank-under-mask")
    if code == "painted":
        outlines = (polygon for finding in findings for polygon in finding.evidence.get("outline", ()))
        repair = Repair(outline=tuple(tuple((float(row), float(col)) for row, col in line) for line in outlines))
    if repair == Repair():
        known = f"{image}: no repair for '{code}'" if code not in REPAIRS else f"{image}: '{code}' has no outline"
        raise DataError(known, fix=f"exclude it or keep it; what can be repaired: {', '.join(REPAIRS)}")
    return repair


def plan_repairs(decisions: Mapping[str, Decision], findings: Iterable[Finding]) -> dict[str, Repair]:
    """Return image -> its repair, for the decisions (by image) that ask for one.

    Raises:
        DataError: findings that decisions name and the audit does not find (any more), all at once.
    """
    wanted = {(d.image, d.finding): list[Finding]() for d in decisions.values() if d.action == "repair"}
    for finding in findings:
        if (key := (finding.images[0], finding.code)) in wanted:
            wanted[key].append(finding)
    problems = [
        Problem(
            code="repair-without-finding",
            file=DECISIONS,
            message=f"{image} is to be repaired for '{code}', which the audit does not find: data, code or checks "
            "have changed since.",
            fix="look again ('smalti review DATA') and decide anew, or remove the row",
        )
        for (image, code), found in wanted.items()
        if not found
    ]
    if problems:
        raise DataError(f"{len(problems)} repairs cannot be made", problems)
    return {image: plan_repair(found) for (image, _), found in wanted.items()}
