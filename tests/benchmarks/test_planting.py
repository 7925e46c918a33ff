"""The planted test sets of the benchmarks: same seed, same bytes; the truth is what was done, and nothing else was."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smalti.cohort import read_cohort
from smalti.images import read_image
from textures import draw_texture


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table cohort of 32 small images with masks."""
    root = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    rows = [("image", "mask", "label", "case")]
    for name in ("images", "masks"):
        (root / name).mkdir()
    for number in range(32):
        pixels = draw_texture("AB"[number % 2], rng)
        name, mask = f"images/i{number}.png", f"masks/i{number}.png"
        Image.fromarray(pixels).save(root / name)
        Image.fromarray(255 * (rng.random(pixels.shape[:2]) < 0.5).astype(np.uint8)).save(root / mask)
        rows.append((name, mask, "AB"[number % 2], f"c{number // 2}"))
    with (root / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


@pytest.fixture
def planting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, which lies among the benchmarks."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import planting

    return planting


def _hash_files(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


@pytest.mark.slow
def test_a_seed_decides_every_byte(planting: Any, source: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in "abc")
    assert planting.plant(source, first, seed=1) == planting.plant(source, second, seed=1)
    planting.plant(source, third, seed=2)
    assert _hash_files(first) == _hash_files(second) != _hash_files(third)


@pytest.mark.slow
def test_the_truth_is_what_was_done(planting: Any, source: Path, tmp_path: Path) -> None:
    truth = planting.plant(source, tmp_path / "planted", seed=0)
    old, new = _hash_files(source), _hash_files(tmp_path / "planted")
    changed = {row.image for row in truth if row.detail.endswith(" in place")}
    assert changed == {name for name in old if name.startswith("images/") and old[name] != new[name]}
    assert {name for name in new.keys() - old.keys() if name.startswith("images/")} == {
        row.image for row in truth if "added_" in row.image
    }
    before = {s.image: s for s in read_cohort(source).labelled}
    after = {s.image: s for s in read_cohort(tmp_path / "planted").labelled}
    wrong = {row.image: row.detail for row in truth if row.kind == "wrong-label"}
    assert wrong == {name: s.label for name, s in before.items() if after[name].label != s.label}
    sources = [row.source for row in truth if row.source]
    assert len(set(sources)) == len(sources), "a source of two copies would make pairs ambiguous"
    assert not set(sources) & (wrong.keys() | changed)


@pytest.mark.slow
def test_copies_are_what_their_rows_say(planting: Any, source: Path, tmp_path: Path) -> None:
    root = tmp_path / "planted"
    truth = planting.plant(source, root, seed=3)
    samples = {s.image: s for s in read_cohort(root).labelled}
    for row in truth:
        if not row.source:
            continue
        one, other = samples[row.image], samples[row.source]
        assert one.case != other.case
        assert (one.label != other.label) == (row.kind == "contradicting")
        if row.way == "same-bytes":
            assert one.path.read_bytes() == other.path.read_bytes()
        elif row.way == "same-pixels":
            assert np.array_equal(read_image(one.path), read_image(other.path))
        elif row.way == "turn-90":
            assert np.array_equal(read_image(one.path), np.rot90(read_image(other.path)))
        elif row.way.startswith("crop"):
            shares = np.array(read_image(one.path).shape[:2]) / read_image(other.path).shape[:2]
            assert ((shares > 0.78) & (shares < 1)).all()


def test_scores_agree_with_counting_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from scoring import Flags, Planted, score_images, score_labels, score_pairs

    truth = [
        Planted("f.png", "foreign", "cat"),
        Planted("p.png", "painted", "blobs hue 10 of s.png"),
        Planted("d.png", "near-duplicate", "flip of s.png"),
        Planted("e.png", "exact-duplicate", "same-bytes of t.png"),
        Planted("t.png", "wrong-label", "B"),
    ]
    near = {frozenset({"d.png", "p.png"}), frozenset({"p.png", "s.png"}), frozenset({"a.png", "b.png"})}
    flags = Flags({"foreign": {"f.png", "p.png", "a.png"}, "contradicting-labels": {"t.png"}}, {"near-duplicate": near})
    # One of the three is neither foreign nor painted; d and s are joined through p; a and b are strangers.
    assert score_images(truth, flags, kind="foreign", codes=("foreign",)) == (1, 1, 1, 3, 1)
    assert score_pairs(truth, flags, kind="near-duplicate", codes=("near-duplicate",)) == (2, 2, 2, 3, 1)
    assert score_pairs(truth, flags, kind="exact-duplicate", codes=("exact-duplicate",)) == (1, 0, 0, 0, 0)
    # The copy of a wrongly labelled image contradicts it; naming the image itself is right, but the copy is not found.
    assert score_labels(truth, flags, kind="contradicting", codes=("contradicting-labels",)) == (1, 0, 0, 1, 0)
