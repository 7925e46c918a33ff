"""The review page: no decision is lost or doubled, undo goes back to undecided."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sessions import draw_cohort, enter, find_decisions, name_cohort, open_session, send
from smalti.audit import append_decisions, hold_decisions, read_decisions, settle_decisions
from smalti.audit.decisions import accept_proposals
from smalti.errors import DataError, FaultError
from smalti.faults import explained
from smalti.images import read_region
from smalti.types import Cohort, Decision, Finding


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return draw_cohort(tmp_path / "data")


def list_rows(cohort: Cohort) -> list[tuple[str, str, str]]:
    return [(row.image, row.action, row.label) for row in read_decisions(find_decisions(cohort))]


# --- decisions ----------------------------------------------------------------------------------------------------


def test_undo_goes_back_step_by_step_to_undecided(cohort: Cohort) -> None:
    session = open_session(cohort)
    session.record(["a.png"], "relabel", label="z", entry="1")
    session.record(["a.png"], "exclude", entry="2")
    session.record(["a.png"], "keep", entry="3")
    wanted = [("exclude", ""), ("relabel", "z"), None]
    for i, before in zip((3, 2, 1), wanted, strict=True):
        session = open_session(cohort)  # as after a restart
        for _ in range(2):  # the answer was lost, so the page asks again
            session.undo(str(i), entry=f"u{i}")
            made = session.decided().get("a.png")
            assert (made and (made.action, made.label)) == before
    assert len(list_rows(cohort)) == 6
    assert list_rows(cohort)[-1] == ("a.png", "reset", "")
    session.record(["a.png"], "exclude", entry="4")
    session.undo("4", entry="u4")
    assert not session.decided()


def test_a_label_that_belongs_to_the_case_is_changed_for_the_whole_case_in_one_act(tmp_path: Path) -> None:
    cohort = name_cohort(tmp_path / "data", 6)
    cohort = replace(cohort, labelled=tuple(replace(s, case="pq"[i % 2]) for i, s in enumerate(cohort.labelled)))
    session = open_session(cohort)
    session.record(["2.png"], "exclude", entry="1")
    session.record(["0.png"], "relabel", label="b", entry="2")
    assert {i: d.action for i, d in session.decided().items()} == dict(
        zip(("0.png", "2.png", "4.png"), ("relabel", "exclude", "relabel"), strict=True)
    )
    before = list_rows(cohort)
    for refused in (["4.png"], ["2.png"]):  # either would leave two labels in the case
        with pytest.raises(DataError, match="a label belongs to the whole case"):
            session.record(refused, "keep", entry=f"keep {refused}")
    assert list_rows(cohort) == before
    session.undo("2", entry="3")
    assert {i: d.action for i, d in session.decided().items()} == {"2.png": "exclude"}


def test_an_undecided_image_is_undecided_for_everybody(cohort: Cohort) -> None:
    session = open_session(cohort)
    session.record(["a.png"], "exclude", entry="1")
    session.undo("1", entry="2")
    rows = read_decisions(find_decisions(cohort))
    assert settle_decisions(rows) == {}
    finding = Finding("blank", "warning", ("a.png",), 1.0, "m", "exclude")
    assert [d.image for d in accept_proposals([finding], ["blank"], decided=rows)] == ["a.png"]


def test_what_was_decided_again_elsewhere_is_not_undone(cohort: Cohort) -> None:
    session, other = open_session(cohort), open_session(cohort)
    session.record(["a.png", "b.png"], "exclude", entry="bulk")
    other.record(["a.png"], "keep", entry="1")
    session.undo("bulk", entry="2")
    assert {image: d.action for image, d in session.decided().items()} == {"a.png": "keep"}
    with pytest.raises(DataError, match="decided again"):
        session.undo("bulk", entry="3")
    with pytest.raises(DataError, match="nothing was undone"):
        session.undo("never", entry="4")


def test_a_bulk_act_is_one_write_and_one_undo(tmp_path: Path) -> None:
    cohort = name_cohort(tmp_path / "data", 50)
    names = [s.image for s in cohort.samples]
    client = enter(open_session(cohort))
    assert send(client, images=[*names, "no.png"], action="exclude").status_code == 400
    assert not list_rows(cohort)
    for _ in range(2):
        answer = send(client, images=names, action="exclude", entry="bulk").json()
    assert answer["added"] is False
    assert [row[0] for row in list_rows(cohort)] == names
    assert send(client, "/undo", undone="bulk", entry="u").json()["added"] is True
    assert not settle_decisions(read_decisions(find_decisions(cohort)))


@pytest.mark.slow
def test_killed_servers_and_retries_keep_each_decision_once(tmp_path: Path) -> None:
    cohort = name_cohort(tmp_path / "data", 200)
    draw = random.Random(0)
    client = enter(open_session(cohort))
    wanted = []
    for i, sample in enumerate(cohort.samples):
        action = draw.choice(["keep", "exclude"])
        wanted.append((sample.image, action, ""))
        for _ in range(draw.randint(1, 3)):  # the answer was lost, so the page asks again
            if draw.random() < 0.2:
                client = enter(open_session(cohort))
            assert send(client, images=[sample.image], action=action, entry=f"t-{i}").status_code == 200
            assert list_rows(cohort)[-1] == wanted[-1]
    assert list_rows(cohort) == wanted


def test_a_late_retry_does_not_go_before_what_came_later(cohort: Cohort) -> None:
    open_session(cohort).record(["a.png"], "keep", entry="one-1")
    open_session(cohort).record(["a.png"], "exclude", entry="other-1")
    assert not open_session(cohort).record(["a.png"], "keep", entry="one-1")
    assert open_session(cohort).decided()["a.png"].action == "exclude"


def _decide_all(root: Path, part: list[str]) -> None:
    session = open_session(name_cohort(root, 60))
    for name in part:
        session.record([name], "exclude", entry=f"p-{name.removesuffix('.png')}")


@pytest.mark.slow
def test_two_processes_and_a_rule_lose_nothing(tmp_path: Path) -> None:
    cohort = name_cohort(tmp_path / "data", 60)
    names = [s.image for s in cohort.samples]
    path = find_decisions(cohort)
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_decide_all, args=(cohort.root, names[i::2])) for i in range(2)]
    for worker in workers:
        worker.start()
    for i in range(40):
        append_decisions(path, [Decision("rule", "keep", f"{i}", "rule", "")])
    for worker in workers:
        worker.join()
    rows = read_decisions(path)
    assert sorted(row.image for row in rows if row.image != "rule") == sorted(names)
    assert [row.reason for row in rows if row.image == "rule"] == [str(i) for i in range(40)]


def test_a_thread_waits_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    late = threading.Thread(target=append_decisions, args=(path, [Decision("late", "keep", "", "", "")]))
    with hold_decisions(path):
        late.start()
        append_decisions(path, [Decision("early", "keep", "", "", "")])
        late.join(0.2)
        assert late.is_alive()
    late.join()
    assert [row.image for row in read_decisions(path)] == ["early", "late"]


@pytest.mark.parametrize("answer", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_the_file_system_keeps_no_locks_a_file_is_the_lock(
    answer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / ".decisions.csv.lock").touch()  # of a time when the folder lay on another disk
    test_a_thread_waits_for_the_other(tmp_path)
    assert not (tmp_path / ".decisions.csv.held").exists()
    (tmp_path / ".other.csv.held").touch()  # of a process that was killed, or of another machine
    monkeypatch.setattr("smalti.audit.decisions.LOCK_WAIT_S", 0)
    with pytest.raises(FaultError, match=r"\.other\.csv\.held .*delete that file"), explained():
        append_decisions(tmp_path / "other.csv", [])


@pytest.mark.parametrize("before", [
    "image,action\r\na.png,keep\r\n",  # a spreadsheet
    "\ufeffimage,action,label,reason,who,when,finding\nb.png,exclude,,torn,,,",  # an older smalti, no last line end
    'image,action,label,reason,who,when,finding,entry\na.png,keep,,"two\nlines, and a ""word""",,,,\n',
    'image,action,label,reason,who,when,finding,entry\na.png,keep,,"left open,,,,\n',
])  # fmt: skip
def test_rows_by_other_hands_stay_and_new_ones_follow(cohort: Cohort, before: str) -> None:
    path = find_decisions(cohort)
    path.write_bytes(before.encode())
    old = read_decisions(path)
    session = open_session(cohort)
    session.record(["c.png"], "exclude", entry="1")
    session.record(["c.png"], "keep", entry="2")
    rows = read_decisions(path)
    assert rows[: len(old)] == old
    assert [(row.image, row.action) for row in rows[len(old) :]] == [("c.png", "exclude"), ("c.png", "keep")]
    assert session.decided() == settle_decisions(rows)


