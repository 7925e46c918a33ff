"""Write the model card: what a model is for, what it learned from, what it scores, what it must not be used for.

The form is that of cards on the Hugging Face hub (Mitchell et al. 2019): a header of YAML, then sections. What the
records of the run do not say stands as "not stated" or is asked of the authors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from ...licences import Row, count_open, find_data
from ...records import HEADLINE, RunFolder
from ...records.layout import MODEL_CARD
from ...store import reading, write_atomic
from ..blocks import Section, Table, format_number, format_percent, format_range
from ..contents import RunRecord, read_record
from .answer import Answer
from .asked_data import answer_balance, answer_flow, answer_masks
from .asked_model import answer_input, answer_model, answer_output, answer_preprocessing, answer_training, find_encoder
from .asked_scores import answer_internal, answer_limits, answer_subgroups, answer_uncertainty, splits_sites
from .licensed import list_used_weights, read_knobs

LOADING = """```python
import smalti

model = smalti.load_model("PATH OF THIS FOLDER")
table = model.predict(["image.png"])
```

On the command line: `smalti predict PATH-OF-THIS-FOLDER NEW-IMAGES`. Weights are safetensors; nothing of the run, its
images or a hub is needed."""


def write_card(run: RunFolder, folder: Path) -> Path:
    """Write the card of a run as ``README.md`` into the folder of its model, and return its path.

    Raises:
        RunError: a file of the run folder is damaged.
    """
    record = read_record(run)
    with reading(run.path, fix="run the command again that made it, which writes its records anew"):
        header = yaml.safe_dump(describe_header(record), sort_keys=False, allow_unicode=True, width=120)
        parts = [f"---\n{header}---\n", f"# {_quote(record.name)}\n"]
        for title, lines in _list_sections(record):
            parts.append(f"## {title}\n\n" + "\n\n".join(lines) + "\n")
    return write_atomic(folder / MODEL_CARD, "\n".join(parts))


def _warn(record: RunRecord) -> str:
    """Return what the model was not tested for."""
    site_out = splits_sites(record) or (record.sites is not None and record.sites.site_out is not None)
    beyond = "scanner or labeller" if site_out else "site, scanner or labeller"
    return (
        f"It is a research model. It was not tested for diagnosis, and no score here speaks of another {beyond} than "
        "those it was scored on."
    )


def _say_refusals(record: RunRecord) -> str:
    """Return which images the model refuses."""
    share = float(read_knobs(record).get("predict.unsure_frac") or 0)
    unsure = ", and where the networks are too unsure or disagree" if share else ""
    return (
        "'smalti predict MODEL FOLDER' compares each new bag with those that were learned from. It says in a column of "
        "its own where a file cannot be read, holds NaN or no tile, is of another encoder or number of dimensions, or "
        f"lies far from all that were learned from{unsure}. A refused bag has no answer that should be used."
        if find_encoder(record) is not None
        else "'smalti predict MODEL FOLDER' compares each new image with the images that were learned from. It says in "
        "a column of its own where an image cannot be read, is foreign, blank, out of focus, painted, or of another "
        f"stain or scale{unsure}. A refused image has no answer that should be used."
    )


def _list_sites(record: RunRecord) -> str:
    """Return the sites of the training images and what they mean for the score."""
    if record.sites is None or not record.sites.n_sites:
        return "Sites and scanners: not stated."
    return f"{record.sites.n_sites} sites. {_quote(record.sites.sentence)}"


def card_section(record: RunRecord) -> Section:
    """Return the facts of the card that no other section has: use, refusals, and who has to say what."""
    rows = [
        (
            "intended use",
            f"to classify images like those it learned from into {_list_classes(record)}. {_warn(record)}",
        ),
        ("what it refuses", _say_refusals(record)),
        ("the whole card", f"{MODEL_CARD} in the folder of the model, where the run wrote one"),
    ]
    return Section("card", "Model card", [Table(("what", "in words"), rows, text_columns=2)])


def describe_header(record: RunRecord) -> dict[str, object]:
    """Return the header of the card, with the keys of the Hugging Face hub.

    The licence of the model is that of its strictest part where all are known, else ``other``.
    """
    licence, _ = choose_licence([row for row, _ in list_used_weights(record)], _find_images(record))
    header: dict[str, object] = {"license": licence}
    if licence == "other":
        header["license_name"] = "not-stated"
    header |= {
        "library_name": "smalti",
        "pipeline_tag": "image-classification",
        "tags": ["histopathology", "whole-slide-image", "multiple-instance-learning"],
        "metrics": ["f1", "accuracy", "roc_auc"],
    }
    bases = [row.name.removeprefix("hf-hub:") for row, _ in list_used_weights(record) if row.name.startswith("hf-hub:")]
    if bases:
        header["base_model"] = bases
    scores = record.scores
    if scores is not None and scores.headline.value is not None:
        population = "site-out" if splits_sites(record) else "out-of-fold"
        metric = {"type": "f1", "name": f"macro-F1 by {scores.unit}, {population}"}
        header["model-index"] = [
            {
                "name": record.name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"type": "private", "name": record.root.name if record.root else "not stated"},
                        "metrics": [{**metric, "value": round(scores.metrics[HEADLINE].value or 0.0, 4)}],
                    }
                ],
            }
        ]
    return header


def choose_licence(weights: list[Row], images: Row) -> tuple[str, str]:
    """Return the licence that a model can have, as the hub spells it, and why.

    It is Apache-2.0 where weights and images ask for a notice only; else ``other``, for whoever passes the model on to
    settle.
    """
    _, others = count_open([*weights, images])
    if others:
        return "other", f"not settled for: {', '.join(row.title or row.name for row in others)}"
    return "apache-2.0", "every part asks for a notice only"


def _find_images(record: RunRecord) -> Row:
    return find_data(read_knobs(record).get("data.licence"))


def _list_classes(record: RunRecord) -> str:
    return ", ".join(record.cohort.classes) if record.cohort else "its classes"


def _list_sections(record: RunRecord) -> Iterator[tuple[str, list[str]]]:
    """Yield the sections of the card: title and paragraphs."""
    yield (
        "Intended use",
        [
            f"To classify tissue images like those below into: {_quote(_list_classes(record))}.",
            _warn(record),
            "*For the authors: the question, the users, and where in the course of care the model stands.*",
        ],
    )
    population = _say_answers(record, answer_flow, answer_balance, answer_masks, answer_input)
    unknown = "*For the authors: origin of the images, dates, staining, scanner, age and sex of the patients.*"
    yield "Population", [*population, _list_sites(record), unknown]
    yield "Training", _say_answers(record, answer_model, answer_preprocessing, answer_training, answer_output)
    yield "Score", [*_say_answers(record, answer_internal, answer_uncertainty), *_tabulate_scores(record)]
    yield "Limits", _say_answers(record, answer_limits)
    yield "What it refuses", [_say_refusals(record)]
    yield "Licences", _list_licences(record)
    given = find_encoder(record) is not None
    yield (
        "How to load it",
        [LOADING.replace("image.png", "slide.h5").replace("IMAGES", "FEATURES") if given else LOADING],
    )


def _say_answers(record: RunRecord, *functions: Callable[[RunRecord], Answer | None]) -> list[str]:
    answers = [function(record) for function in functions]
    return [_quote(answer.text) for answer in answers if answer is not None] or ["Not stated."]


def _tabulate_scores(record: RunRecord) -> Iterator[str]:
    scores = record.scores
    if scores is None:
        return
    rows = [
        (
            name,
            format_number(metric.value),
            format_range(metric.low, metric.high) + ("" if metric.trustworthy else " ?"),
            format_number(metric.chance_prior),
        )
        for name, metric in scores.metrics.items()
    ]
    interval = f"{format_percent(scores.interval.confidence)} interval"
    yield _tabulate((f"metric (by {scores.unit})", "value", interval, "guess"), rows)
    classes = [
        (name, format_number(row.support, 0), format_number(row.recall, 2), format_number(row.precision, 2),
         f"{format_number(row.f1, 2)} ({format_range(row.f1_low, row.f1_high, 2)}){'' if row.f1_trustworthy else ' ?'}")
        for name, row in scores.per_class.items()
    ]  # fmt: skip
    yield _tabulate(("class", f"{scores.unit}s", "recall", "precision", "F1 (interval)"), classes)
    if record.operating is not None and record.operating.points:
        points = [
            (
                f"{point.asked} {format_percent(point.target)}",
                *(
                    f"{format_number(share.value, 2)} ({format_range(share.low, share.high, 2)})"
                    + ("" if share.trustworthy else " ?")
                    for share in (point.sensitivity, point.specificity)
                ),
            )
            for point in record.operating.points
        ]
        yield f"Positive class: {_quote(record.operating.positive)}. Thresholds were chosen on inner images."
        yield _tabulate(("asked for", "sensitivity reached", "specificity reached"), points)
    yield "A question mark: too few cases, or too few with an error, to trust this interval."
    subgroups = answer_subgroups(record)
    yield "Subgroups: not stated; the records of this run name none." if subgroups is None else _quote(subgroups.text)


def _list_licences(record: RunRecord) -> list[str]:
    licence, why = choose_licence([row for row, _ in list_used_weights(record)], _find_images(record))
    rows = [("code", "smalti", "Apache-2.0", "yes", "yes")]
    parts = [("weights", row) for row, _ in list_used_weights(record)] + [("images", _find_images(record))]
    rows += [(kind, row.title or row.name, row.licence, row.commercial, row.passing_on) for kind, row in parts]
    table = _tabulate(("part", "what", "licence", "commercial use", "passing on"), rows)
    return [f"Licence of this model: {licence} ({_quote(why)}).", table, "This is no legal advice."]


def _tabulate(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(_quote(cell) for cell in line) + " |" for line in lines)


def _quote(text: str) -> str:
    """Return text that Markdown shows as it is."""
    plain = " ".join(str(text).split())
    for sign in "\\`*_<>[]|#":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
