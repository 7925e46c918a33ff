"""What the LaTeX templates are filled with: words and macros, no number that is not a macro."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..blocks import count_things, format_number, format_range
from ..datasets import Dataset
from ..sections.inputs import list_environment
from ..sections.ladder import find_chance, format_signed, say_p
from ..sections.results import TITLES
from ..study import Study, find_highest, say_value
from ..trials import HEADLINE, Score, Trial
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


def fill_article(study: Study, numbers: Numbers, *, title: str, authors: str) -> dict[str, Any]:
    """Values of every template; macros are added to ``numbers``."""
    _count_study(study, numbers)
    datasets = [_view_dataset(d, n, numbers) for n, d in enumerate(study.datasets, 1)]
    views = {t.name: _view_trial(study, t, n, numbers) for n, t in enumerate(study.trials, 1)}
    title = title or name_article(study)
    return {
        "kind": study.kind,
        "about": Latex(spell_ascii(f"{title}. Written by smalti.")),
        "title": title,
        "plain_title": Latex(spell_ascii(title)),
        "name": Latex(spell_ascii(study.title)),
        "authors": authors or Latex(r"\yours{names and places}"),
        "date": (study.finished or study.started)[:10],
        "question": QUESTIONS[study.kind],
        "aim": study.about if study.about[-1:] in {"", ".", "?", "!"} else f"{study.about}.",
        "datasets": datasets,
        "several": len(datasets) > 1,
        "trials": list(views.values()),
        "by_case": any(t.unit == "case" for t in study.trials),
        "best": [views[t.name] for t in choose_best(study)],
        "best_words": BEST[study.kind],
        "papers": choose_papers(study),
        "limitations": list_limitations(study, numbers),
        "choice": _count_choice(study, numbers),
        "sealed": _say_seal(study, numbers),
        **_group_verdicts(study, views),
        **_fill_tables(study, views, numbers),
    }


def name_article(study: Study) -> str:
    """A title that says what was done on which data."""
    data = study.datasets[0].name if len(study.datasets) == 1 else f"{len(study.datasets)} data sets"
    if study.kind == "ladder":
        return f"What helps to classify {data}: the ladder {study.title}"
    if study.kind == "runs":
        return f"Classifying {data}: {count_things(len(study.trials), 'experiment')}"
    return f"Classifying {data}: {study.title}"


def choose_best(study: Study) -> list[Trial]:
    """The best trial; of many runs the highest of each data set."""
    if study.kind == "runs":
        groups = [[t for t in study.trials if t.data == d.name] for d in study.datasets]
        return [best for best in map(find_highest, groups) if best is not None]
    return [study.champion] if study.champion is not None and study.champion.score is not None else []


def _count_study(study: Study, numbers: Numbers) -> None:
    lost = [t for t in study.trials if t.status != "done"]
    counts = {
        "Confidence": f"{100 * study.confidence:g}",
        "Alpha": f"{study.alpha:g}",
        "Trials": f"{len(study.trials):,}",
        "DataSets": len(study.datasets),
        "Compared": len(study.compared),
        "Better": len(study.list_verdict("better")),
        "Worse": len(study.list_verdict("worse")),
        "Equal": len(study.list_verdict("practically equal")),
        "Unsure": len(study.list_verdict("cannot tell")),
        "Silent": len(study.list_verdict("no verdict")),
        "Margin": f"{study.margin:g}",
        "Lost": len(lost),
    }
    for name, value in counts.items():
        numbers.define(name, value)
    why = dict.fromkeys(t.gap.why for t in study.list_verdict("no verdict") if t.gap and t.gap.why)
    numbers.define("SilentWhy", Latex(escape_latex("; ".join(why))))
    smallest = [t.gap.smallest_detectable for t in study.compared if t.gap and t.gap.smallest_detectable is not None]
    low, high = (min(smallest), max(smallest)) if smallest else (None, None)
    same = format_number(low) == format_number(high)
    about = "range over the comparisons"
    numbers.define("SmallestDetectable", format_number(low) if same else format_range(low, high), about=about)
    if not study.datasets:
        numbers.define("DataOneName", "the data")


def _group_verdicts(study: Study, views: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    silent = study.list_verdict("no verdict")
    return {
        "n_compared": len(study.compared),
        "n_lost": sum(t.status != "done" for t in study.trials),
        "smallest": Latex("\\SmallestDetectable{}"),
        "margin": study.margin,
        **{
            name: [views[t.name] for t in study.list_verdict(verdict)]
            for name, verdict in {
                "better": "better",
                "worse": "worse",
                "equal": "practically equal",
                "unsure": "cannot tell",
            }.items()
        },
        "silent": [views[t.name] for t in silent],
        "silent_why": Latex("\\SilentWhy{}"),
        "lost": [views[t.name] for t in study.trials if t.status != "done"],
        "optimism": _find_optimism(study, views),
    }


def _find_optimism(study: Study, views: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    best = next((t for t in choose_best(study) if t.optimism is not None), None)
    return None if best is None else {"name": views[best.name]["name"], "value": views[best.name]["optimism"]}


def _view_dataset(dataset: Dataset, number: int, numbers: Numbers) -> dict[str, Any]:
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


def _view_trial(study: Study, trial: Trial, number: int, numbers: Numbers) -> dict[str, Any]:
    prefix = ("Rung" if study.kind == "ladder" else "Run") + spell_number(number)
    score, gap, chance = trial.score, trial.gap, find_chance(study, trial)

    def define(key: str, text: str) -> Latex:
        return numbers.define(prefix + key, text, about=trial.name[:60])

    view = {
        "name": numbers.define(f"{prefix}Name", escape_latex(trial.name)),
        "score": define("Score", format_number(score.value if score else None)),
        "interval": define("Interval", format_range(score.low, score.high) if score else "–"),
        "images": define("Images", _say_count(trial.n_images)),
        "cases": define("Cases", _say_count(trial.n_cases)),
        "seeds": define("Seeds", _say_count(trial.n_seeds)),
        "seconds": define("Seconds", format_number(trial.seconds, 0)),
        "memory": define("Memory", format_number(trial.peak_memory_gb, 1)),
        "optimism": define("Optimism", "–" if trial.optimism is None else f"{trial.optimism:+.3f}"),
        "changed": define("Changed", trial.changed) if trial.changed else None,
        "given": define("Given", format_number(trial.given.value if trial.given else None)) if trial.changed else None,
        "given_interval": define(
            "GivenInterval", format_range(trial.given.low, trial.given.high) if trial.given else "–"
        )
        if trial.changed
        else None,
        "chance": None,
        "guess": Latex("--"),
        "difference": None,
    }
    if chance is not None and chance.prior is not None:
        guess = define("Guess", format_number(chance.prior))
        text = "" if chance.low is None else f" ({define('GuessRange', format_range(chance.low, chance.high))})"
        view |= {"guess": guess, "chance": Latex(guess + text)}
    if gap is not None:
        p = define("P", say_p(gap.p_holm))
        small = gap.p_holm is None or gap.p_holm < 0.001
        view |= {
            "difference": define("Difference", f"{gap.value:+.3f}"),
            "difference_interval": define("DifferenceInterval", format_signed(gap.low, gap.high)),
            "p": p,
            "p_text": p if small else Latex(f"= {p}"),
            "smallest": define("Smallest", format_number(gap.smallest_detectable)),
        }
    return view | _describe_trial(study, trial)


def _describe_trial(study: Study, trial: Trial) -> dict[str, Any]:
    """What is words, not numbers."""
    default = {"ladder": "nothing: the bottom rung", "run": "a preset", "runs": "the commonest values"}
    return {
        "data": trial.data,
        "done": trial.score is not None,
        "trusted": trial.trustworthy is not False,
        "by_case": trial.unit == "case",
        "seed_word": "seed" if trial.n_seeds == 1 else "seeds",
        "status": "finished" if trial.status == "done" else trial.status,
        "change": _say_change(study, trial),
        "on": trial.on,
        "verdict": trial.gap.verdict if trial.gap else None,
        "run": trial.run if trial.run != trial.name else "",
        "reused": trial.reused,
        "settings": trial.settings,
        "base": (trial.on if study.kind == "ladder" else None) or default[study.kind],
        "notes": "; ".join(trial.notes),
        "error": trial.error or ("not begun" if trial.status == "waiting" else "no reason was recorded"),
    }


def _say_change(study: Study, trial: Trial) -> str:
    if study.kind == "ladder":
        return trial.change
    shown = ", ".join(trial.settings[:4]) + (", ..." if len(trial.settings) > 4 else "")
    return f"on {trial.data}: {shown}" if shown and len(study.datasets) > 1 else shown


def _fill_tables(study: Study, views: Mapping[str, dict[str, Any]], numbers: Numbers) -> dict[str, Any]:
    rows = list(study.trials)
    if study.kind == "runs":
        rows = sorted((t for t in rows if t.score), key=lambda t: -(t.score.value if t.score else 0))[:MOST_ROWS]
    metrics = study.list_metrics()
    start = study.trials[0].name if study.trials else "the first"
    recipes = {
        "ladder": f"The recipe of the bottom rung ({start}) in full.",
        "run": "The recipe in full.",
        "runs": "The commonest value of every knob.",
    }
    return {
        "rows": [views[t.name] for t in rows],
        "table_words": _say_table(study, len(rows)),
        "metrics": _list_metrics(study, numbers),
        "other_metrics": [TITLES.get(m, m) for m in metrics] if study.kind != "run" and len(metrics) > 1 else [],
        "metric_columns": Latex(f"L{{{round(100 / max(1, len(metrics)), 1)}mm}}" * len(metrics)),
        "metric_rows": _list_metric_rows(study, metrics, views, numbers),
        "recipe": [(knob, say_value(value)) for knob, value in study.recipe.items()],
        "recipe_words": recipes[study.kind],
        "environment": list_environment(study.record.environment)
        if study.record is not None and study.record.environment is not None
        else [],
    }


def _say_table(study: Study, shown: int) -> Latex:
    what = {"ladder": "The rungs, from the bottom", "run": "", "runs": "Highest scores first"}[study.kind]
    if study.kind == "runs" and shown < len(study.trials):
        what += "; the appendix has all experiments"
    if not study.compared:
        return Latex(f"{what}. Scores with \\Confidence{{}}~\\% intervals; guess: by the shares of the classes.")
    return Latex(
        f"{what}. Below each number its \\Confidence{{}}~\\% interval; differences are paired; p after Holm; smallest: "
        "the smallest detectable difference."
    )


def _list_metrics(study: Study, numbers: Numbers) -> list[dict[str, Any]]:
    """The rows of the main table of one run."""
    if study.kind != "run" or study.record is None or study.record.scores is None:
        return []
    rows = []
    for position, (name, metric) in enumerate(study.record.scores["metrics"].items(), 1):
        base = f"Metric{spell_number(position)}"
        texts = {
            "score": format_number(metric["value"]),
            "interval": format_range(metric["low"], metric["high"]),
            "majority": format_number(metric["chance_majority"]),
            "prior": format_number(metric["chance_prior"]),
            "range": format_range(metric["chance_prior_low"], metric["chance_prior_high"]),
        }
        uses = {k: numbers.define(base + k.capitalize(), v, about=name) for k, v in texts.items()}
        rows.append({"title": TITLES.get(name, name), **uses})
    return rows


def _list_metric_rows(
    study: Study, metrics: Sequence[str], views: Mapping[str, dict[str, Any]], numbers: Numbers
) -> list[tuple[Latex, list[tuple[Latex, Latex]]]]:
    if study.kind == "run":
        return []
    rows = []
    prefix = "Rung" if study.kind == "ladder" else "Run"
    for number, trial in enumerate(study.trials, 1):
        if trial.score is None:
            continue
        cells = []
        for position, metric in enumerate(metrics, 1):
            base = f"{prefix}{spell_number(number)}Metric{spell_number(position)}"
            cells.append(_define_cell(base, metric, trial.scores.get(metric), numbers))
        rows.append((views[trial.name]["name"], cells))
    return rows


def _define_cell(base: str, metric: str, score: Score | None, numbers: Numbers) -> tuple[Latex, Latex]:
    value = format_number(score.value if score else None)
    interval = format_range(score.low, score.high) if score else "–"
    return numbers.define(base, value, about=metric), numbers.define(f"{base}Interval", interval)


def list_limitations(study: Study, numbers: Numbers) -> list[Latex]:
    """Sentences about what these numbers cannot say."""
    said = []
    cases = [t.n_cases for t in study.trials if t.n_cases]
    if cases:
        fewest = numbers.define("FewestCases", f"{min(cases):,}")
        said.append(f"The scores rest on {fewest} cases, and the intervals are as wide as so many cases make them.")
    reasons = dict.fromkeys(t.trust_reason or "there are few cases" for t in study.trials if t.trustworthy is False)
    for reason in reasons:
        said.append(f"Some intervals cannot be trusted: {escape_number(reason)}.")
    if len(study.datasets) == 1:
        said.append(
            "There is one data set: another scanner, stain or hospital may give other scores and another order."
        )
    if sum(t.score is not None for t in study.trials) > 1:
        said.append(
            f"The best {WORDS[study.kind]} was picked after its score on these folds was seen, so that luck had a say; "
            "a sealed part that is opened once would show how much."
        )
    seeds = [t.n_seeds for t in study.trials if t.n_seeds]
    if seeds and min(seeds) < 3:
        fewest = numbers.define("FewestSeeds", min(seeds))
        said.append(f"There are as few as {fewest} {'seed' if min(seeds) == 1 else 'seeds'} to a recipe.")
    said.append("Labels are taken as they were given; wrong ones lower the score and blur differences.")
    return [Latex(text) for text in said]


def _count_choice(study: Study, numbers: Numbers) -> dict[str, Any] | None:
    """What the highest score is worth, since it was chosen."""
    choice = study.choice
    if choice is None or choice.get("corrected") is None or (choice.get("runs") or 0) < 2:
        return None
    return {
        "best": str(choice["best"]),
        "runs": numbers.define("ChoiceRungs", choice["runs"]),
        "score": numbers.define("ChoiceScore", format_number(choice["score"])),
        "corrected": numbers.define("ChoiceCorrected", format_number(choice["corrected"])),
    }


def _say_seal(study: Study, numbers: Numbers) -> Latex | None:
    seal = study.record.seal if study.record is not None else None
    if seal is None:
        return None
    cases = numbers.define("SealedCases", _say_count(seal.get("n_cases")))
    openings = seal.get("openings") or []
    said = f"{cases} further cases were sealed before the experiments"
    if not openings:
        return Latex(f"{said} and have not been looked at.")
    times = numbers.define("SealOpenings", len(openings))
    said += f"; the seal was opened {times} {'time' if len(openings) == 1 else 'times'}."
    for position, (run, scores) in enumerate(sorted((openings[0].get("scores") or {}).items()), 1):
        metric = scores.get(HEADLINE) or {}
        text = f"{format_number(metric.get('value'))} ({format_range(metric.get('low'), metric.get('high'))})"
        use = numbers.define(f"Sealed{spell_number(position)}", text, about=run)
        said += f" On its cases {escape_latex(run)} scores a macro-F1 of {use}."
    return Latex(said)


def _say_count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
