"""Policies of augmentation: their file, what they draw, and searches that find what was planted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pages import without_pages
from smalti import workflow
from smalti.errors import PartError, RecipeError
from smalti.models import Head, Network, build_pooler
from smalti.recipe import load_recipe
from smalti.samples import (
    AUGMENTATIONS,
    OPERATIONS,
    BagBatches,
    Chain,
    Move,
    Operation,
    Policy,
    Stage,
    apply_transform,
    describe_policy,
    draw_chain,
    read_policy,
    write_policy,
)
from smalti.train.maskfeatures import MaskFeatureSource
from smalti.train.policies.exploring import _choose_evenly
from smalti.train.policies.probe import Probe, draw_operation, weigh_operations
from smalti.train.policies.searches import SEARCHES, Population
from smalti.tune.trial import TrialRunner
from textures import BARE

Make = Callable[..., Any]
KNOBS = ("train.transfer.epochs=4", "train.finetune.epochs=1", "train.refit=false", "train.watch=none")


def make_policy(**changes: Any) -> Policy:
    first = Stage(0.0, (Chain(1.0, (Move("solarize", 1.0, 0.9),)),))
    second = Stage(0.5, (Chain(3.0, ()), Chain(1.0, (Move("posterize", 0.5, 1.0), Move("rotate", 1.0, 0.5)))))
    return replace(Policy((first, second), {"by": "hand"}, frozenset({"ab", "cd"})), **changes)


def test_a_policy_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    write_policy(path, make_policy())
    found = read_policy(path)
    assert found == make_policy()
    built = AUGMENTATIONS.build("policy", file=str(path))
    assert isinstance(built, Policy)
    assert describe_policy(built) == describe_policy(found)


def test_a_stage_holds_from_its_start_on() -> None:
    policy = make_policy()
    tiles = np.full((1, 40, 16, 16, 3), 200, dtype=np.uint8)
    early = apply_transform(tiles, policy.at(0.49)(1, 40, 1.0, np.random.default_rng(0)))
    late = apply_transform(tiles, policy.at(0.5)(1, 40, 1.0, np.random.default_rng(0)))
    assert (early == 55).all()  # solarised: 255 - 200
    assert 0.4 < (late == 200).all(axis=(0, 2, 3, 4)).mean() < 0.95  # three of four draw the chain of none
    again = apply_transform(tiles, policy.at(0.5)(1, 40, 0.0, np.random.default_rng(0)))
    np.testing.assert_array_equal(late, again)  # the strength of the phase plays no part


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["stages"][0].update(start=0.1), "start at 0"),
        (lambda c: c["stages"][0]["chains"][0]["moves"][0].update(operation="melt", amount=2), "melt.*from 0 to 1"),
        (lambda c: c["stages"][1]["chains"][0].update(weight=-1), "weights must be 0 or more"),
        (lambda c: c["stages"][0].update(chains=[]), "no chain"),
        (lambda c: c["stages"][1].update(start=float("nan")), "start at 0"),
        (lambda c: c.pop("stages"), "'stages' is missing"),
        (lambda c: c["stages"][0]["chains"][0]["moves"][0].pop("chance"), "'chance' is missing"),
    ],
)
def test_a_bad_policy_says_all_that_is_wrong(change: Callable[[Any], Any], told: str, tmp_path: Path) -> None:
    content = describe_policy(make_policy())
    change(content)
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(PartError, match=told):
        read_policy(path)
    with pytest.raises(PartError, match="cannot be read"):
        read_policy(tmp_path / "none.yaml")


class Bright(torch.nn.Module):
    """A backbone that sees the mean of each channel and nothing else."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles.mean(dim=(2, 3)) * 8


