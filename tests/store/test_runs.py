"""Run folders: files that are whole or absent, folders built once, identities that refuse a mix-up."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import re
import stat
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from smalti import images, records, store
from smalti.errors import DataError, RunError
from smalti.recipe import load_recipe
from smalti.store import code
from smalti.types import Cohort, Sample


class Killed(BaseException):
    """Stands for a signal: no Exception."""


def list_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- atomic writes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_is_cut_short_leaves_the_old_file_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    store.write_atomic(tmp_path / "a.txt", "old")
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), die)
    for name in ("a.txt", "b.txt"):
        with pytest.raises(Killed):
            store.write_atomic(tmp_path / name, "new")
    assert list_names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("answer", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("request_name", ["fsync of folders", "fsync of all", "chmod"])
def test_a_file_system_that_does_not_know_a_request_is_written_to_all_the_same(
    answer: int, request_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, *_: object) -> None:
        if request_name != "fsync of folders" or stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(*((Path, "chmod") if request_name == "chmod" else (os, "fsync")), refuse)
    store.write_atomic(tmp_path / "a.txt", "old")
    assert store.write_atomic(tmp_path / "a.txt", "new").read_text(encoding="utf-8") == "new"
    assert list_names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("answer", [errno.EPERM, errno.EACCES, errno.EISDIR])
def test_a_folder_that_nobody_may_open_is_written_to_all_the_same(
    answer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Path, flags: int, *rest: int, **more: int) -> int:
        if Path(path) == tmp_path:
            raise OSError(answer, os.strerror(answer))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    assert store.write_atomic(tmp_path / "a.txt", "new").read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("answer", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("of_folders", [False, True])
def test_what_was_lost_on_the_way_to_the_disk_is_an_error(
    answer: int, of_folders: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) == of_folders:
            raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=re.escape(os.strerror(answer))):
        store.write_atomic(tmp_path / "a.txt", "new")


def test_a_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    assert store.write_atomic(path, b"\x00\xff") == path
    assert store.write_atomic(path, "größer").read_bytes() == "größer".encode()
    assert list_names(path.parent) == ["c.bin"]


def test_content_that_no_json_can_hold_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError)):
        store.write_json(tmp_path / "a.json", {("a", "tuple"): 1})
    assert list_names(tmp_path) == []


def test_json_comes_back_in_order_and_damage_is_named(tmp_path: Path) -> None:
    content = {"z": 1, "a": [1.5, None, "ä"], "path": Path("x/y")}
    path = store.write_json(tmp_path / "a.json", content)
    found = store.read_json(path)
    assert found == {"z": 1, "a": [1.5, None, "ä"], "path": "x/y"}
    assert list(found) == ["z", "a", "path"]
    path.write_text('{"z": 1, "a"', encoding="utf-8")
    with pytest.raises(RunError, match=r"a\.json is damaged.*Fix"):
        store.read_json(path)
    with pytest.raises(RunError, match=r"b\.json does not exist.*Fix"):
        store.read_json(tmp_path / "b.json")


# --- tables -------------------------------------------------------------------------------------------------------


def test_names_that_look_like_nothing_or_like_numbers_stay_text(tmp_path: Path) -> None:
    odd = ["None", "NA", "nan", "NaN", "null", "N/A", "", "007", "1e3", "True", 'a,"b"', "ä b"]
    table = pd.DataFrame({"image": odd, "case": odd[::-1], "label": odd, "score_None": np.arange(len(odd)) / 7})
    found = store.read_table(store.write_table(tmp_path / "t.csv", table))
    for column in ("image", "case", "label"):
        assert found[column].tolist() == table[column].tolist()
    assert list(found.columns) == list(table.columns)
    assert found["score_None"].dtype == np.float64


def test_single_precision_comes_back_bit_for_bit_and_missing_numbers_stay_missing(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random(3000, dtype=np.float32)
    scores[:4] = [0, 1, np.finfo(np.float32).tiny, np.nextafter(np.float32(1), np.float32(0))]
    losses = np.where(np.arange(3000) % 2, np.nan, 1.0)
    table = pd.DataFrame({"image": [str(i) for i in range(3000)], "score_a": scores, "inner_loss": losses})
    found = store.read_table(store.write_table(tmp_path / "t.csv", table))
    np.testing.assert_array_equal(found["score_a"].to_numpy(np.float32), scores)
    np.testing.assert_array_equal(found["inner_loss"], losses)


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    found = store.read_table(store.write_table(tmp_path / "t.csv", pd.DataFrame(columns=["image", "seed"])))
    assert (list(found.columns), len(found)) == (["image", "seed"], 0)
    with pytest.raises(RunError, match=r"gone\.csv does not exist"):
        store.read_table(tmp_path / "gone.csv")


# --- folders built once -------------------------------------------------------------------------------------------


def build_slowly(folder: Path, barrier: Barrier) -> None:
    def build(target: Path) -> None:
        barrier.wait(60)  # both are building before either has finished
        for i in range(20):
            (target / f"{i}.txt").write_text(str(os.getpid()), encoding="utf-8")

    store.build_once(folder, build)


@pytest.mark.slow
def test_two_processes_build_one_whole_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [context.Process(target=build_slowly, args=(tmp_path / "cache" / "x", barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [p.exitcode for p in both] == [0, 0]
    assert list_names(tmp_path / "cache") == ["x"]
    files = list((tmp_path / "cache" / "x").iterdir())
    assert len(files) == 20
    writers = {f.read_text(encoding="utf-8") for f in files}
    assert len(writers) == 1
    assert writers <= {str(p.pid) for p in both}


def test_a_folder_that_is_there_is_not_built_again(tmp_path: Path) -> None:
    def refuse(_: Path) -> None:
        raise AssertionError("built twice")

    store.build_once(tmp_path / "x", lambda f: (f / "a").touch())
    assert store.build_once(tmp_path / "x", refuse) == tmp_path / "x"


def test_a_build_that_is_cut_short_leaves_nothing(tmp_path: Path) -> None:
    def die(folder: Path) -> None:
        (folder / "half").touch()
        raise Killed

    with pytest.raises(Killed):
        store.build_once(tmp_path / "x", die)
    assert list_names(tmp_path) == []


# --- hashes -------------------------------------------------------------------------------------------------------


def test_a_file_hash_is_blake2b_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"tissue" * 99999)
    assert store.hash_file(tmp_path / "a") == hashlib.blake2b(b"tissue" * 99999, digest_size=12).hexdigest()


def test_texts_are_hashed_with_their_borders() -> None:
    assert len({store.hash_text(*p) for p in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("c", "ab"))}) == 5


def test_the_memo_spares_reading_and_notices_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other, memo = tmp_path / "a", tmp_path / "b", tmp_path / "memo.json"
    file.write_text("one", encoding="utf-8")
    other.write_text("one", encoding="utf-8")
    store.hash_files([file, other], memo=memo)
    assert not memo.exists(), "files written a moment ago may change within the tick of a clock"
    monkeypatch.setattr("smalti.store.hashes.TICK_NS", 0)
    first = store.hash_files([file, other], memo=memo)
    assert first[file] == first[other] == store.hash_file(file)

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    with monkeypatch.context() as patch:
        patch.setattr(images, "hash_image", refuse)
        assert store.hash_files([file, other], memo=memo) == first
    stamp = file.stat()
    file.write_text("two", encoding="utf-8")  # of the same size
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as a copy that keeps times does
    second = store.hash_files([file, other], memo=memo)
    assert second[file] == store.hash_file(file) != first[file]
    assert second[other] == first[other]


def test_a_file_that_is_gone_or_changes_while_it_is_hashed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.png"
    with pytest.raises(DataError, match=r"a\.png: does not exist"):
        store.hash_files([file], memo=tmp_path / "memo.json")
    file.write_bytes(b"one")
    read = images.hash_image
    monkeypatch.setattr(images, "hash_image", lambda path: (read(path), path.write_bytes(b"three"))[0])
    with pytest.raises(DataError, match=r"a\.png: changed while"):
        store.hash_files([file], memo=tmp_path / "memo.json")
    assert not (tmp_path / "memo.json").exists()


def test_the_code_hash_follows_what_a_module_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "drawn_package"
    (package / "deep").mkdir(parents=True)
    texts = {
        "__init__.py": "",
        "deep/__init__.py": "from .. import side\n",
        "deep/leaf.py": "raise RuntimeError('imported')\n",
        "side.py": "",
        "reader.py": "import json\n\n\ndef read():\n    from .deep import leaf\n    from .deep.leaf import x\n",
        "stranger.py": "",
        "errors.py": "",
        "words.py": "import drawn_package.errors\nfrom .errors import x\nfrom . import reader\n",
    }
    for name, text in texts.items():
        (package / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert code.follow_imports("drawn_package.words") == {
        f"drawn_package.{name}" for name in ("words", "reader", "deep.leaf")
    }
    assert code.follow_imports("drawn_package.deep") == {"drawn_package.deep", "drawn_package.side"}
    before = store.hash_code("drawn_package.words")
    assert store.hash_code("drawn_package.words") == before
    for name, changes in {"stranger.py": False, "errors.py": False, "deep/leaf.py": True}.items():
        (package / name).write_text("x = 1\n", encoding="utf-8")
        assert (store.hash_code("drawn_package.words") != before) is changes, name
    with pytest.raises(RunError, match="no source of module drawn_nowhere"):
        store.hash_code("drawn_nowhere")


def test_no_key_depends_on_what_only_shows() -> None:
    """Tiles must not be cut again because a page is worded anew, and must be where the opener of images changes."""
    tiles = {name.split(".")[1] for name in code.follow_imports("smalti.tile.store")}
    assert {"images", "tissue", "tile"} <= tiles
    assert not tiles & {"audit", "cohort", "report", "workflow", "cli", "models", "train"}
    assert not {name.split(".")[1] for name in code.follow_imports("smalti.train")} & {"report", "workflow", "cli"}
    assert "smalti.models.described.colour" in code.follow_imports("smalti.train.features")


def draw_cohort(root: Path, *, label: str = "a", case: str = "c", pixels: str = "p", mask: str = "m") -> Cohort:
    root.mkdir(parents=True, exist_ok=True)
    (root / "i").write_text(pixels, encoding="utf-8")
    (root / "m").write_text(mask, encoding="utf-8")
    one = Sample("i", root / "i", root / "m", label, case, "0")
    return Cohort(root, "table", (one,), (), (label,))


@pytest.mark.parametrize("change", ["label", "case", "pixels", "mask"])
def test_the_data_hash_sees_all_that_training_sees_and_not_the_place(change: str, tmp_path: Path) -> None:
    memo = tmp_path / "memo.json"
    plain = records.hash_cohort(draw_cohort(tmp_path / "a"), memo=memo)
    assert records.hash_cohort(draw_cohort(tmp_path / "elsewhere"), memo=memo) == plain
    changed = draw_cohort(tmp_path / "b", **{change: "other"})  # type: ignore[arg-type]
    assert records.hash_cohort(changed, memo=memo) != plain


# --- run folders --------------------------------------------------------------------------------------------------

IDENTITY = {"data": "d1", "decisions": "e1", "weights": "w1"}


def test_a_run_is_recorded_before_anything_else_and_continued(tmp_path: Path) -> None:
    recipe = load_recipe("quick", settings=["split.folds=3"])
    run = records.open_run(tmp_path / "r", recipe=recipe, identity=IDENTITY)
    assert load_recipe(run.recipe_path) == recipe
    record = store.read_json(run.path / "environment.json")
    assert record["libraries"]["numpy"] == np.__version__
    before = run.recipe_path.stat().st_mtime_ns, (run.path / "environment.json").read_bytes()
    records.log_event(run.path, "fold", seed=0, path=Path("x"))
    again = records.open_run(tmp_path / "r", recipe=recipe, identity=IDENTITY)
    records.log_event(again.path, "fold", seed=1)
    assert again == run
    assert (run.recipe_path.stat().st_mtime_ns, (run.path / "environment.json").read_bytes()) == before
    events = [json.loads(line) for line in (run.path / "events.log").read_text(encoding="utf-8").splitlines()]
    assert [(e["event"], e["seed"]) for e in events] == [("fold", 0), ("fold", 1)]


@pytest.mark.parametrize("name", [*IDENTITY, "recipe", "added"])
def test_another_experiment_is_refused_and_nothing_is_touched(name: str, tmp_path: Path) -> None:
    run = records.open_run(tmp_path / "r", recipe=load_recipe(), identity=IDENTITY)
    before = {p.name: p.read_bytes() for p in run.path.iterdir()}
    other = load_recipe(settings=["model.dropout=0.3"]) if name == "recipe" else load_recipe()
    identity = IDENTITY if name == "recipe" else {**IDENTITY, name: "other"}
    with pytest.raises(RunError, match=rf"another experiment \(different: {name}\).*Fix"):
        records.open_run(tmp_path / "r", recipe=other, identity=identity)
    assert {p.name: p.read_bytes() for p in run.path.iterdir()} == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(RunError, match="is not a run folder"):
        records.open_run(tmp_path, recipe=load_recipe(), identity=IDENTITY)
    assert list_names(tmp_path) == ["thesis.docx"]


def test_a_start_that_was_cut_short_can_be_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = store.write_atomic

    def die_at_recipe(path: Path, content: bytes | str) -> Path:
        if path.name == "recipe.yaml":
            raise Killed
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("smalti.records.run_folder.write_atomic", die_at_recipe)
        with pytest.raises(Killed):
            records.open_run(tmp_path / "r", recipe=load_recipe(), identity=IDENTITY)
    (tmp_path / "r" / ".recipe.yaml.x1").touch()  # what a kill without any clean-up leaves
    run = records.open_run(tmp_path / "r", recipe=load_recipe(), identity=IDENTITY)
    assert load_recipe(run.recipe_path) == load_recipe()


def test_a_table_of_cases_must_hold_the_images_of_the_folds(tmp_path: Path) -> None:
    run = records.RunFolder(tmp_path)
    assert run.read_cases() is None
    store.write_table(tmp_path / "cases.csv", pd.DataFrame({"image": ["a", "b"], "case": ["x", "x"]}))
    assert run.read_cases() == {"a": "x", "b": "x"}
    store.write_table(tmp_path / "folds.csv", pd.DataFrame({"image": ["a", "b", "c"]}))
    with pytest.raises(RunError, match=r"cases.csv lacks 1 images that .*folds.csv names, such as c. Fix: "):
        run.read_cases()
