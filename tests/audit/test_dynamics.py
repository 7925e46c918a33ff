"""Training dynamics: held-out scores after each epoch, which change nothing; measures against plain loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smalti.audit.labels.dynamics import count_forgettings, measure_margin_areas, track_losses
from smalti.audit.labels.evidence import order_dynamics
from smalti.errors import RunError
from smalti.predict import predict_outer
from smalti.records import Dynamics, join_dynamics
from smalti.records.layout import name_dynamics
from smalti.train import load_network, loop, read_checkpoint, train_folds

Make = Callable[..., Any]
KNOBS = ("split.folds=3", "split.seeds=[0,1]", "model.dropout=0.3", "train.transfer.epochs=6")


class CutError(BaseException):
    """Stands for the end of the process: no Exception."""


def draw_dynamics(*, images: int = 7, classes: int = 3, seeds: int = 3, seed: int = 0) -> Dynamics:
    """Random logits; each seed of each image learned for another number of epochs; rows in no order."""
    rng = np.random.default_rng(seed)
    rows = [(i, s, e) for i in range(images) for s in range(seeds) for e in range(rng.integers(1, 9))]
    rows = [rows[k] for k in rng.permutation(len(rows))]
    image, number, epoch = (np.array(column) for column in zip(*rows, strict=True))
    logits = rng.normal(size=(len(rows), classes)).astype(np.float32)
    names = tuple(f"i{k}" for k in range(images))
    return Dynamics(names, tuple("abcdef"[:classes]), image, number, epoch, logits)


def list_courses(dynamics: Dynamics, image: int) -> list[list[np.ndarray]]:
    """Logits of an image, epoch after epoch, of each seed."""
    courses = []
    for seed in sorted(set(dynamics.seed.tolist())):
        rows = [r for r in range(len(dynamics.image)) if dynamics.image[r] == image and dynamics.seed[r] == seed]
        courses.append([dynamics.logits[r].astype(float) for r in sorted(rows, key=lambda r: dynamics.epoch[r])])
    return courses


# --- measures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_those_of_a_plain_loop(seed: int) -> None:
    dynamics = draw_dynamics(seed=seed)
    labels = np.random.default_rng(seed + 100).integers(0, 3, 7)
    areas, events = measure_margin_areas(dynamics, labels), count_forgettings(dynamics, labels)
    histories = track_losses(dynamics, labels)
    for i, label in enumerate(labels):
        margins, forgotten, ever, losses = [], 0, False, {}
        for course in list_courses(dynamics, i):
            before = False
            for epoch, z in enumerate(course):
                margins.append(z[label] - max(z[k] for k in range(3) if k != label))
                right = margins[-1] > 0
                forgotten += before and not right
                before, ever = right, ever or right
                losses.setdefault(epoch, []).append(np.log(sum(np.exp(z))) - z[label])
        assert areas[i] == pytest.approx(sum(margins) / len(margins))
        assert events[i] == (pytest.approx(forgotten / 3) if ever else np.inf)
        assert [epoch for epoch, _ in histories[i]] == sorted(losses)
        assert [loss for _, loss in histories[i]] == pytest.approx([np.mean(losses[e]) for e in sorted(losses)])


def test_an_image_learned_at_once_is_never_forgotten_and_one_never_learned_ranks_above_all() -> None:
    logits = np.array([[2, 0], [1, 0], [0, 1], [1, 0], [0, 1], [0, 3], [0, 3], [0, 3], [0, 3]], dtype=np.float32)
    image, epoch = np.array([0, 0, 1, 1, 1, 2, 2, 2, 2]), np.array([0, 1, 0, 1, 2, 0, 1, 2, 3])
    dynamics = Dynamics(("a", "b", "c"), ("x", "y"), image, np.zeros(9, int), epoch, logits)
    assert count_forgettings(dynamics, np.zeros(3, int)).tolist() == [0, 1, np.inf]
    assert measure_margin_areas(dynamics, np.zeros(3, int)) == pytest.approx([1.5, -1 / 3, -3])


# --- files --------------------------------------------------------------------------------------------------------


def test_dynamics_survive_their_file_and_equal_ones_give_equal_bytes(tmp_path: Path) -> None:
    dynamics = draw_dynamics()
    first, second = (dynamics.write_file(tmp_path / name) for name in ("a.npz", "b.npz"))
    assert first.read_bytes() == second.read_bytes()
    read = Dynamics.read_file(first)
    assert (read.names, read.classes) == (dynamics.names, dynamics.classes)
    for key in ("image", "seed", "epoch", "logits"):
        assert np.array_equal(getattr(read, key), getattr(dynamics, key))
    first.write_bytes(first.read_bytes()[:-40])
    with pytest.raises(RunError, match="is damaged"):
        Dynamics.read_file(first)


def test_joined_folds_give_each_image_its_own_rows(tmp_path: Path) -> None:
    """Folds hold other images, seeds the same ones in another order."""
    whole = draw_dynamics(images=6)
    parts = []
    for seed in range(3):
        for names in (whole.names[:2], whole.names[:1:-1]):
            one = order_dynamics(replace_rows(whole, whole.seed == seed), names)
            assert one is not None
            parts.append(one.write_file(tmp_path / f"{len(parts)}.npz"))
    joined = order_dynamics(join_dynamics(parts), whole.names)
    assert joined is not None
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert measure_margin_areas(joined, labels) == pytest.approx(measure_margin_areas(whole, labels))
    assert np.array_equal(count_forgettings(joined, labels), count_forgettings(whole, labels))
    assert order_dynamics(joined, (*whole.names, "unknown")) is None


def replace_rows(dynamics: Dynamics, rows: np.ndarray) -> Dynamics:
    columns = {key: getattr(dynamics, key)[rows] for key in ("image", "seed", "epoch", "logits")}
    return replace(dynamics, **columns)


# --- watching -----------------------------------------------------------------------------------------------------


def draw_points(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], count)
    return rng.normal(size=(count, 8)) + 1.5 * (labels == "a")[:, None] - 1.5 * (labels == "b")[:, None], labels


def read_weights(experiment: Any, splits: Any) -> list[dict[str, torch.Tensor]]:
    paths = [experiment.run.checkpoints / f"{s.name}.safetensors" for s in splits]
    return [read_checkpoint(path)["weights"] for path in paths]


def test_a_watched_head_learns_what_an_unwatched_one_learns(embed: Make) -> None:
    """To the last bit, with dropout, and so do the out-of-fold scores."""
    found = []
    for watch in ("transfer", "none"):
        experiment = embed(*draw_points(), *KNOBS, f"train.watch={watch}", name=watch)
        splits = experiment.splits
        train_folds(experiment)
        assert (experiment.run.predictions / "dynamics.npz").is_file() == (watch == "transfer")
        found.append((read_weights(experiment, splits), predict_outer(experiment)))
    (watched, scores), (unwatched, plain) = found
    assert scores.equals(plain)
    for one, other in zip(watched, unwatched, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_watched_network_learns_what_an_unwatched_one_learns(prepare: Make) -> None:
    """In phase finetune too, where tiles are read ahead and batch statistics could move."""
    found, rows = [], {}
    for watch in ("all", "transfer", "none"):
        experiment = prepare(f"train.watch={watch}", "model.norm=live", "train.transfer.epochs=3")
        splits = experiment.splits
        train_folds(replace(experiment, splits=splits[:1]))
        found.append(read_weights(experiment, splits[:1])[0])
        path = experiment.run.path / name_dynamics(splits[0].name)
        rows[watch] = int(Dynamics.read_file(path).epoch.max()) + 1 if path.is_file() else 0
    assert rows == {"all": 5, "transfer": 3, "none": 0}
    for other in found[1:]:
        assert all(torch.equal(value, other[name]) for name, value in found[0].items())


def test_the_watched_are_the_held_out_images_and_the_last_logits_those_of_the_network(embed: Make) -> None:
    """Without inner images the network of the last epoch is the one that is kept."""
    experiment = embed(*draw_points(), *KNOBS, "train.refit=false")
    splits = experiment.splits
    splits = tuple(replace(s, train=np.union1d(s.train, s.inner), inner=s.inner[:0]) for s in splits)
    train_folds(replace(experiment, splits=splits))
    for split in splits:
        dynamics = Dynamics.read_file(experiment.run.path / name_dynamics(split.name))
        assert dynamics.names == tuple(experiment.cohort.labelled[i].image for i in split.outer)
        with torch.inference_mode():
            expected = load_network(experiment, split).head(experiment.frozen[split.name].embeddings[0, split.outer])
        last = dynamics.logits[dynamics.epoch == 5]
        assert last == pytest.approx(expected.numpy(), abs=1e-6)
    whole = Dynamics.read_file(experiment.run.predictions / "dynamics.npz")
    assert len(whole.image) == 60 * 2 * 6  # images, seeds, epochs


def test_dynamics_are_the_same_after_a_cut(embed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    made = []
    for way, cuts in (("whole", ()), ("cut", (1, 2, 9, 3))):
        experiment = embed(*draw_points(), *KNOBS, name=way)
        for epochs in cuts:
            told = iter(range(epochs))

            def cut(stage: str, done: int, total: int, told: Any = told) -> None:
                if next(told, None) is None:
                    raise CutError

            with pytest.raises(CutError):
                train_folds(experiment, tell=cut)
        train_folds(experiment)
        made.append((experiment.run.predictions / "dynamics.npz").read_bytes())
    assert made[0] == made[1]


def test_labels_of_the_watched_change_nothing(embed: Make) -> None:
    """The file of a fold is the same whatever its held-out images are called."""
    points, labels = draw_points()
    experiment = embed(points, labels, *KNOBS)
    splits = experiment.splits
    other = list(experiment.cohort.labelled)
    for i in splits[0].outer:
        other[i] = replace(other[i], label={"a": "b", "b": "c", "c": "a"}[str(other[i].label)])
    files = []
    for name, samples in (("plain", experiment.cohort.labelled), ("swapped", tuple(other))):
        run = replace(experiment.run, path=experiment.run.path / name)
        run.path.mkdir()
        cohort = replace(experiment.cohort, labelled=samples)
        train_folds(replace(experiment, run=run, cohort=cohort, splits=splits[:1]))
        files.append((run.path / name_dynamics(splits[0].name)).read_bytes())
    assert files[0] == files[1]
