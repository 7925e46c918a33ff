"""A search over knobs in which what chooses never scores.

Every outer fold has a study of its own, which sees only the cases that the fold leaves for learning; the recipe that it
chooses scores the fold. What the user takes home comes from one more study on all cases; its score is the one of the
others, as in nested cross-validation (Cawley & Talbot 2010).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from ..errors import RunError
from ..recipe import Recipe
from ..records.layout import JOURNAL, TRIAL_RUNS
from ..records.studies.search import KnobValue, Search
from ..types import Split
from ..workflow import Listener
from .space import Space
from .trial import UNFIT, TrialRunner

WHOLE = "all"  # the study on all cases
STUDIES_SHARE = 0.6  # of the minutes, where there are curves too
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)  # all but what was killed


class Halving(optuna.pruners.BasePruner):
    """End a trial that is not in the better half after 2, 3, 5, 9... inner folds (Jamieson & Talwalkar 2016).

    Its rivals are trials that ended. Optuna's own counts what was killed too, so that a search that was killed would
    end other trials than one that was not.
    """

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Return whether the trial ends after the fold that it reported last."""
        step = trial.last_step
        if not step or step & (step - 1):  # not a power of two
            return False
        ended = study.get_trials(deepcopy=False, states=ENDED)
        value = trial.intermediate_values[step]
        scores = sorted([value, *(t.intermediate_values[step] for t in ended if step in t.intermediate_values)])
        return value < scores[-max(1, len(scores) // 2)]


@dataclass
class Studies:
    """All studies of a search, kept in one journal that a later call continues."""

    space: Space
    search: Search
    runner: TrialRunner
    settings: tuple[str, ...]
    listener: Listener

    def run(self, splits: tuple[Split, ...], *, images: int, deadline: float) -> dict[str, optuna.Study]:
        """Run one study for each outer fold, and one on all ``images`` labelled images.

        ``deadline`` is on the clock of `time.monotonic`.
        """
        wanted: list[tuple[str, NDArray[np.int64]]] = [(s.name, np.union1d(s.train, s.inner)) for s in splits]
        wanted.append((WHOLE, np.arange(images)))
        studies = {}
        for number, (name, seen) in enumerate(wanted):
            left = (deadline - time.monotonic()) / (len(wanted) - number)
            studies[name] = self._study(name, seen, seconds=left, seed=number)
        return studies

    def _study(self, name: str, images: NDArray[np.int64], *, seconds: float, seed: int) -> optuna.Study:
        study, until = self._open(name), time.monotonic() + seconds
        while True:
            ended = study.get_trials(deepcopy=False, states=ENDED)
            tried, grid = [trial.params for trial in ended], list[Mapping[str, KnobValue]]()
            if self.search.sampler == "grid":  # combinations that were not tried yet
                points = product(*(knob.list_values() for knob in self.space.knobs))
                grid = [v for p in points if (v := dict(zip(self.space.names, p, strict=True))) not in tried]
            total = len(ended) + len(grid) if self.search.sampler == "grid" else self.search.trials
            # At least one trial is run even if the time is up: a study without a trial chooses nothing.
            if len(ended) >= total or (ended and time.monotonic() >= until):
                return study
            # The seed follows from the number of trials so far, so that a search that was killed continues with the
            # trials that it would have had.
            study.sampler = self._build_sampler(seed, drawn=len(ended))
            if grid and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                study.enqueue_trial(dict(grid[0]))
            study.optimize(lambda trial: self._score(trial, images, study=name), n_trials=1)
            self.listener.tell(f"search {name}", len(ended) + 1, total)

    def _score(self, trial: optuna.Trial, images: NDArray[np.int64], *, study: str) -> float:
        values = {name: _suggest(trial, name, kind) for name, kind in self.space.describe_distributions().items()}
        score = 0.0
        try:
            recipe = self.build_recipe(values)
            for step, score in enumerate(self.runner.try_recipe(recipe, images, name=f"{study}-{trial.number}")):
                trial.report(score, step)
                # After the last fold there is nothing left to save.
                if step + 1 < self.search.folds and trial.should_prune():
                    raise optuna.TrialPruned
        except UNFIT as error:
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned from None
        return score

    def build_recipe(self, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a trial, with the split of the inner folds."""
        recipe = self.space.build_recipe(values, self.settings)
        split = recipe.split.model_copy(update={"folds": self.search.folds, "seeds": recipe.split.seeds[:1]})
        return recipe.model_copy(update={"split": split})

    def _open(self, name: str) -> optuna.Study:
        """Open a study of the journal; trials that did not end are drawn again.

        Raises:
            RunError: the journal is damaged.
        """
        path = self.runner.folder / JOURNAL
        if path.is_file():
            with path.open("rb+") as file:  # a full disk or a power cut may have left half a line
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)
        try:
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
            study = optuna.create_study(
                study_name=name, storage=storage, direction="maximize", load_if_exists=True,
                pruner=Halving() if self.search.prune else optuna.pruners.NopPruner(),
            )  # fmt: skip
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                study.tell(trial.number, state=TrialState.FAIL)
                shutil.rmtree(self.runner.folder / TRIAL_RUNS / f"{name}-{trial.number}", ignore_errors=True)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:  # of optuna's reader
            raise RunError(f"{path} is damaged: {error!r}", fix="delete it; the search then begins anew") from None
        return study

    def _build_sampler(self, seed: int, *, drawn: int) -> optuna.samplers.BaseSampler:
        """Return a sampler that continues after ``drawn`` trials."""
        seed = int(np.random.SeedSequence([seed, drawn]).generate_state(1)[0])
        if self.search.sampler != "tpe":  # a grid is not drawn
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(5, self.search.trials // 4))


def _suggest(trial: optuna.Trial, name: str, kind: optuna.distributions.BaseDistribution) -> Any:
    if isinstance(kind, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, kind.choices)
    if isinstance(kind, optuna.distributions.IntDistribution):
        return trial.suggest_int(name, kind.low, kind.high, log=kind.log)
    assert isinstance(kind, optuna.distributions.FloatDistribution)
    return trial.suggest_float(name, kind.low, kind.high, log=kind.log)


def tabulate_trials(studies: Mapping[str, optuna.Study], names: Iterable[str], *, folds: int) -> pd.DataFrame:
    """Return the trials of all studies: ``study, number, state, value, seconds``, ``error`` of a trial without a score,
    a column for each knob, and the score after each inner fold, ``after_1`` to ``after_<folds>``; empty after the
    trial ended."""
    names, steps = tuple(names), name_steps(folds)
    rows = [
        {
            "study": study,
            "number": number,  # optuna counts those that were killed too
            "state": trial.state.name.lower(),
            "value": trial.value if trial.state is TrialState.COMPLETE else None,
            "seconds": trial.duration.total_seconds() if trial.duration is not None else None,
            "error": trial.user_attrs.get("error"),
            **{name: trial.params.get(name) for name in names},
            **{name: trial.intermediate_values.get(step) for step, name in enumerate(steps)},
        }
        for study, found in studies.items()
        for number, trial in enumerate(found.get_trials(deepcopy=False, states=ENDED))
    ]
    return pd.DataFrame(rows, columns=["study", "number", "state", "value", "seconds", "error", *names, *steps])


def name_steps(folds: int) -> tuple[str, ...]:
    """Return the columns of the scores after each inner fold."""
    return tuple(f"after_{step + 1}" for step in range(folds))
