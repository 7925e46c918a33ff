"""The review page beside a run: what the run knows is told, what tells a sealed label is not; the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from sessions import SCRIPT, draw_cohort, enter, open_session
from smalti import review
from smalti.audit import Audit, write_findings
from smalti.cli import app
from smalti.errors import RunError, SmaltiError
from smalti.records import Trace, Traces
from smalti.review import ReviewSession, read_insight
from smalti.types import Cohort, Finding
from smalti.web.address import take_address


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return draw_cohort(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    trace = Trace(
        image="a.png",
        loss=1.5,
        scores={SCRIPT: 0.2, "z": 0.8},
        history=((1, 2.0), (2, 1.5)),
        alike=("b.png", "gone.png"),
        unlike=("c.png",),
    )
    Traces(images=(trace,)).write(run)
    rows = [f"{seed},{fold},{image},{image},{role},x" for seed, fold, image, role in
            ((0, 1, "a.png", "outer"), (0, 0, "a.png", "train"), (1, 2, "a.png", "outer"))]  # fmt: skip
    (run / "folds.csv").write_text("\n".join(["seed,fold,image,case,role,label", *rows]) + "\n")
    suspect = Finding("label-suspect", "warning", ("a.png",), 2.0, "m", "relabel", {"label": "z"})
    write_findings(run / "suspects.json", Audit((suspect,), {}))
    (run / "heatmaps").mkdir()
    Image.new("RGB", (8, 6), "red").save(run / "heatmaps" / "a.png")
    return run


def open_with_run(cohort: Cohort, run: Path) -> ReviewSession:
    return open_session(cohort, insight=read_insight(run, images=[s.image for s in cohort.samples]))


def test_what_a_run_knows_is_told(cohort: Cohort, run: Path) -> None:
    client = enter(open_with_run(cohort, run))
    card = client.get("/state").json()["cards"][0]
    assert (card["image"], card["loss"], card["fold"]) == ("a.png", 1.5, 1)
    told = client.get("/card?image=a.png").json()
    assert told["trace"]["scores"] == {SCRIPT: 0.2, "z": 0.8}
    assert (told["alike"], told["unlike"]) == (["b.png"], ["c.png"])
    assert (told["findings"][0]["proposal"], told["findings"][0]["label"]) == ("relabel", "z")
    assert client.get("/heatmap?image=a.png").headers["content-type"] == "image/jpeg"
    assert client.get("/heatmap?image=b.png").status_code == 404


def test_what_tells_a_sealed_label_is_not_told(cohort: Cohort, run: Path) -> None:
    sealed = replace(cohort, labelled=cohort.labelled[1:], sealed=cohort.labelled[:1])
    client = enter(open_with_run(sealed, run))
    card = next(c for c in client.get("/state").json()["cards"] if c["image"] == "a.png")
    assert (card["label"], card["loss"], card["findings"]) == (None, None, [])
    assert client.get("/card?image=a.png").json()["trace"] is None


def test_a_folder_that_is_no_run_of_this_data_is_refused(cohort: Cohort, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither"):
        read_insight(tmp_path, images=["a.png"])
    with pytest.raises(RunError, match="other images"):
        read_insight(run, images=["b.png"])


# --- the address --------------------------------------------------------------------------------------------------


def test_a_restart_is_found_at_the_same_address(tmp_path: Path) -> None:
    path = tmp_path / ".address"
    first, listener = take_address(path)
    assert path.stat().st_mode & 0o777 == 0o600
    beside, second = take_address(path)  # the port is taken, so another one
    assert beside.port != first.port
    second.close()
    with pytest.raises(SmaltiError, match="--port 0"):
        take_address(path, port=first.port)
    listener.close()
    again, listener = take_address(path)
    listener.close()
    assert again == first
    path.chmod(0o644)  # readable by others: no secret any more
    other, listener = take_address(path)
    listener.close()
    assert other.token != first.token


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_opens_a_session_of_folder_run_and_reader(
    challenge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = "train_data/img_0000.png"
    Traces(images=(Trace(image=image, loss=0.5, scores={}),)).write(tmp_path / "run")
    opened: list[tuple[ReviewSession, Path, int]] = []

    def serve(session: ReviewSession, *, address_path: Path, port: int, say: Any) -> None:
        say("http://127.0.0.1/")
        session.record([image], "keep", entry="1")
        opened.append((session, address_path, port))

    monkeypatch.setattr(review, "serve", serve)
    words = ["review", str(challenge), "--runs", str(tmp_path), "--run", str(tmp_path / "run"), "--who", "reader",
             "--port", "8000", "--set", "audit.checks=[]"]  # fmt: skip
    done = CliRunner().invoke(app, words)

    assert done.exit_code == 0, done.output
    assert "1 decided images" in done.output
    [(session, address_path, port)] = opened
    assert (session.who, port, address_path.parent) == ("reader", 8000, tmp_path)
    assert session.cards[image].trace == Trace(image=image, loss=0.5, scores={})