def test_news_tells_what_was_added_and_all_after_other_hands(cohort: Cohort) -> None:
    session = open_session(cohort)
    session.record(["a.png"], "keep", entry="1")
    at = session.news("").at
    assert not session.news(at).decisions
    open_session(cohort).record(["b.png"], "exclude", entry="2")
    news = session.news(at)
    assert (news.all, list(news.decisions)) == (False, ["b.png"])
    session.undo("2", entry="3")
    assert session.news(news.at).decisions == {"b.png": None}
    find_decisions(cohort).write_text("image,action\nc.png,keep\n")
    assert session.news(news.at).all
    assert list(session.decided()) == ["c.png"]
    find_decisions(cohort).unlink()
    assert not session.decided()
    assert open_session(cohort).news(at).all  # a restarted server


# --- what is shown ------------------------------------------------------------------------------------------------


def test_worst_first_and_changes_are_noticed(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smalti.review.session.POLL_S", 0.0)
    monkeypatch.setattr("smalti.review.session.POLL_SHARE", 1e9)
    findings = (
        Finding("x", "info", ("a.png",), 9.0, "m"),
        Finding("y", "error", ("c.png",), 1.0, "m"),
        Finding("y", "error", ("b.png",), 2.0, "m"),
    )
    client = enter(open_session(cohort, findings))
    state = client.get("/state").json()
    assert [card["image"] for card in state["cards"]] == ["b.png", "c.png", "a.png", "page.png"]
    assert state["changed"] is False
    (cohort.root / "a.png").write_bytes(b"other")
    assert client.get("/news").json()["changed"] is True


def test_a_finding_about_an_image_that_could_not_be_read_is_a_card(cohort: Cohort) -> None:
    client = enter(open_session(cohort, (Finding("integrity", "error", ("gone.png",), 1.0, "cut off", "exclude"),)))
    card = client.get("/state").json()["cards"][0]
    assert (card["image"], card["part"], card["actions"]) == ("gone.png", "unreadable", ["exclude"])
    assert client.get("/card?image=gone.png").json()["findings"][0]["message"] == "cut off"
    assert client.get("/picture?image=gone.png").status_code == 415
    assert client.get("/outline?image=gone.png").status_code == 404
    assert send(client, images=["gone.png"], action="keep").status_code == 400
    assert send(client, images=["gone.png"], action="exclude").status_code == 200


def test_senseless_decisions_are_refused(cohort: Cohort) -> None:
    client = enter(open_session(cohort))
    assert send(client, images=["no.png"], action="keep").status_code == 400
    assert send(client, images=["a.png"], action="burn").status_code == 400
    assert send(client, images=["a.png"], action="reset").status_code == 400
    assert send(client, images=["a.png"], action="repair").status_code == 400
    assert send(client, images=["a.png"], action="relabel", label="no").status_code == 400
    assert send(client, images=["a.png"], action="keep", entry="").status_code == 400
    client = enter(open_session(replace(cohort, labelled=(), unlabelled=cohort.labelled)))
    assert send(client, images=["a.png"], action="relabel", label="z").status_code == 400
    assert send(client, images=["a.png"], action="exclude").status_code == 400
    assert not find_decisions(cohort).exists()


def test_a_repair_names_the_finding_that_it_repairs(cohort: Cohort) -> None:
    outline = [[[1, 2], [3, 4], [5, 2]]]
    findings = (
        Finding("foreign", "error", ("a.png",), 1.0, "m"),
        Finding("painted", "warning", ("a.png",), 1.0, "m", "repair", {"outline": outline}),
    )
    client = enter(open_session(cohort, findings))
    told = client.get("/card?image=a.png").json()["findings"]
    assert [(f["proposal"], f["outline"]) for f in told] == [("keep", []), ("repair", outline)]
    assert send(client, images=["a.png"], action="repair").status_code == 200
    assert read_decisions(find_decisions(cohort))[0].finding == "painted"


def test_regions_show_the_pixels_of_the_file(tmp_path: Path) -> None:
    yy, xx = np.mgrid[0:300, 0:400]
    pixels = np.stack([xx * 255 // 400, yy * 255 // 300, np.full_like(xx, 90)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    assert np.array_equal(read_region(tmp_path / "i.png", 20, 30, height_px=50, width_px=60), pixels[20:70, 30:90])
    small = read_region(tmp_path / "i.png", 0, 0, height_px=300, width_px=400, longest_px=100)
    assert small.shape == (75, 100, 3)
    assert np.abs(small.astype(int) - pixels[2::4, 2::4]).mean() < 2


def test_the_outline_of_the_mask_lies_where_the_mask_does(cohort: Cohort) -> None:
    corners = np.array(enter(open_session(cohort)).get("/outline?image=a.png").json()[0]) * [60, 80]
    assert np.allclose(corners.min(axis=0), [20.5, 20.5], atol=0.01)  # centres of the outermost pixels
    assert np.allclose(corners.max(axis=0), [39.5, 59.5], atol=0.01)
