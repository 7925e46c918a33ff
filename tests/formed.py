"""Runs whose models are given to other tools, mapped and served: frozen, fine-tuned, and both combined."""

from __future__ import annotations

from pathlib import Path

from pages import without_pages
from textures import BARE

RUNS = {
    "plain": ("model.embedding=last",),
    "rich": ("model.pooler=attention", "predict.views=3", "predict.calibration=temperature", "train.finetune.epochs=1"),
    "joined": ("ensemble.members=[plain,rich]", "ensemble.method=average_seeds", "predict.calibration=temperature"),
    "together": ("ensemble.members=[plain,rich]", "ensemble.method=weighed"),
}


def make_forms(challenge: Path, runs: Path) -> None:
    """Make those of the runs that are not there."""
    from smalti import workflow
    from smalti.records.layout import MODEL, MODEL_RECORD

    with without_pages():
        for name, settings in RUNS.items():
            if not (runs / name / MODEL / MODEL_RECORD).exists():
                workflow.run(challenge, "default", settings=[*BARE, *settings], runs=runs, name=name)
