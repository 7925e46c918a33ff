"""The review page in a real Chromium: the server is killed, two tabs are open, and no decision is lost or doubled."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import uvicorn
from PIL import Image

from chromium import CHROMIUM, Chromium, Tab
from sessions import SCRIPT, draw_cohort, open_session
from smalti.audit import read_decisions, settle_decisions
from smalti.records import Trace
from smalti.review import Insight, make_app
from smalti.types import Finding
from smalti.web.address import take_address

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="not applicable: no chromium on this machine")

KEYS = {"k": ("keep", ""), "x": ("exclude", ""), "1": ("relabel", "a"), "2": ("relabel", "b")}
DECISIONS = 100
KILLS = 3


class Server:
    """``smalti review`` as a process of its own."""

    def __init__(self, data: Path, runs: Path) -> None:
        self._command = [sys.executable, "-m", "smalti", "review", str(data), "--runs", str(runs),
                         "--set", "audit.checks=[]", "--who", "reader"]  # fmt: skip
        self._log = runs / "server.log"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        return self.process

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def find_url(self) -> str:
        end = time.monotonic() + 60
        while not (found := re.search(r"http://\S+", self._log.read_text())):
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.05)
        return found[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The page of as many small images as there are decisions."""
    rng = np.random.default_rng(0)
    for i in range(DECISIONS):
        path = tmp_path / "data" / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)
    (tmp_path / "runs").mkdir()
    server = Server(tmp_path / "data", tmp_path / "runs")
    yield server
    server.kill()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path / "profile") as browser:
        yield browser


def enter(browser: Chromium, url: str) -> Tab:
    tab = browser.open(url)
    tab.wait("document.querySelectorAll('.card').length > 0")
    return tab


def open_first(tab: Tab) -> None:
    tab.run("document.querySelector('.card').click()")
    tab.wait("document.getElementById('view').open")


def test_killed_three_times_each_decision_is_on_disk_once_and_in_order(
    server: Server, browser: Chromium, tmp_path: Path
) -> None:
    draw = random.Random(7)
    tab = enter(browser, server.find_url())
    open_first(tab)
    kills = set(draw.sample(range(5, DECISIONS - 5), KILLS))
    wanted = []
    for i in range(DECISIONS):
        image = tab.run("document.getElementById('view').dataset.image")
        key = draw.choice(tuple(KEYS))
        if i in kills and draw.random() < 0.5:
            server.kill()  # before the key; otherwise while its decision is on the way
        tab.press(key)
        if i in kills:
            time.sleep(draw.random() * 0.01)
            server.kill()
            tab.press("k")  # typed while nobody answers: kept, and followed when the server is back
            tab.wait("document.getElementById('note').textContent.includes('does not answer')"
                     " || document.getElementById('lost').textContent.includes('does not answer')")  # fmt: skip
            server.start()
            wanted += [(image, *KEYS[key])]
            image, key = "?", "k"
        wanted += [(image, *KEYS[key])]
        if len(wanted) == DECISIONS:
            break
        tab.wait(f"document.getElementById('view').dataset.image !== {wanted[-1][0]!r}")
        if i in kills:
            tab.wait(f"document.getElementById('name').textContent.includes(' {len(wanted) + 1} of ')")
    tab.wait("document.getElementById('note').textContent.includes('the last one')")

    rows = read_decisions(tmp_path / "runs" / "data.decisions.csv")
    assert len(rows) == DECISIONS
    assert len({row.entry for row in rows}) == DECISIONS
    assert len({row.image for row in rows}) == DECISIONS
    for row, (image, action, label) in zip(rows, wanted, strict=True):
        assert (row.action, row.label, row.who) == (action, label, "reader")
        assert image in ("?", row.image)


