"""Runs as runs of an MLflow server, where a group has one already."""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Sequence
from typing import Any

from ..errors import MissingExtraError, RunError
from ..notation import say_value
from .curves import Exported, hash_content, list_files, list_scores, read_curves, read_start
from .entries import Entry

STATES = {"finished": "FINISHED", "failed": "FAILED", "unfinished": "RUNNING"}
MOST_METRICS, MOST_PARAMS, MOST_LETTERS = 1000, 100, 6000  # of one request; of one parameter
PLAIN_UPLOAD = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default a server that is not there is asked for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def export_mlflow(entries: Sequence[Entry], *, uri: str, experiment: str | None = None) -> Exported:
    """Write each run to an MLflow server, or bring the one that is there up to date.

    Parameters are the knobs; metrics are every metric with ``_low`` and ``_high``, optimism, chance, seconds, and the
    learning curves (``fold0-seed0/finetune/inner_loss`` over epochs); tags start with ``smalti.``; artifacts are
    ``report.html``, ``scores.json`` and ``recipe.yaml``. A run is found again by name and data hash. MLflow never
    changes a parameter, so a run that was trained anew takes the place of the old one, which MLflow keeps as deleted.

    Args:
        entries: also failed (``FAILED``) and unfinished (``RUNNING``) ones.
        uri: where MLflow keeps its runs, for example ``http://127.0.0.1:5000``.
        experiment: name of the MLflow experiment; None makes one of each data folder's name.

    Raises:
        MissingExtraError: MLflow is not installed.
        RunError: the server cannot be reached or refuses.
    """
    # Nobody asked for reports of use to be sent; read when mlflow is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    try:
        mlflow: Any = importlib.import_module("mlflow")
    except ImportError:
        raise MissingExtraError("the export to MLflow", "mlflow") from None
    done: dict[str, list[str]] = {"created": [], "updated": [], "unchanged": [], "problems": []}
    # What the user has set stays.
    ours = {name: value for name, value in PLAIN_UPLOAD.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        exporter = _Exporter(mlflow, uri)
        for entry in entries:
            done[exporter.export(entry, experiment or entry.data_name or "smalti")].append(entry.name)
    except (mlflow.exceptions.MlflowException, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"MLflow at {uri} did not take the runs: {reason}",
            fix="start one with 'mlflow server', and give its address, for example http://127.0.0.1:5000",
        ) from None
    finally:
        for name in ours:
            os.environ.pop(name, None)
    return Exported(**{key: tuple(names) for key, names in (done | {"problems": exporter.problems}).items()})


class _Exporter:
    """One connection, and the runs that each experiment had before."""

    def __init__(self, mlflow: Any, uri: str) -> None:
        self.entities = mlflow.entities
        self.client = mlflow.MlflowClient(tracking_uri=uri)
        self.experiments: dict[str, str] = {}
        self.known: dict[str, dict[tuple[str, str], Any]] = {}
        self.problems: list[str] = []

    def export(self, entry: Entry, experiment: str) -> str:
        """Write a run; return ``created``, ``updated`` or ``unchanged``."""
        identifier = self._find_experiment(experiment)
        content = hash_content(entry)
        found = self.known[identifier].get((entry.name, entry.data_hash))
        if found is not None and found.data.tags.get("smalti.content") == content:
            return "unchanged"
        outcome = "created" if found is None else "updated"
        knobs = {_clean(knob): say_value(value)[:MOST_LETTERS] for knob, value in entry.recipe.items()}
        if found is not None:
            changed = any(knobs.get(name, value) != value for name, value in found.data.params.items())
            if changed or found.data.tags.get("smalti.started") != entry.started:  # another run of this name
                self.client.delete_run(found.info.run_id)
                found = None
        if found is None:
            found = self.client.create_run(
                identifier, start_time=_count_ms(read_start(entry)), tags=_tag_entry(entry), run_name=entry.name
            )
        identifier, entities = found.info.run_id, self.entities
        tags = [entities.RunTag(name, value) for name, value in _tag_entry(entry).items()]
        self.client.log_batch(identifier, tags=tags)
        now, metrics = _count_ms(time.time()), self._list_points(entry, found)
        metrics += [entities.Metric(_clean(name), value, now, 0) for name, value in list_scores(entry).items()]
        params = [entities.Param(name, value) for name, value in knobs.items()]
        for kind, items, most in (("params", params, MOST_PARAMS), ("metrics", metrics, MOST_METRICS)):
            for first in range(0, len(items), most):
                self.client.log_batch(identifier, **{kind: items[first : first + most]})
        for path in list_files(entry):
            self.client.log_artifact(identifier, str(path))
        if entry.status == "unfinished":
            self.client.update_run(identifier, status=STATES[entry.status])
        else:
            end = _count_ms(read_start(entry) + (entry.seconds or 0.0))
            self.client.set_terminated(identifier, STATES[entry.status], end_time=end)
        # Last, so that an export that was cut short is done again.
        self.client.set_tag(found.info.run_id, "smalti.content", content)
        return outcome

    def _find_experiment(self, name: str) -> str:
        """Return the identifier of an experiment; the runs of smalti in it are known from now on."""
        if name in self.experiments:
            return self.experiments[name]
        found = self.client.get_experiment_by_name(name)
        identifier = str(found.experiment_id if found is not None else self.client.create_experiment(name))
        runs: dict[tuple[str, str], Any] = {}
        token: str | None = None
        while token != "":
            page = self.client.search_runs([identifier], page_token=token)
            for run in page:
                tags = run.data.tags
                runs.setdefault((tags.get("smalti.run", ""), tags.get("smalti.data_hash", "")), run)
            token = page.token or ""
        self.experiments[name], self.known[identifier] = identifier, runs
        return identifier

    def _list_points(self, entry: Entry, run: Any) -> list[Any]:
        """Return points of the curves that MLflow does not have yet: it would keep each point twice."""
        try:
            curves = read_curves(entry)
        except RunError as error:
            self.problems.append(str(error))
            return []
        stamp = _count_ms(read_start(entry))
        return [
            self.entities.Metric(name, value, stamp, epoch)
            for curve in curves
            if (name := _clean(f"{curve.split}/{curve.name}")) not in run.data.metrics
            for epoch, value in curve.points
        ]


def _tag_entry(entry: Entry) -> dict[str, str]:
    return {
        "smalti.run": entry.name,
        "smalti.data_hash": entry.data_hash,
        "smalti.data": entry.data,
        "smalti.kind": entry.kind,
        "smalti.status": entry.status,
        "smalti.error": entry.error,
        "smalti.started": entry.started,
        "smalti.trustworthy": say_value(entry.trustworthy),
        "smalti.trust_reason": entry.trust_reason,
        "smalti.unit": entry.unit,
        "smalti.images": say_value(entry.n_images),
        "smalti.cases": say_value(entry.n_cases),
        "smalti.seeds": say_value(entry.n_seeds),
        "smalti.device": entry.device,
    }


def _clean(name: str) -> str:
    """Return a name with the characters that MLflow allows."""
    return re.sub(r"[^\w.\- /]", "_", name)


def _count_ms(seconds: float) -> int:
    return int(seconds * 1000)