class Drawn:
    """A store of tiles that are dark or light."""

    def __init__(self, count: int, *, tiles: int = 2) -> None:
        rng = np.random.default_rng(count)
        self.targets = np.arange(count) % 2
        levels = np.where(self.targets.repeat(tiles), 170, 90)[:, None, None, None]
        self.stored = (levels + rng.integers(-20, 20, (count * tiles, 24, 24, 3))).astype(np.uint8)
        self.tiles = tiles

    def rows(self, bag: int) -> range:
        return range(bag * self.tiles, (bag + 1) * self.tiles)

    def read_tiles(self, rows: np.ndarray, *, masked: bool) -> np.ndarray:
        return self.stored[rows]

    def find_places(self, bag: int) -> np.ndarray:
        return np.zeros((self.tiles, 2), dtype=np.float32)


@pytest.fixture(scope="module")
def prepare(prepare: Make) -> Make:
    """An experiment is only read here, so that one does for all."""
    return cache(prepare)


def make_probe(count: int, prepare: Make) -> Probe:
    """Images of two classes that differ in brightness, and a head that knows it."""
    experiment = prepare("train.finetune.epochs=0")
    head = Head(3, 2, dropout=0.0)
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3]))
        head.linear.bias.zero_()
    backbone = replace(experiment.backbone, module=Bright(), features=3)
    network = Network(backbone, build_pooler(experiment.recipe.model, features=3, classes=2), head)
    store: Any = Drawn(count)
    spec = replace(experiment.backbone.spec, mean=(0.5,) * 3, std=(0.25,) * 3, fixed=False)
    batches = BagBatches(store, np.arange(count), store.targets, count, 2)
    batch = next(batches.draw(np.random.default_rng(0)))
    return Probe(network, batch, 2, spec, experiment.fabric, MaskFeatureSource.open(store, network.reader))


def test_an_operation_that_takes_the_class_away_is_told_from_those_that_do_not(prepare: Make) -> None:
    probe = make_probe(40, prepare)
    cases = [f"c{i // 2}" for i in range(40)]
    effects = {e.operation: e for e in weigh_operations(probe, OPERATIONS, amount=0.6, cases=cases)}
    # The class is the brightness: equalising takes it away, turning and blurring leave it.
    assert effects["equalize"].destroys
    assert effects["equalize"].fall == pytest.approx(0.5, abs=0.1)
    assert not any(effects[name].destroys for name in ("defocus", "smear", "warp", "compress", "sharpness", "shear_x"))
    few = weigh_operations(probe, OPERATIONS, amount=0.6, cases=["a", "b"] * 20)
    assert not any(effect.destroys for effect in few)  # two cases tell nothing


KINDS = ("equalize", "solarize", "defocus", "sharpness", "smear")  # the first two take the class away


def choose(*names: str) -> dict[str, Operation]:
    return {name: OPERATIONS[name] for name in names}


def test_density_matching_keeps_what_leaves_the_class(prepare: Make) -> None:
    training, inner = make_probe(24, prepare), make_probe(16, prepare)
    found = [SEARCHES.build("density", trials=60, kept=5)(training, inner, choose(*KINDS), 3) for _ in range(2)]
    assert found[0] == found[1]
    chains = found[0].stages[0].chains
    assert len(chains) == 5
    assert {move.operation for chain in chains for move in chain.moves} <= {"defocus", "sharpness", "smear"}
    assert len({tuple(m.operation for m in chain.moves) for chain in chains}) == 5
    assert all(m.chance >= 0.2 and m.amount >= 0.1 for chain in chains for m in chain.moves)
    losses = found[0].found["inner_loss_kept"]
    # What is written down is what the probe measures.
    worst = inner.measure(inner.look(partial(draw_chain, chains[-1].moves)))
    assert worst == pytest.approx(losses[-1], abs=1e-4)
    assert losses == sorted(losses)


def test_a_population_is_a_line_of_stages_and_can_be_repeated(prepare: Make) -> None:
    training, inner = make_probe(24, prepare), make_probe(16, prepare)
    torch.nn.init.zeros_(training.network.head.linear.weight)  # there is something left to learn
    search = SEARCHES.build("population", members=6, stages=4, rate=0.05)
    found = [search(training, inner, choose(*KINDS), 3) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].found["inner_loss_end"] < found[0].found["inner_loss_start"]
    assert [stage.start for stage in found[0].stages] == [0, 0.25, 0.5, 0.75]
    assert all(stage.chains[0] == Chain(1.0, ()) for stage in found[0].stages)


