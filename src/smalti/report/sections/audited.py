"""Return the sections of an audit page, and the one about label suspects of a run."""

from __future__ import annotations

from collections.abc import Sequence

from ...audit import Audit, settle_decisions
from ...types import Cohort, Decision
from ..blocks import Block, Card, Gallery, Paragraph, Section, Table, count_things, not_applicable
from ..contents import RunRecord
from ..figures.gallery import encode_picture

MOST_SUSPECTS = 24  # on the page of a run, beside everything else
MOST_CARDS = 60  # of one check; at 20 kB each a page of ten checks can still be mailed
SEVERITIES = ("error", "warning", "info")


def outcomes_section(cohort: Cohort, audit: Audit, decisions: Sequence[Decision]) -> Section:
    """Return every check with its outcome, and how many of its proposals are decided."""
    settled = settle_decisions(decisions)
    rows = []
    for code, outcome in audit.list_outcomes():
        found = [f for f in audit.findings if f.code == code]
        severity = min((f.severity for f in found), key=SEVERITIES.index, default="–")
        proposed = {f.images[0] for f in found if f.proposal != "keep"}
        decided = f"{len(proposed & settled.keys())} of {len(proposed)}" if proposed else "–"
        rows.append((code, str(outcome), severity, decided))
    total = count_things(len(cohort.samples), "image")
    cases = count_things(len({s.case for s in cohort.samples}), "case")
    blocks: list[Block] = [
        Paragraph(f"{total} of {cases}: {len(cohort.labelled)} labelled, {len(cohort.unlabelled)} to predict."),
        Table(("check", "outcome", "severity", "proposals decided"), rows, text_columns=4),
        Paragraph("A finding changes nothing; only a row of decisions.csv does, and source files stay as they are."),
    ]
    return Section("outcomes", "What was looked for", blocks)


def findings_section(code: str, cohort: Cohort, audit: Audit) -> Section:
    """Return the findings of one check, worst first, each with the picture of its image."""
    found = [f for f in audit.findings if f.code == code]
    found.sort(key=lambda f: (SEVERITIES.index(f.severity), -f.score))
    labels = {s.image: s.label or "" for s in cohort.labelled}  # those of sealed images stay sealed
    # What has no picture is known by its numbers.
    given = cohort.samples if cohort.features is not None else ()
    facts = {s.image: f" Case {s.case}{f', site {s.site}' if s.site else ''}." for s in given}
    cards = [
        Card(
            picture=encode_picture(cohort.root, finding.images[0], outline=finding.evidence.get("outline", ())),
            alt=f"Image {finding.images[0]}: {finding.code}",
            image=finding.images[0],
            label=labels.get(finding.images[0], ""),
            predicted="",
            details=f"{finding.severity} · {finding.message} Proposed: {finding.proposal}."
            + facts.get(finding.images[0], ""),
            scores=(),
        )
        for finding in found[:MOST_CARDS]
    ]
    blocks: list[Block] = [Gallery(cards)]
    if len(found) > len(cards):
        blocks.append(Paragraph(f"The first {len(cards)} of {len(found)}; findings.json holds them all.", "note"))
    return Section(code, f"{code}: {len(found)}", blocks)


def suspects_section(record: RunRecord) -> Section:
    """Return labels that the networks of a run contradict, most suspicious first, and what each criterion found."""
    if record.suspects is None:
        return not_applicable("suspects", "Label suspects", "there is no suspects.json; 'smalti evaluate' writes it")
    found, outcomes = record.suspects.findings, record.suspects.outcomes
    rows = [(name, str(outcome)) for name, outcome in outcomes.items()]
    text = (
        "Labels that were contradicted by networks and look-alikes that had not seen them. A suspect is a question to "
        "a person: hard images are among them, and nothing is changed until decisions.csv says so."
    )
    blocks: list[Block] = [
        Paragraph(text),
        Table(("criterion", "images that it names by itself"), rows, text_columns=2),
    ]
    cards = []
    for finding in found[:MOST_SUSPECTS]:
        evidence, image = finding.evidence, finding.images[0]
        given, proposed = str(evidence["given"]), str(evidence["label"])
        near = [
            f"nearest of {label}: {', '.join(evidence[key][:2])}"
            for key, label in (("nearest_given", given), ("nearest_proposed", proposed))
            if evidence[key]
        ]
        case = [f"{len(finding.images)} images of a case, which share its label"] if len(finding.images) > 1 else []
        named = f"named by {', '.join(evidence['named_by']) or 'no criterion alone'}"
        cards.append(
            Card(
                picture=encode_picture(record.root, image),
                alt=f"Image {image}: labelled {given}, perhaps {proposed}",
                image=image,
                label=given,
                predicted=proposed,
                details=" · ".join([*case, named, *near]),
                scores=[(name, float(score)) for name, score in evidence["pooled"].items()],
            )
        )
    blocks += [Gallery(cards)] if cards else []
    if len(found) > MOST_SUSPECTS:
        blocks.append(Paragraph(f"The first {MOST_SUSPECTS} of {len(found)}; suspects.json holds them all.", "note"))
    return Section("suspects", "Label suspects", blocks)
