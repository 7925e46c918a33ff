"""Three answers from a learning curve, by rules that are printed with their numbers."""

from __future__ import annotations

from ..evaluate import Growth
from ..records.studies.learning import Answer

WORTH_SEEDS = 0.1  # of the width of the interval; less is hardly seen


def answer_cases(growth: list[Growth], *, why: str, margin: float, confidence: float) -> Answer:
    """Answer whether more cases help, from the expected gain at twice the cases; ``why`` there is no forecast."""
    what = "more cases"
    if why or not growth:
        return Answer(what=what, word="cannot tell", words=why)
    twice = growth[0]
    text = (
        f"with {twice.times:g} times the cases macro-F1 is expected to change by {twice.gain:+.3f} ({confidence:.0%} "
        f"interval {twice.gain_low:+.3f} to {twice.gain_high:+.3f}), to {twice.value:.3f} ({twice.low:.3f} to "
        f"{twice.high:.3f})"
    )
    if twice.gain_high < margin:
        return Answer(
            what=what,
            word="no",
            words=f"{text}; less than the margin of {margin:g}, so that the curve is practically flat",
        )
    if twice.gain_low > 0:
        return Answer(what=what, word="yes", words=f"{text}; the curve still rises")
    return Answer(what=what, word="cannot tell", words=f"{text}; neither a rise nor a flat end can be told")


def answer_seeds(*, width: float, by_cases: float, networks: int, least: int, spread: float | None) -> Answer:
    """Answer whether more seeds help, from the width of the interval with and without the luck of trainings.

    Args:
        width: of the interval at all cases.
        by_cases: of the same interval from the cases alone.
        networks: how many were scored; fewer than ``least`` do not show their luck.
        spread: standard deviation between the scores of the seeds; None with one seed.
    """
    what = "more seeds"
    if networks < least:
        text = f"{networks} networks do not show how far networks differ (at least {least} are needed)"
        return Answer(what=what, word="cannot tell", words=text)
    share = 1 - by_cases / width if width > 0 else 0.0
    text = (
        f"of the interval's width of {width:.3f} the cases alone make {by_cases:.3f}: other folds and seeds could "
        f"narrow it by {max(0.0, share):.0%} at most, and do not raise the score"
    )
    if spread is not None:
        text += f" (standard deviation between seeds {spread:.3f})"
    return Answer(what=what, word="yes" if share >= WORTH_SEEDS else "no", words=text)


def answer_backbone(cases: Answer, *, taught: float, outer: float, margin: float) -> Answer:
    """Answer whether a better backbone helps: where more cases do not, or where training images score no better.

    Args:
        cases: whether more cases help.
        taught: macro-F1 of the training images, with all cases.
        outer: macro-F1 of the outer images.
        margin: a difference that hardly matters.
    """
    what = "a better backbone"
    text = f"the images that taught score {taught:.3f}, outer ones {outer:.3f}"
    if outer >= 1 - margin:
        return Answer(what=what, word="no", words=f"{text}: there is hardly anything left to gain")
    if taught - outer < margin:
        return Answer(
            what=what,
            word="yes",
            words=f"{text}: what taught is told apart no better, so that these features are the limit",
        )
    if cases.word == "no":
        words = f"{text}, and more cases bring practically nothing: other features, larger tiles or cleaner labels help"
        return Answer(what=what, word="yes", words=words)
    if cases.word == "yes":
        return Answer(what=what, word="first more cases", words=f"{text}: the gap still closes as cases are added")
    return Answer(what=what, word="cannot tell", words=f"{text}: whether the gap closes with more cases cannot be told")