def make_population(prepare: Make, *names: str) -> Population:
    return Population(make_probe(24, prepare), make_probe(16, prepare), choose(*names), 0, 0.05)


def test_a_member_draws_by_its_odds_and_sees_that_operation_at_that_level(prepare: Make) -> None:
    population = make_population(prepare, "defocus", "solarize")
    member = population.draw(1)[0]
    member.odds, member.levels = np.array([0.0, 3.0]), np.array([1, 2])
    drawn = population.choose(member, (400, 10))
    # The tile as it is, three levels of the first operation, three of the second.
    assert set(np.unique(drawn)) == {0, 5}
    assert (drawn == 5).mean() == pytest.approx(3 / 4, abs=0.03)
    seen = population.training.embed(partial(draw_operation, OPERATIONS["solarize"], 2 / 3))
    torch.testing.assert_close(population.bank[5], seen)
    torch.testing.assert_close(population.bank[0], population.training.embed())
    chains = population.describe(member.odds, member.levels)
    assert chains == (Chain(1.0, ()), Chain(3.0, (Move("solarize", 1.0, pytest.approx(2 / 3)),)))


def test_the_worst_quarter_copies_the_best_and_goes_its_own_way(prepare: Make) -> None:
    population = make_population(prepare, "defocus", "solarize", "smear")
    crowd = population.draw(8)
    for place, member in enumerate(crowd):
        member.loss, member.odds = float(place), np.full(3, 0.5)
        with torch.no_grad():
            member.reader.head.linear.bias.fill_(place)
        member.stages.append((member.odds, member.levels))
    renewed = population.renew(crowd[::-1])
    assert [float(m.reader.head.linear.bias.detach()[0]) for m in renewed] == [0, 1, 2, 3, 4, 5, 0, 1]
    assert renewed[6].stages[0][0] is not renewed[6].odds
    assert (renewed[6].odds != renewed[0].odds).any()
    np.testing.assert_array_equal(renewed[6].stages[0][0], renewed[0].stages[0][0])
    renewed[6].reader.head.linear.bias.data.fill_(9)
    assert float(renewed[0].reader.head.linear.bias.detach()[0]) == 0
    assert all(0 <= o <= 1 for o in renewed[6].odds)
    assert set(renewed[6].levels.tolist()) <= {1, 2, 3}


def test_a_search_says_no_line_for_every_trial(prepare: Make, capfd: pytest.CaptureFixture[str]) -> None:
    probe = make_probe(8, prepare)
    capfd.readouterr()
    SEARCHES.build("density", trials=3)(probe, probe, choose("smear"), 0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("search", "total"), [("density", 4), ("population", 6)])
def test_a_search_tells_how_far_it_is(prepare: Make, search: str, total: int) -> None:
    probe, heard = make_probe(8, prepare), []
    options = {"trials": 4} if search == "density" else {"members": 2, "stages": 1}
    find = SEARCHES.build(search, **options)
    find(probe, probe, choose("smear", "defocus"), 0, progress=lambda done, of: heard.append((done, of)))
    assert heard == [(k + 1, total) for k in range(total)]


def test_images_of_a_probe_are_even_over_the_classes() -> None:
    targets = np.array([0] * 90 + [1] * 9 + [2])
    chosen = _choose_evenly(targets, most=20, rng=np.random.default_rng(0))
    assert np.bincount(targets[chosen]).tolist() == [10, 9, 1]
    assert len(set(chosen.tolist())) == 20


