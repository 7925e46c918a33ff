"""What several test files share: a drawn cohort, a finished run on it, experiments from settings or embeddings."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from formed import make_forms
from handed import Handed, make_models
from pages import without_pages
from textures import FAST, draw_challenge

# What these make is trained, served or browsed: a test that uses one is slow.
SLOW_FIXTURES = {
    "browser", "cheated", "climbed", "embed", "explained", "finished", "forms", "handed", "lab", "painted", "prepare",
    "purged", "sealed", "server", "shared", "shuffled", "together", "trained", "ways", "whole",
}  # fmt: skip

# The suite has a worker on each core; threads of torch would only wait for each other. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Search no garbage while modules are imported, and later not among what they hold: 3 s and more of each worker."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Let the end of the process free what was frozen; extension modules complain otherwise."""
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)  # before what is not slow is chosen
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark as slow what uses a slow fixture; ``make check`` leaves that out."""
    for item in items:
        if SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _no_power_cut() -> Iterator[None]:
    """Wait for no disk: one search alone asks a thousand times, for 4 ms each, and no test cuts the power.

    Processes that tests start do wait, and tests of what a disk answers put their own answer here.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made once for all workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def challenge(shared_root: Path) -> Path:
    """The drawn cohort; read only. A test that changes it draws or copies its own."""
    folder = shared_root / "drawn" / "textures"
    with FileLock(shared_root / "drawn.lock"):
        return folder if folder.exists() else draw_challenge(folder)


@pytest.fixture(scope="session")
def finished(challenge: Path, shared_root: Path) -> Any:
    """The result of a whole run with two seeds on the drawn cohort; read only. One worker trains it."""
    from smalti import workflow
    from smalti.records import Scores

    runs, settings = shared_root / "runs", [*FAST, "split.seeds=[0,1]"]
    with FileLock(shared_root / "runs.lock"):
        if not (runs / "whole" / "report.html").exists():
            workflow.run(challenge, "default", settings=settings, runs=runs, name="whole")
    return workflow.Result(runs / "whole", Scores.read(runs / "whole"))


@pytest.fixture(scope="session")
def handed(shared_root: Path) -> Handed:
    """Models of several recipes, away from their runs, which are gone; read only. One worker makes them."""
    home, lab = shared_root / "handed", shared_root / "runs-of-models"
    with FileLock(shared_root / "handed.lock"):
        if not home.exists():
            make_models(lab, lab / "handed")
            (lab / "handed").rename(home)
            shutil.rmtree(lab)
    return Handed(home / "models", home / "pictures", (home / "again.json").read_bytes())


@pytest.fixture(scope="session")
def forms(challenge: Path, shared_root: Path) -> Path:
    """The folder of the runs of `formed`; read only. One worker trains them."""
    with FileLock(shared_root / "forms.lock"):
        make_forms(challenge, shared_root / "forms")
    return shared_root / "forms"


@pytest.fixture(scope="session")
def prepare(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Make an experiment from settings on top of the fast recipe; tiles and features are shared."""
    from smalti import workflow
    from smalti.recipe import load_recipe

    runs = tmp_path_factory.mktemp("experiments")
    names = iter(range(10_000))
    grounds: dict[tuple[Path, Any, Any], workflow.Ground] = {}

    def build(*settings: str, data: Path = challenge) -> Any:
        recipe = load_recipe(settings=[*FAST, *settings])
        key = (data, recipe.audit, recipe.data)  # all that the ground of a folder without decisions and seal depends on
        project = workflow.Project(data, runs, runs / "none.csv")
        if key not in grounds:
            grounds[key] = workflow.inspect_ground(project, recipe)
        return workflow.prepare(project, grounds[key], recipe, name=f"r{next(names)}")

    return build


@pytest.fixture
def no_pages() -> Iterator[None]:
    """Runs of this test draw no pages. Runs of fixtures that are shared are made before and keep theirs."""
    with without_pages():
        yield


@pytest.fixture
def embed(tmp_path: Path) -> Callable[..., Any]:
    """Make an experiment on given image embeddings (n, D) or (views, n, D): labels and cases, no files, no tiles."""
    import torch

    from smalti.models import Backbone
    from smalti.recipe import load_recipe
    from smalti.records import RunFolder
    from smalti.samples import split_cases
    from smalti.tile import TileStore
    from smalti.train import Experiment, Features, FrozenFeatures, choose_device, make_fabric
    from smalti.types import Cohort, InputSpec, Sample

    def build(embeddings: Any, labels: Any, *settings: str, cases: Any = None, name: str = "run") -> Any:
        values = torch.as_tensor(np.asarray(embeddings), dtype=torch.float32)
        values = values if values.ndim == 3 else values[None]
        names = [f"i{n:04d}" for n in range(values.shape[1])]
        cases = names if cases is None else cases
        rows = zip(names, labels, cases, strict=True)
        samples = tuple(Sample(n, Path(n), None, str(label), str(case), n) for n, label, case in rows)
        cohort = Cohort(tmp_path, "table", samples, (), tuple(sorted(set(map(str, labels)))))
        recipe = load_recipe(settings=["train.device=cpu", "train.finetune.epochs=0", *settings])
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
        device = choose_device(recipe.train)
        splits = split_cases(cohort, recipe.split)
        frozen = dict.fromkeys((s.name for s in splits), FrozenFeatures(Features((), store, values.shape[2]), values))
        run = RunFolder(tmp_path / name)
        return Experiment(run, recipe, cohort, splits, store, backbone, frozen, device, make_fabric(device))

    return build
