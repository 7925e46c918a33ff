"""The review page: strangers stay out, hostile files and names do no harm, no decision is lost or doubled."""

from __future__ import annotations

import random
import struct
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from smalti.audit import Audit, append_decisions, read_decisions, settle_decisions
from smalti.errors import DataError
from smalti.review import Desk, make_app
from smalti.types import Cohort, Decision, Finding, Sample

HOME = "http://127.0.0.1:8000"
TOKEN = "secret"
OWN = {"Origin": HOME, "X-Smalti": "1"}
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Four images, one of them a web page; the first has a mask; a class named like a script."""
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "page.png").write_text(f"<!doctype html>{SCRIPT}")
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 20:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.bin", format="PNG")
    names = ("a.png", "b.png", "c.png", "page.png")
    masks = {"a.png": tmp_path / "mask.bin"}
    samples = tuple(Sample(n, tmp_path / n, masks.get(n), SCRIPT, n, n) for n in names)
    return Cohort(tmp_path, "table", samples, (), (SCRIPT, "z"))


def open_desk(cohort: Cohort, findings: tuple[Finding, ...] = ()) -> Desk:
    return Desk(cohort, Audit(findings, {}), decisions_path=cohort.root / "decisions.csv", who="test")


def enter(desk: Desk) -> TestClient:
    client = TestClient(make_app(desk, TOKEN, port=8000), base_url=HOME)
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


def decide(client: TestClient, **words: str) -> int:
    return client.post("/decide", json=words, headers=OWN).status_code


def test_strangers_stay_out(cohort: Cohort) -> None:
    app = make_app(open_desk(cohort), TOKEN, port=8000)
    stranger = TestClient(app, base_url=HOME)
    for path in ("/", "/?token=wrong", "/state", "/picture?image=a.png", "/assets/review.js", "/no"):
        assert stranger.get(path).status_code == 403, path
    cookie = stranger.get(f"/?token={TOKEN}", follow_redirects=False).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    for host in ("evil.example", "127.0.0.1:9", "127.0.0.1.evil.example:8000"):
        assert stranger.get("/state", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("headers", [{}, {"Origin": HOME}, {"X-Smalti": "1"}, {**OWN, "Origin": "http://evil.example"}])
def test_foreign_posts_are_refused(cohort: Cohort, headers: dict[str, str]) -> None:
    client = enter(open_desk(cohort))
    answer = client.post("/decide", json={"image": "a.png", "action": "keep"}, headers=headers)
    assert answer.status_code == 403
    assert not (cohort.root / "decisions.csv").exists()


def test_pictures(cohort: Cohort) -> None:
    client = enter(open_desk(cohort))
    picture = client.get("/picture?image=a.png&px=40")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8")
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert client.get("/outline?image=a.png").content.startswith(b"\x89PNG")
    assert client.get("/outline?image=b.png").status_code == 404
    for name in ("../a.png", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "mask.bin", "", "a.png%00"):
        assert client.get(f"/picture?image={name}").status_code == 404, name
    for px in ("0", "-1", "4097", "x", "9" * 5000):
        assert client.get(f"/picture?image=a.png&px={px}").status_code == 400
    page = client.get("/picture?image=page.png")
    assert page.status_code == 415
    assert page.headers["content-type"].startswith("text/plain")


def test_large_pictures_and_bombs(cohort: Cohort) -> None:
    Image.new("1", (10_000, 10_000)).save(cohort.root / "b.png")
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))))
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    (cohort.root / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    client = enter(open_desk(cohort))
    large = client.get("/picture?image=b.png&px=256")
    assert large.status_code == 200
    assert len(large.content) < 100_000
    assert client.get("/picture?image=c.png").status_code == 422


def test_script_in_a_label_is_text(cohort: Cohort) -> None:
    client = enter(open_desk(cohort))
    page = client.get("/")
    assert SCRIPT not in page.text
    assert "&lt;script&gt;" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert client.get("/state").headers["content-type"] == "application/json"
    assert "innerHTML" not in client.get("/assets/review.js").text


def test_senseless_decisions_are_refused(cohort: Cohort) -> None:
    client = enter(open_desk(cohort))
    assert decide(client, image="no.png", action="keep") == 400
    assert decide(client, image="a.png", action="burn") == 400
    assert decide(client, image="a.png", action="relabel", label="no") == 400
    assert client.post("/decide", content="[]", headers={**OWN, "Content-Type": "application/json"}).status_code == 400
    client = enter(open_desk(replace(cohort, labelled=(), unlabelled=cohort.labelled)))
    assert decide(client, image="a.png", action="relabel", label="z") == 400
    assert decide(client, image="a.png", action="exclude") == 400
    with pytest.raises(DataError, match=r"no image 'no\.png'"):
        open_desk(cohort).record("no.png", "keep")
    assert not (cohort.root / "decisions.csv").exists()


def test_worst_first_and_changes_are_noticed(cohort: Cohort) -> None:
    findings = (
        Finding("x", "info", ("a.png",), 9.0, "m"),
        Finding("y", "error", ("c.png",), 1.0, "m"),
        Finding("y", "error", ("b.png",), 2.0, "m"),
    )
    client = enter(open_desk(cohort, findings))
    state = client.get("/state").json()
    assert [card["image"] for card in state["cards"]] == ["b.png", "c.png", "a.png", "page.png"]
    assert state["changed"] is False
    (cohort.root / "a.png").write_bytes(b"other")
    assert client.get("/state").json()["changed"] is True


def test_undo_brings_back_what_counted_and_a_retry_undoes_no_more(cohort: Cohort) -> None:
    desk = open_desk(cohort)
    desk.record("a.png", "relabel", label="z")
    desk.record("a.png", "exclude")
    for _ in range(2):
        desk.undo("a.png", "exclude")
        assert (desk.decided()["a.png"].action, desk.decided()["a.png"].label) == ("relabel", "z")
    desk.record("b.png", "exclude")
    assert desk.undo("b.png", "exclude")
    assert desk.decided()["b.png"].action == "keep"


def test_killed_servers_and_retries_keep_each_decision_once(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(200)]
    samples = tuple(Sample(n, tmp_path / n, None, "ab"[i % 2], n, n) for i, n in enumerate(names))
    cohort = Cohort(tmp_path, "table", samples, (), ("a", "b"))
    draw = random.Random(0)
    client = enter(open_desk(cohort))
    for name in names:
        words = {"image": name, "action": "relabel", "label": "b", "request_id": name}
        for _ in range(draw.randint(1, 2)):  # the answer was lost, so the page asks again
            if draw.random() < 0.2:
                client = enter(open_desk(cohort))
            assert decide(client, **words) == 200
            assert settle_decisions(read_decisions(tmp_path / "decisions.csv"))[name].label == "b"
    assert [row.image for row in read_decisions(tmp_path / "decisions.csv")] == names


def test_two_desks_and_a_rule_over_one_file_lose_nothing(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(60)]
    cohort = Cohort(tmp_path, "table", tuple(Sample(n, tmp_path / n, None, "a", n, n) for n in names), (), ("a",))

    def work(part: list[str]) -> None:
        desk = open_desk(cohort)
        for name in part:
            desk.record(name, "exclude")

    append_decisions(tmp_path / "decisions.csv", [Decision("0.png", "keep", "", "rule", "")])
    threads = [threading.Thread(target=work, args=(names[i::2],)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_decisions(tmp_path / "decisions.csv")
    assert sorted(row.image for row in rows) == sorted([*names, "0.png"])
