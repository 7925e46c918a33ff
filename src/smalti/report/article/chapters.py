"""What the LaTeX templates are filled with: words and macros, no number that is not a macro."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...notation import say_value
from ...records import HEADLINE
from ..blocks import count_things, format_number, format_range
from ..compared import Candidate
from ..datasets import Dataset
from ..sections.inputs import list_environment
from ..sections.results import TITLES
from ..sections.rungs import find_chance, say_p
from ..subject import Subject, find_highest
from .latex import Latex, escape_latex, spell_ascii
from .numbers import Numbers, escape_number, spell_number
from .references import choose_papers

MOST_ROWS = 12  # experiments in the main table of many runs
MOST_REASONS = 3
WORDS = {"ladder": "rung", "run": "run", "runs": "experiment"}
BEST = {"ladder": "The best rung", "run": "The classifier", "runs": "The highest score"}
QUESTIONS = {
    "ladder": "which of several changes to a recipe help",
    "run": "how good one recipe is",
    "runs": "what can be said about many experiments",
}


def fill_article(subject: Subject, numbers: Numbers, *, title: str, authors: str) -> dict[str, object]:
    """Return the values of every template; macros are added to ``numbers``."""
    _count_subject(subject, numbers)
    datasets = [_view_dataset(d, n, numbers) for n, d in enumerate(subject.datasets, 1)]
    views = {t.name: _view_candidate(subject, t, n, numbers) for n, t in enumerate(subject.candidates, 1)}
    data = subject.datasets[0].name if len(subject.datasets) == 1 else f"{len(subject.datasets)} data sets"
    titles = {
        "ladder": f"What helps to classify {data}: the ladder {subject.title}",
        "run": f"Classifying {data}: {subject.title}",
        "runs": f"Classifying {data}: {count_things(len(subject.candidates), 'experiment')}",
    }
    title = title or titles[subject.kind]
    limitations = list_limitations(subject, numbers)
    choice = None  # what the highest score is worth, since it was chosen
    if subject.choice is not None and subject.choice.runs > 1:
        choice = {
            "best": subject.choice.best,
            "runs": numbers.define("ChoiceRungs", subject.choice.runs),
            "score": numbers.define("ChoiceScore", format_number(subject.choice.score)),
            "corrected": numbers.define("ChoiceCorrected", format_number(subject.choice.corrected)),
        }
    return {
        "kind": subject.kind,
        "about": Latex(spell_ascii(f"{title}. Written by smalti.")),
        "title": title,
        "plain_title": Latex(spell_ascii(title)),
        "name": Latex(spell_ascii(subject.title)),
        "authors": authors or Latex(r"\yours{names and places}"),
        "date": (subject.finished or subject.started)[:10],
        "question": QUESTIONS[subject.kind],
        "aim": subject.about if subject.about[-1:] in {"", ".", "?", "!"} else f"{subject.about}.",
        "datasets": datasets,
        "several": len(datasets) > 1,
        "trials": list(views.values()),
        "by_case": any(t.unit == "case" for t in subject.candidates),
        "best": [views[t.name] for t in choose_best(subject)],
        "best_words": BEST[subject.kind],
        "papers": choose_papers(subject),
        "limitations": limitations,
        "choice": choice,
        "sealed": _say_seal(subject, numbers),
        **_group_verdicts(subject, views),
        **_fill_tables(subject, views, numbers),
    }


def choose_best(subject: Subject) -> list[Candidate]:
    """Return the best candidate; of many runs the highest of each data set."""
    if subject.kind == "runs":
        groups = [[t for t in subject.candidates if t.data == d.name] for d in subject.datasets]
        return [best for best in map(find_highest, groups) if best is not None]
    return [subject.champion] if subject.champion is not None and subject.champion.score is not None else []


def _count_subject(subject: Subject, numbers: Numbers) -> None:
    lost = [t for t in subject.candidates if t.status != "done"]
    counts = {
        "Confidence": f"{100 * subject.confidence:g}",
        "Alpha": f"{subject.alpha:g}",
        "Trials": f"{len(subject.candidates):,}",
        "DataSets": len(subject.datasets),
        "Compared": len(subject.compared),
        "Better": len(subject.list_verdict("better")),
        "Worse": len(subject.list_verdict("worse")),
        "Equal": len(subject.list_verdict("practically equal")),
        "Unsure": len(subject.list_verdict("cannot tell")),
        "Silent": len(subject.list_verdict("no verdict")),
        "Margin": f"{subject.margin:g}",
        "Lost": len(lost),
    }
    for name, value in counts.items():
        numbers.define(name, value)
    why = dict.fromkeys(t.gap.why for t in subject.list_verdict("no verdict") if t.gap and t.gap.why)
    numbers.define("SilentWhy", Latex(escape_latex("; ".join(why))))
    smallest = [t.gap.smallest_detectable for t in subject.compared if t.gap and t.gap.smallest_detectable is not None]
    low, high = (min(smallest), max(smallest)) if smallest else (None, None)
    same = format_number(low) == format_number(high)
    about = "range over the comparisons"
    numbers.define("SmallestDetectable", format_number(low) if same else format_range(low, high), about=about)
    if not subject.datasets:
        numbers.define("DataOneName", "the data")


def _group_verdicts(subject: Subject, views: Mapping[str, dict[str, object]]) -> dict[str, object]:
    silent = subject.list_verdict("no verdict")
    shown = next((views[t.name] for t in choose_best(subject) if t.optimism is not None), None)
    return {
        "n_compared": len(subject.compared),
        "n_lost": sum(t.status != "done" for t in subject.candidates),
        "smallest": Latex("\\SmallestDetectable{}"),
        "margin": subject.margin,
        **{
            name: [views[t.name] for t in subject.list_verdict(verdict)]
            for name, verdict in {
                "better": "better",
                "worse": "worse",
                "equal": "practically equal",
                "unsure": "cannot tell",
            }.items()
        },
        "silent": [views[t.name] for t in silent],
        "silent_why": Latex("\\SilentWhy{}"),
        "lost": [views[t.name] for t in subject.candidates if t.status != "done"],
        "optimism": None if shown is None else {"name": shown["name"], "value": shown["optimism"]},
    }


def _view_dataset(dataset: Dataset, number: int, numbers: Numbers) -> dict[str, object]:
    macro = f"Data{spell_number(number)}"
    about = f"data set {dataset.name}"
    counts = {
        "Images": dataset.n_images, "Cases": dataset.n_cases, "Classes": len(dataset.classes) or None,
        "Unlabelled": dataset.n_unlabelled, "Duplicates": dataset.duplicates,
    }  # fmt: skip
    uses = {key: numbers.define(macro + key, _say_count(value), about=about) for key, value in counts.items()}
    reasons = sorted((dataset.left_out or {}).items(), key=lambda pair: -pair[1])
    left_out = []
    for position, (reason, count) in enumerate(reasons, 1):
        use = numbers.define(f"{macro}LeftOut{spell_number(position)}", f"{count:,}", about=f"{about}: {reason}")
        left_out.append((reason, use))
    classes = []
    for position, share in enumerate(dataset.classes, 1):
        base = f"{macro}Class{spell_number(position)}"
        classes.append(
            {
                "name": share.name,
                "share": numbers.define(f"{base}Share", f"{100 * share.share:.1f}", about=f"{about}: {share.name}"),
                "images": share.images and numbers.define(f"{base}Images", f"{share.images:,}"),
                "cases": share.cases and numbers.define(f"{base}Cases", f"{share.cases:,}"),
            }
        )
    return {
        "name": numbers.define(f"{macro}Name", escape_latex(dataset.name)),
        "macro": macro,
        "unlabelled": uses["Unlabelled"] if dataset.n_unlabelled else None,
        "no_duplicate": dataset.duplicates == 0,
        "one_duplicate": dataset.duplicates == 1,
        "duplicates": None if dataset.duplicates is None else uses["Duplicates"],
        "classes": classes,
        "left_out": None if dataset.left_out is None else left_out[:MOST_REASONS],
        "more_left_out": len(left_out) > MOST_REASONS,
        "all_left_out": left_out,
    }


def _view_candidate(subject: Subject, candidate: Candidate, number: int, numbers: Numbers) -> dict[str, object]:
    prefix = ("Rung" if subject.kind == "ladder" else "Run") + spell_number(number)
    score, gap, chance = candidate.score, candidate.gap, find_chance(subject, candidate)

    def define(key: str, text: str) -> Latex:
        return numbers.define(prefix + key, text, about=candidate.name[:60])

    view = {
        "name": numbers.define(f"{prefix}Name", escape_latex(candidate.name)),
        "score": define("Score", format_number(score.value if score else None)),
        "interval": define("Interval", format_range(score.low, score.high) if score else "–"),
        "images": define("Images", _say_count(candidate.n_images)),
        "cases": define("Cases", _say_count(candidate.n_cases)),
        "seeds": define("Seeds", _say_count(candidate.n_seeds)),
        "seconds": define("Seconds", format_number(candidate.seconds, 0)),
        "memory": define("Memory", format_number(candidate.peak_memory_gb, 1)),
        "optimism": define("Optimism", "–" if candidate.optimism is None else f"{candidate.optimism:+.3f}"),
        "changed": None,
        "chance": None,
        "guess": Latex("--"),
        "difference": None,
    }
    if candidate.as_given is not None:
        given = candidate.given
        view |= {
            "changed": define("Changed", candidate.as_given.changed),
            "given": define("Given", format_number(given.value if given else None)),
            "given_interval": define("GivenInterval", format_range(given.low, given.high) if given else "–"),
        }
    if chance is not None and chance.prior is not None:
        guess = define("Guess", format_number(chance.prior))
        text = (
            ""
            if chance.prior_low is None
            else f" ({define('GuessRange', format_range(chance.prior_low, chance.prior_high))})"
        )
        view |= {"guess": guess, "chance": Latex(guess + text)}
    if gap is not None:
        p = define("P", say_p(gap.p_holm))
        small = gap.p_holm is None or gap.p_holm < 0.001
        view |= {
            "difference": define("Difference", f"{gap.value:+.3f}"),
            "difference_interval": define("DifferenceInterval", format_range(gap.low, gap.high, sign="+")),
            "p": p,
            "p_text": p if small else Latex(f"= {p}"),
            "smallest": define("Smallest", format_number(gap.smallest_detectable)),
        }
    return view | _describe_candidate(subject, candidate)


def _describe_candidate(subject: Subject, candidate: Candidate) -> dict[str, object]:
    """Return what is words, not numbers."""
    default = {"ladder": "nothing: the bottom rung", "run": "a preset", "runs": "the commonest values"}
    change = candidate.change
    if subject.kind != "ladder":
        change = ", ".join(candidate.settings[:4]) + (", ..." if len(candidate.settings) > 4 else "")
        change = f"on {candidate.data}: {change}" if change and len(subject.datasets) > 1 else change
    return {
        "data": candidate.data,
        "done": candidate.score is not None,
        "trusted": candidate.trustworthy is not False,
        "by_case": candidate.unit == "case",
        "seed_word": "seed" if candidate.n_seeds == 1 else "seeds",
        "status": "finished" if candidate.status == "done" else candidate.status,
        "change": change,
        "on": candidate.on,
        "verdict": candidate.gap.verdict if candidate.gap else None,
        "run": candidate.run if candidate.run != candidate.name else "",
        "reused": candidate.reused,
        "settings": candidate.settings,
        "base": (candidate.on if subject.kind == "ladder" else None) or default[subject.kind],
        "notes": "; ".join(candidate.notes),
        "error": candidate.error or ("not begun" if candidate.status == "waiting" else "no reason was recorded"),
    }


def _fill_tables(subject: Subject, views: Mapping[str, dict[str, object]], numbers: Numbers) -> dict[str, object]:
    rows = list(subject.candidates)
    if subject.kind == "runs":
        rows = sorted((t for t in rows if t.score), key=lambda t: -((t.score and t.score.value) or 0))[:MOST_ROWS]
    metrics = subject.list_metrics()
    what = {"ladder": "The rungs, from the bottom", "run": "", "runs": "Highest scores first"}[subject.kind]
    if subject.kind == "runs" and len(rows) < len(subject.candidates):
        what += "; the appendix has all experiments"
    words = f"{what}. Scores with \\Confidence{{}}~\\% intervals; guess: by the shares of the classes."
    if subject.compared:
        words = (
            f"{what}. Below each number its \\Confidence{{}}~\\% interval; differences are paired; p after Holm; "
            "smallest: the smallest detectable difference."
        )
    start = subject.candidates[0].name if subject.candidates else "the first"
    recipes = {
        "ladder": f"The recipe of the bottom rung ({start}) in full.",
        "run": "The recipe in full.",
        "runs": "The commonest value of every knob.",
    }
    return {
        "rows": [views[t.name] for t in rows],
        "table_words": Latex(words),
        "metrics": _list_metrics(subject, numbers),
        "other_metrics": [TITLES.get(m, m) for m in metrics] if subject.kind != "run" and len(metrics) > 1 else [],
        "metric_columns": Latex(f"L{{{round(100 / max(1, len(metrics)), 1)}mm}}" * len(metrics)),
        "metric_rows": _list_metric_rows(subject, metrics, views, numbers),
        "recipe": [(knob, say_value(value)) for knob, value in subject.recipe.items()],
        "recipe_words": recipes[subject.kind],
        "environment": list_environment(subject.record.environment)
        if subject.record is not None and subject.record.environment is not None
        else [],
    }


def _list_metrics(subject: Subject, numbers: Numbers) -> list[dict[str, object]]:
    """Return the rows of the main table of one run."""
    if subject.kind != "run" or subject.scores is None:
        return []
    rows: list[dict[str, object]] = []
    for position, (name, metric) in enumerate(subject.scores.metrics.items(), 1):
        base = f"Metric{spell_number(position)}"
        texts = {
            "score": format_number(metric.value),
            "interval": format_range(metric.low, metric.high),
            "majority": format_number(metric.chance_majority),
            "prior": format_number(metric.chance_prior),
            "range": format_range(metric.chance_prior_low, metric.chance_prior_high),
        }
        uses = {k: numbers.define(base + k.capitalize(), v, about=name) for k, v in texts.items()}
        rows.append({"title": TITLES.get(name, name), **uses})
    return rows


def _list_metric_rows(
    subject: Subject, metrics: Sequence[str], views: Mapping[str, dict[str, object]], numbers: Numbers
) -> list[tuple[object, list[tuple[Latex, Latex]]]]:
    if subject.kind == "run":
        return []
    rows = []
    prefix = "Rung" if subject.kind == "ladder" else "Run"
    for number, candidate in enumerate(subject.candidates, 1):
        if candidate.score is None:
            continue
        cells = []
        for position, metric in enumerate(metrics, 1):
            base, score = f"{prefix}{spell_number(number)}Metric{spell_number(position)}", candidate.scores.get(metric)
            use = numbers.define(base, format_number(score.value if score else None), about=metric)
            interval = format_range(score.low, score.high) if score else "–"
            cells.append((use, numbers.define(f"{base}Interval", interval)))
        rows.append((views[candidate.name]["name"], cells))
    return rows


def list_limitations(subject: Subject, numbers: Numbers) -> list[Latex]:
    """Return sentences about what these numbers cannot say."""
    said = []
    cases = [t.n_cases for t in subject.candidates if t.n_cases]
    if cases:
        fewest = numbers.define("FewestCases", f"{min(cases):,}")
        said.append(f"The scores rest on {fewest} cases, and the intervals are as wide as so many cases make them.")
    reasons = dict.fromkeys(
        t.trust_reason or "there are few cases" for t in subject.candidates if t.trustworthy is False
    )
    for reason in reasons:
        said.append(f"Some intervals cannot be trusted: {escape_number(reason)}.")
    if len(subject.datasets) == 1:
        said.append(
            "There is one data set: another scanner, stain or hospital may give other scores and another order."
        )
    if sum(t.score is not None for t in subject.candidates) > 1:
        said.append(
            f"The best {WORDS[subject.kind]} was picked after its score on these folds was seen, so that luck had a "
            "say; a sealed part that is opened once would show how much."
        )
    seeds = [t.n_seeds for t in subject.candidates if t.n_seeds]
    if seeds and min(seeds) < 3:
        fewest = numbers.define("FewestSeeds", min(seeds))
        said.append(f"There are as few as {fewest} {'seed' if min(seeds) == 1 else 'seeds'} to a recipe.")
    said.append("Labels are taken as they were given; wrong ones lower the score and blur differences.")
    return [Latex(text) for text in said]


def _say_seal(subject: Subject, numbers: Numbers) -> Latex | None:
    seal = subject.record.seal if subject.record is not None else None
    if seal is None:
        return None
    cases = numbers.define("SealedCases", _say_count(seal.n_cases))
    said = f"{cases} further cases were sealed before the experiments"
    if not seal.openings:
        return Latex(f"{said} and have not been looked at.")
    times = numbers.define("SealOpenings", len(seal.openings))
    said += f"; the seal was opened {times} {'time' if len(seal.openings) == 1 else 'times'}."
    for position, (run, scores) in enumerate(sorted(seal.openings[0].scores.items()), 1):
        metric = scores.get(HEADLINE)
        low, high = (metric.low, metric.high) if metric else (None, None)
        text = f"{format_number(metric.value if metric else None)} ({format_range(low, high)})"
        use = numbers.define(f"Sealed{spell_number(position)}", text, about=run)
        said += f" On its cases {escape_latex(run)} scores a macro-F1 of {use}."
    return Latex(said)


def _say_count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