def test_two_tabs_see_each_other_and_undo_goes_back_to_undecided(
    server: Server, browser: Chromium, tmp_path: Path
) -> None:
    url = server.find_url()
    one, other = enter(browser, url), enter(browser, url)
    open_first(one)
    open_first(other)
    name = one.run("document.getElementById('view').dataset.image")
    one.press("x")
    one.wait("document.getElementById('name').textContent.includes('2 of')")
    other.wait("document.getElementById('note').textContent.includes('Decided elsewhere')")
    assert "exclude" in other.run("document.getElementById('state-now').textContent")
    one.press("k")
    one.wait("document.getElementById('name').textContent.includes('3 of')")
    for left in (1, 0):
        one.press("u")
        decisions = tmp_path / "runs" / "data.decisions.csv"
        end = time.monotonic() + 20
        while len(settle_decisions(read_decisions(decisions))) > left:
            assert time.monotonic() < end
            time.sleep(0.02)
    one.wait(f"document.getElementById('view').dataset.image === {name!r}")
    other.wait("document.getElementById('state-now').textContent.includes('undecided')")
    assert [row.action for row in read_decisions(decisions)] == ["exclude", "keep", "reset", "reset"]

    one.press("Escape")
    one.run("document.getElementById('exclude-all').click()")
    one.run("document.getElementById('yes').click()")
    one.wait(f"document.getElementById('count').textContent.includes('{DECISIONS} images shown · 0 undecided')"
             " || document.getElementById('count').textContent.includes('· 0 undecided')")  # fmt: skip
    assert len({row.entry for row in read_decisions(decisions)[4:]}) == 1
    one.press("u")
    one.wait(f"document.getElementById('count').textContent.includes('{DECISIONS} undecided')")
    assert not settle_decisions(read_decisions(decisions))

    rows = len(read_decisions(decisions))
    act = f"{{path: '/decide', body: {{images: [{name!r}], action: 'keep', entry: 'waited-1'}}}}"
    for _ in range(2):  # a page that was loaded anew sends what had not been confirmed, once
        one.run(f"sessionStorage.setItem('waiting', JSON.stringify({act}))")
        one.ask("Page.reload")
        one.wait(f"document.getElementById('count')?.textContent.includes('{DECISIONS - 1} undecided')"
                 " && !sessionStorage.getItem('waiting')")  # fmt: skip
    assert [row.entry for row in read_decisions(decisions)[rows:]] == ["waited-1"]


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[str]:
    """The address of a page in this process: a picture too large to be sent whole, names with script, a run."""
    cohort = draw_cohort(tmp_path / "data")
    Image.new("RGB", (5000, 4000), "purple").save(cohort.root / "a.png")
    hostile = f"{SCRIPT}.png"
    odd = replace(cohort.labelled[1], image=hostile, label="z")
    cohort = replace(cohort, labelled=(cohort.labelled[0], odd, *cohort.labelled[2:]))
    trace = Trace(
        image="a.png", loss=1.5, scores={SCRIPT: 0.2, "z": 0.8}, history=((1, 2.0), (2, 1.5)), alike=("c.png",),
        unlike=(hostile,),
    )  # fmt: skip
    painted = Finding(
        "painted", "error", ("a.png",), 2.0, SCRIPT, "repair", {"outline": [[[0, 0], [0, 900], [900, 0]]]}
    )
    twins = Finding("near-duplicate", "warning", ("a.png", hostile), 1.0, "alike", "relabel", {"label": "z"})
    insight = Insight(tmp_path, {"a.png": trace}, {"a.png": 3}, ())
    (tmp_path / "heatmaps").mkdir()
    Image.new("RGB", (50, 40), "red").save(tmp_path / "heatmaps" / "a.png")
    session = open_session(cohort, (painted, twins), insight=insight)
    address, listener = take_address(tmp_path / ".address")
    app = make_app(session, address.token, port=address.port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield address.url
    server.should_exit = True
    thread.join()
    listener.close()


def test_zoom_reaches_full_resolution_and_nothing_hostile_runs(wide: str, browser: Chromium, tmp_path: Path) -> None:
    tab = enter(browser, wide)
    tab.run("window.alert = () => { window.harmed = true; }")
    open_first(tab)
    tab.wait("document.querySelectorAll('#panel .chart circle').length === 2")
    assert tab.run("document.querySelectorAll('#panel .bars li').length") == 2
    assert tab.run("document.querySelectorAll('#partners img').length") == 1
    assert tab.run("document.querySelectorAll('#marks polygon.paint:not(.under)').length") == 1
    tab.press("m")
    tab.wait("document.querySelectorAll('#marks polygon.mask:not(.under)').length === 1")
    tab.press("h")
    tab.wait("document.getElementById('heat').naturalWidth > 0")

    box = tab.run(
        "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('stage').getBoundingClientRect())"
    )
    middle = (box[0] + box[2] / 2, box[1] + box[3] / 2)
    where = "JSON.stringify(document.getElementById('picture').getBoundingClientRect())"
    tab.mouse("mouseWheel", *middle, deltaX=0, deltaY=-1200)
    tab.wait("!document.getElementById('detail').hidden")
    asked = parse_qs(urlsplit(tab.run("document.getElementById('detail').src")).query)
    assert int(asked["width"][0]) < 5000
    assert tab.run("document.getElementById('detail').naturalWidth") <= int(asked["width"][0])
    before = tab.run(where)
    tab.press("ArrowRight")  # moves the picture, not on to the next one
    assert tab.run(where) != before
    before = tab.run(where)
    tab.mouse("mousePressed", *middle, button="left", buttons=1, clickCount=1)
    tab.mouse("mouseMoved", middle[0] + 40, middle[1] + 30, button="left", buttons=1)
    tab.mouse("mouseReleased", middle[0] + 40, middle[1] + 30, button="left", clickCount=1)
    assert tab.run(where) != before
    assert tab.run("document.getElementById('view').dataset.image") == "a.png"

    tab.press("a")
    tab.wait("document.getElementById('name').textContent.includes('2 of')")
    made = read_decisions(tmp_path / "decisions.csv")[0]
    assert (made.image, made.action, made.finding) == ("a.png", "repair", "painted")
    narrow = browser.open(wide, width=400)
    narrow.wait("document.querySelectorAll('.card').length === 4")
    assert narrow.run("document.documentElement.scrollWidth") <= 400
    open_first(narrow)
    narrow.wait("document.querySelector('.facts') !== null")
    assert narrow.run("document.getElementById('view').scrollWidth") <= 400
    assert not tab.run("window.harmed === true")
