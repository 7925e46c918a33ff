"""Peers of a league that live in environments of their own: what they are given, how they are called, what is taken.

A peer is a script of ``peers/``. It gets a folder with a ``peers.task.Task``, in which the labels of the outer images
are blank, and with the weights or the features that it asks for; it writes the scores of the outer images there.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import timm
from safetensors.torch import save_file

from peers.task import KEYS, Task
from smalti.errors import DataError, Problem, WeightsError
from smalti.models import build_backbone
from smalti.store import read_table
from smalti.train import Experiment
from smalti.types import score_columns

HERE = Path(__file__).parent
FIND = (
    "import importlib.metadata as m, sys; have = {d.metadata['Name'].lower() for d in m.distributions()}; "
    "print(*(name for name in sys.argv[1:] if name not in have))"
)


@dataclass(frozen=True)
class Outsider:
    """What must be installed beside a peer, and what it works on beside the table."""

    packages: tuple[str, ...]
    needs: Literal["weights", "features"]


OUTSIDERS = {
    "fastai": Outsider(("fastai", "timm", "safetensors"), "weights"),
    "autogluon": Outsider(("autogluon.tabular", "lightgbm", "catboost"), "features"),
}


def read_interpreters(texts: Sequence[str]) -> dict[str, Path]:
    """Read ``NAME=PYTHON`` and try each interpreter.

    Raises:
        DataError: no such peer, no such file, or an environment without what the peer needs; all at once.
    """
    found, problems = dict[str, Path](), list[Problem]()
    for text in texts:
        name, _, place = text.partition("=")
        python = Path(place).absolute()  # not resolved: the link is what makes it an environment
        if name not in OUTSIDERS or not place:
            known = ", ".join(f"{name}=PYTHON" for name in OUTSIDERS)
            problems.append(Problem("no-such-peer", text, "it names no peer and its interpreter.", f"one of {known}"))
            continue
        if not python.is_file():
            problems.append(Problem("no-interpreter", text, f"there is no file {python}.", "bin/python of a venv"))
            continue
        command = [python, "-E", "-s", "-c", FIND, *OUTSIDERS[name].packages]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        if asked.returncode or asked.stdout.strip():
            what = f"it lacks {asked.stdout.strip() or 'an answer'}. {asked.stderr.strip()[-200:]}"
            problems.append(Problem("no-package", text, what, f"see the first lines of peers/{name}_peer.py"))
        found[name] = python
    if problems:
        raise DataError("peers that cannot be played:", problems)
    return found


def set_task(name: str, folder: Path, *, experiment: Experiment, folds: pd.DataFrame, minutes: float) -> str:
    """Write what a peer works on; return a hash of it and of the peer's code.

    Args:
        name: of the peer.
        folder: where the task goes.
        experiment: whose images, classes, backbone and features it gets.
        folds: as ``folds.csv`` of a run, with the position of each image among the labelled ones.
        minutes: for all folds together.

    Raises:
        WeightsError: the backbone is none of timm's, so that a peer cannot build it.
    """
    backbone, samples = experiment.backbone, experiment.cohort.labelled
    if OUTSIDERS[name].needs == "weights" and not timm.is_model(backbone.name.partition(".")[0]):
        raise WeightsError(f"{name} cannot build the backbone {backbone.name}. Fix: model.backbone of timm's names")
    table = folds[["image", "label", "case", "seed", "fold", "role", "position"]]
    table = table.assign(
        path=[str(samples[i].path.resolve()) for i in table["position"]],
        label=table["label"].astype(str).where(table["role"] != "outer", ""),
    )
    spec = backbone.spec
    Task(table, experiment.cohort.classes, minutes, backbone.name, spec.size_px, spec.mean, spec.std).write(folder)
    if OUTSIDERS[name].needs == "weights":
        # Users of a library take the whole network, whatever smalti reads of it.
        network = build_backbone(experiment.recipe.model.model_copy(update={"embedding": "last"})).module
        state = {key: value.contiguous() for key, value in network.state_dict().items()}
        save_file(state, folder / "weights.safetensors")
    else:
        found = experiment.compare_images()
        assert found is not None  # quick has a phase transfer
        np.save(folder / "features.npy", found.numpy())
    given = [folder / f for f in ("table.csv", "task.json", "weights.safetensors", "features.npy")]
    code = [HERE / "peers" / f"{name}_peer.py", HERE / "peers" / "task.py"]
    digest = hashlib.sha256()
    for path in (*given, *code):
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def ask(name: str, python: Path, folder: Path, *, folds: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Let a peer work and take its out-of-fold table; what it says goes to ``log.txt`` of its folder.

    Raises:
        DataError: it failed, or did not answer for each outer image of each fold once.
    """
    (folder / "answer.csv").unlink(missing_ok=True)
    command = [python, "-E", "-s", "-m", f"peers.{name}_peer", folder.resolve()]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, cwd=HERE, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        last = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise DataError(f"{name} ended with {code}: {' '.join(last)}. Fix: read {folder / 'log.txt'}")
    print(f"{name}: {(folder / 'note.txt').read_text(encoding='utf-8')}", flush=True)
    answer = read_table(folder / "answer.csv", *KEYS, *score_columns(classes)).astype({"image": str})
    outer = folds.loc[folds["role"] == "outer", ["image", "case", "label", "seed", "fold"]].astype({"image": str})
    asked, given = (sorted(zip(*(t[k] for k in KEYS), strict=True)) for t in (outer, answer))
    if asked != given:
        raise DataError(
            f"{name} answered {len(given)} rows and was asked for {len(asked)}, not the same ones. "
            f"Fix: read {folder / 'answer.csv'} beside table.csv"
        )
    return outer.merge(answer, on=list(KEYS))
