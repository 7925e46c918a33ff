"""Bags of features that a model is asked about: which it refuses, and why."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from smalti.errors import DataError
from smalti.model.taught_bags import BagLook, EncoderError, describe_bags, hold_features, judge_bag, look_at_bag
from smalti.records import FeaturePopulation, GivenRecord
from smalti.types import Sample

GIVEN = GivenRecord(size=4, encoder="uni", columns=(), delimiter=",")


def write_bag(path: Path, values: np.ndarray, encoder: str = "uni") -> Sample:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values)
        file.attrs["encoder"] = encoder
    return Sample(path.name, path, None, None, path.name, path.name)


def test_a_bag_is_held_from_a_file_and_from_an_array(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float16)
    store = hold_features(write_bag(tmp_path / "a.h5", values), GIVEN)
    assert np.allclose(look_at_bag(store).mean, values.mean(axis=0, dtype=np.float64))
    assert len(hold_features(("x", values), GIVEN)) == 9
    assert len(hold_features(("x", values[0]), GIVEN)) == 1  # one vector is a bag of one tile


def test_other_encoders_and_what_is_no_bag_are_refused(tmp_path: Path) -> None:
    values = np.zeros((3, 4), dtype=np.float32)
    with pytest.raises(EncoderError, match="encoder conch; the model learned from 4 of encoder uni"):
        hold_features(write_bag(tmp_path / "b.h5", values, "conch"), GIVEN)
    with pytest.raises(EncoderError, match="5 numbers a tile"):
        hold_features(("x", np.zeros((3, 5), dtype=np.float32)), GIVEN)
    with pytest.raises(DataError, match="no tile"):
        hold_features(("x", values[:0]), GIVEN)
    with pytest.raises(DataError, match="no bag"):
        hold_features(("x", np.zeros((2, 4), dtype=np.uint8)), GIVEN)
    values[1, 2] = np.nan
    with pytest.raises(DataError, match=r"NaN or infinite numbers in 1 tile\(s\)"):
        look_at_bag(hold_features(("x", values), GIVEN))


def test_what_lies_far_from_training_is_foreign_and_what_is_alike_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.integers(-3, 4, 30)
    mixing = rng.normal(size=(5, 30))

    def draw(count: int) -> np.ndarray:
        return (rng.normal(size=(count, 5)) @ mixing + 0.3 * rng.normal(size=(count, 30))) * scale

    taught = draw(120)
    population = describe_bags(taught, [1] * 120, cases=[str(i // 2) for i in range(120)])
    population.write(tmp_path)
    read = FeaturePopulation.read(tmp_path)
    assert read.facts == population.facts

    def judge(means: np.ndarray) -> np.ndarray:
        kept = [judge_bag(read, BagLook(m, 1), scores=np.array([0.9, 0.1]), agreement=1.0)[0] for m in means]
        return np.array([reason.startswith("foreign") for reason in kept])

    assert judge(draw(200)).mean() <= 0.04
    assert judge(draw(50)[:, rng.permutation(30)]).mean() >= 0.9
