"""Bits of 16-bit values that are in use, where the files do not say: one answer for the whole cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .. import images
from .result import Candidate, Columns, LayoutResult

BLACK = 16  # a picture of no larger value is black at any depth, and says nothing of the others


def settle_depths(
    candidates: Sequence[Candidate], largest: Mapping[Path, int], *, columns: Columns, result: LayoutResult
) -> list[Candidate]:
    """Return the candidates with the bits that their 16-bit values are read by.

    A guess becomes a note, doubt becomes a problem.

    Args:
        candidates: of the cohort.
        largest: file -> largest value, of the files that do not say how many bits are in use.
        columns: ``bits`` says what is to be taken: a number, or ``each`` for each file by itself.
        result: gets notes and problems.
    """
    loose = [d for d in candidates if d.sample.path in largest]
    if not loose:
        return list(candidates)
    own = {d.sample.path: images.count_bits(largest[d.sample.path]) for d in loose}
    telling = [d for d in loose if largest[d.sample.path] >= BLACK] or loose
    bits = max(own[d.sample.path] for d in telling)
    if isinstance(columns.bits, int):
        bits = columns.bits
        for candidate in loose:
            if own[candidate.sample.path] > bits:
                result.report(
                    "bits-exceeded",
                    candidate.sample.image,
                    message=f"has values above {(1 << bits) - 1}, and data.bits is {bits}.",
                    fix="--set data.bits=16, or --set data.bits=each for each file by its own largest value",
                    images=(candidate.sample.image,),
                )
    elif columns.bits is None:
        lower = [d for d in telling if own[d.sample.path] < bits]
        if lower:
            most = max(own[d.sample.path] for d in lower)
            others = f" (nor have {len(lower) - 1} more)" if len(lower) > 1 else ""
            result.report(
                "bits-mixed",
                lower[0].sample.image,
                message=f"has no value above {(1 << most) - 1}{others}, but {len(telling) - len(lower)} other images "
                f"of 16-bit values have: it is dark, or it has {most} bits.",
                fix="--set data.bits=16 reads all by one scale, --set data.bits=each reads each file by its own "
                "largest value",
            )
        elif bits < 16:
            result.notes.append(
                f"no value above {(1 << bits) - 1} in any of {len(loose)} images of 16-bit values: they are read as "
                f"{bits} bits (--set data.bits=16 reads them as 16)"
            )
    return [
        replace(d, sample=replace(d.sample, bits=own[d.sample.path] if columns.bits == "each" else bits))
        if d.sample.path in own
        else d
        for d in candidates
    ]
