"""What several test files share: a drawn cohort, a finished run on it, experiments from settings or embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textures import FAST, draw_challenge

# The suite has a worker on each core; threads of torch would only wait for each other. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn cohort; read only. A test that changes it draws or copies its own."""
    return draw_challenge(tmp_path_factory.mktemp("drawn") / "textures")


@pytest.fixture(scope="session")
def finished(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of a whole run with two seeds on the drawn cohort; read only."""
    from smalti import workflow

    settings = [*FAST, "split.seeds=[0,1]"]
    return workflow.run(challenge, "default", settings=settings, runs=tmp_path_factory.mktemp("runs"), name="whole")


@pytest.fixture(scope="session")
def prepare(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Make an experiment and its splits from settings on top of the fast recipe; tiles and features are shared."""
    from smalti import workflow
    from smalti.recipe import load_recipe

    runs = tmp_path_factory.mktemp("experiments")
    names = iter(range(10_000))

    def build(*settings: str, data: Path = challenge) -> Any:
        plan = load_recipe(settings=[*FAST, *settings])
        ground = workflow.inspect_ground(data, recipe=plan, decisions_path=runs / "none.csv")
        return workflow.prepare(ground, plan, runs=runs, name=f"r{next(names)}", listener=workflow.SILENT)

    return build


@pytest.fixture
def embed(tmp_path: Path) -> Callable[..., Any]:
    """Make an experiment on given image embeddings (n, D) or (views, n, D): labels and cases, no files, no tiles."""
    import torch

    from smalti.models import Backbone
    from smalti.recipe import load_recipe
    from smalti.records import RunFolder
    from smalti.samples import split_cases
    from smalti.tile import TileStore
    from smalti.train import Experiment, Features, Frozen, choose_device, make_fabric
    from smalti.types import Cohort, InputSpec, Sample

    def build(embeddings: Any, labels: Any, *settings: str, cases: Any = None, name: str = "run") -> Any:
        values = torch.as_tensor(np.asarray(embeddings), dtype=torch.float32)
        values = values if values.ndim == 3 else values[None]
        names = [f"i{n:04d}" for n in range(values.shape[1])]
        cases = names if cases is None else cases
        rows = zip(names, labels, cases, strict=True)
        samples = tuple(Sample(n, Path(n), None, str(label), str(case), n) for n, label, case in rows)
        cohort = Cohort(tmp_path, "table", samples, (), tuple(sorted(set(map(str, labels)))))
        plan = load_recipe(settings=["train.device=cpu", "train.finetune.epochs=0", *settings])
        starts = np.arange(len(names) + 1, dtype=np.int64)
        zeros = np.zeros((len(names), 2), np.int64)
        store = TileStore(
            "none",
            tmp_path,
            64,
            tuple(names),
            starts,
            zeros,
            np.ones(len(names), np.float32),
            np.ones(len(names), np.float32),
            np.zeros(len(names), np.uint8),
            np.zeros(len(names) + 1, np.int64),
        )
        spec = InputSpec(64, False, (0.5,) * 3, (0.5,) * 3)
        backbone = Backbone(torch.nn.Identity(), "identity", values.shape[2], spec)
        (tmp_path / name).mkdir()
        device = choose_device(plan.train)
        splits = split_cases(cohort, plan.split)
        frozen = dict.fromkeys((s.name for s in splits), Frozen(Features((), store, values.shape[2]), values))
        run = RunFolder(tmp_path / name)
        return Experiment(run, plan, cohort, store, backbone, frozen, device, make_fabric(device)), splits

    return build