@pytest.mark.slow
def test_a_policy_is_learned_in_each_fold_and_must_not_score_with_who_chose_it(challenge: Path, tmp_path: Path) -> None:
    search = ["train.finetune.policy_search=density", "train.finetune.policy_options=[trials=4,kept=2]"]
    settings = [*BARE, *KNOBS, *search]
    heard: list[tuple[str, int, int]] = []
    listener = workflow.Listener(tell=lambda *said: heard.append(said))
    result = workflow.run(challenge, "default", settings=settings, runs=tmp_path, name="learned", listener=listener)
    assert [said[1:] for said in heard if said[0] == "fold1-seed0 policy"] == [(k, 4) for k in (1, 2, 3, 4)]
    assert sum(said[0] == "fold1-seed0 operations" for said in heard) == len(OPERATIONS)
    files = sorted((result.path / "policies").glob("*.yaml"))
    assert [f.stem for f in files] == ["fold0-seed0", "fold1-seed0"]
    assert all(1 <= len(read_policy(f).chains) <= 2 for f in files)
    folds = pd.read_csv(result.path / "folds.csv").query("fold == 0 and seed == 0")
    learned_from = folds[folds.role != "outer"].image
    assert set(folds.role) == {"train", "inner", "outer"}
    hashes = {hashlib.blake2b((challenge / n).read_bytes(), digest_size=12).hexdigest() for n in learned_from}
    assert read_policy(files[0]).seen == hashes
    table = pd.read_csv(result.path / "operations.csv")
    assert set(table.operation) == set(OPERATIONS)
    assert (result.path / "figures" / "augmentation.png").is_file()
    page = (result.path / "report.html").read_text()
    assert "a policy learned in each fold by density" in page
    assert "Policy of fold0-seed0" in page
    plain = [*BARE, *KNOBS, "train.finetune.augmentation=policy"]
    reused = [*plain, f"train.finetune.augmentation_options=[file={files[0]}]"]
    with pytest.raises(RecipeError, match="what chooses never scores"):
        workflow.run(challenge, "default", settings=reused, runs=tmp_path, name="reused")
    free = tmp_path / "free.yaml"
    write_policy(free, replace(read_policy(files[0]), seen=frozenset()))
    allowed = [*plain, f"train.finetune.augmentation_options=[file={free}]"]
    with without_pages():
        again = workflow.run(challenge, "default", settings=allowed, runs=tmp_path, name="free")
    assert 0 <= again.scores.metrics["macro_f1"].value <= 1


@pytest.mark.slow
def test_inside_a_search_too_a_policy_must_not_score_with_who_chose_it(challenge: Path, tmp_path: Path) -> None:
    """What was prepared for another recipe with the same tiles and features says nothing of this one's policy."""
    plain = load_recipe(settings=[*BARE, *KNOBS])
    project = workflow.Project(challenge, tmp_path)
    bench = TrialRunner(project, workflow.inspect_ground(project, plain), tmp_path / "search", plain)
    experiment = bench.prepare(plain)
    path = tmp_path / "policy.yaml"
    write_policy(path, make_policy(seen=frozenset(experiment.digests.values())))
    knobs = ["train.finetune.augmentation=policy", f"train.finetune.augmentation_options=[file={path}]"]
    leak = load_recipe(settings=[*BARE, *KNOBS, *knobs])
    with pytest.raises(RecipeError, match="what chooses never scores"):
        bench.prepare(leak)
    broken = load_recipe(settings=[*BARE, *KNOBS, "train.transfer.loss=focal", "train.transfer.loss_options=[k=1]"])
    with pytest.raises(RecipeError, match="what chooses never scores") as told:
        bench.check_choices([plain, leak, broken])
    assert "loss 'focal'" in str(told.value)  # all that is wrong at once
    assert len(bench.prepared) == 1


def test_a_search_without_a_network_is_refused() -> None:

    with pytest.raises(RecipeError, match="no search is asked for"):
        load_recipe(settings=["train.finetune.policy_options=[trials=3]"])
    with pytest.raises(RecipeError, match="phase transfer"):
        load_recipe(settings=["train.transfer.epochs=0", "train.finetune.policy_search=density"])
