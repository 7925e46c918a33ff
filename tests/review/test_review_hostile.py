"""The review page among strangers, hostile files and hostile names: a refusal or a harmless page for each."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image
from starlette.testclient import TestClient

from sessions import HOME, OWN, SCRIPT, TOKEN, draw_cohort, enter, find_decisions, open_session, send
from smalti.audit import Audit, read_decisions
from smalti.errors import DataError
from smalti.review import Insight, ReviewSession, make_app
from smalti.review.server import RULES
from smalti.types import Cohort, Finding, Sample

PATHS = ("/", "/?token=wrong", "/state", "/news", "/card?image=a.png", "/picture?image=a.png", "/outline?image=a.png",
         "/region?image=a.png&row=0&col=0&height=1&width=1&px=1", "/heatmap?image=a.png", "/assets/review.js",
         "/no")  # fmt: skip


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return draw_cohort(tmp_path / "data")


def write_zeros(path: Path, side_px: int) -> None:
    """A square RGB PNG of zeros, written in pieces: a few hundred kB for any size."""
    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * side_px)
    packed = b"".join([*(packer.compress(row) for _ in range(side_px)), packer.flush()])
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_strangers_stay_out(cohort: Cohort) -> None:
    stranger = TestClient(make_app(open_session(cohort), TOKEN, port=8000), base_url=HOME)
    for path in PATHS:
        assert stranger.get(path).status_code == 403, path
        assert stranger.get(path, headers={"Cookie": "smalti_review_8000=wrong"}).status_code == 403
    cookie = stranger.get(f"/?token={TOKEN}", follow_redirects=False).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_another_name_for_this_computer_is_refused(cohort: Cohort) -> None:
    client = enter(open_session(cohort))
    for host in ("evil.example", "evil.example:8000", "127.0.0.1:9", "127.0.0.1.evil.example:8000", "127.0.0.1", ""):
        for path in PATHS:
            assert client.get(path, headers={"Host": host}).status_code == 403, host


@pytest.mark.parametrize("path", ["/decide", "/undo"])
@pytest.mark.parametrize("headers", [{}, {"Origin": HOME}, {"X-Smalti": "1"}, {**OWN, "Origin": "http://evil.example"},
                                     {**OWN, "Origin": "null"}, {**OWN, "Content-Type": "text/plain"}])  # fmt: skip
def test_foreign_posts_are_refused(cohort: Cohort, path: str, headers: dict[str, str]) -> None:
    client = enter(open_session(cohort))
    body = {"images": ["a.png"], "action": "keep", "entry": "1"}
    assert client.post(path, json=body, headers=headers).status_code == 403
    assert client.post(path, data={"images": "a.png"}, headers=OWN).status_code == 403  # a form
    assert client.get(path).status_code == 405
    assert not find_decisions(cohort).exists()


def test_bodies_that_are_too_long_or_no_act_are_refused(cohort: Cohort) -> None:
    client = enter(open_session(cohort))
    headers = {**OWN, "Content-Type": "application/json"}
    assert client.post("/decide", content=b" " * (RULES.largest_body + 1), headers=headers).status_code == 413
    assert client.post("/decide", content=iter([b"{}"]), headers=headers).status_code == 413  # of unknown length
    for body in ("[]", "{", "1", '"x"', "[" * 100_000, '{"images": "a.png"}', '{"images": [1]}', '{"images": [["a"]]}',
                 '{"images": ["a.png"], "action": {}}', b"\xff\xfe\x00"):  # fmt: skip
        assert client.post("/decide", content=body, headers=headers).status_code == 400, body[:20]
    for entry in ("", "a b", "x" * 41, "a,b", "\n", "=1+1"):
        assert send(client, images=["a.png"], action="keep", entry=entry).status_code == 400
    assert send(client, images=["a.png", "../b.png"], action="keep").status_code == 400
    assert not find_decisions(cohort).exists()


def test_only_names_of_the_cohort_are_served(cohort: Cohort) -> None:
    client = enter(open_session(cohort))
    picture = client.get("/picture?image=a.png&px=40")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.headers["x-content-type-options"] == "nosniff"
    for kind in ("picture", "outline", "card", "heatmap", "region"):
        for name in ("../a.png", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "mask.bin", "", "a.png%00", "./a.png"):
            assert client.get(f"/{kind}?image={name}").status_code == 404, name
    for name in ("../session.py", "..%2fsession.py", "%2e%2e/session.py", "review.html", "/etc/passwd", "review.js%00"):
        assert client.get(f"/assets/{name}").status_code == 404, name


def test_numbers_are_bounded(cohort: Cohort) -> None:
    client = enter(open_session(cohort))
    for px in ("0", "-1", "4097", "x", "9" * 5000, "²", "1e3"):
        assert client.get("/picture", params={"image": "a.png", "px": px}).status_code == 400
    inside = {"image": "a.png", "row": 10, "col": 20, "height": 50, "width": 60, "px": 64}
    assert client.get("/region", params=inside).status_code == 200
    for wrong in ({"row": -1}, {"row": 11}, {"col": 21}, {"height": 0}, {"width": 10**9 - 1}, {"px": 4097}, {"px": ""}):
        assert client.get("/region", params={**inside, **wrong}).status_code in (400, 422), wrong


def test_a_web_page_named_like_a_picture_is_not_served(cohort: Cohort) -> None:
    client = enter(open_session(cohort))
    for path in ("/picture?image=page.png", "/region?image=page.png&row=0&col=0&height=1&width=1&px=1"):
        page = client.get(path)
        assert page.status_code == 415
        assert page.headers["content-type"].startswith("text/plain")
        assert "alert" not in page.text


@pytest.mark.skipif(os.name == "nt", reason="not applicable: links and pipes need POSIX")
def test_links_out_of_the_folder_and_pipes_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (8, 8)).save(outside / "secret.png")
    for name in ("a.png", "mask.bin", "b.png", "c.png"):
        (cohort.root / name).unlink()
    (cohort.root / "a.png").symlink_to(outside / "secret.png")
    (cohort.root / "mask.bin").symlink_to(outside / "secret.png")
    (cohort.root / "folder").symlink_to(outside)
    os.mkfifo(cohort.root / "b.png")
    (cohort.root / "c.png").symlink_to(cohort.root / "c.png")  # a ring
    within = Sample("folder/secret.png", cohort.root / "folder" / "secret.png", None, "z", "s", "s")
    client = enter(open_session(replace(cohort, labelled=(*cohort.labelled, within))))
    for path in ("/picture?image=a.png", "/outline?image=a.png", "/picture?image=folder/secret.png",
                 "/region?image=a.png&row=0&col=0&height=1&width=1&px=1"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 403, path
        assert "outside the data folder" in answer.text
    assert client.get("/picture?image=b.png").status_code == 415
    assert client.get("/picture?image=c.png").status_code in (415, 422)
    assert "outside" in client.get("/card?image=a.png").json()["trouble"]


def test_a_heat_map_outside_the_run_is_not_served(cohort: Cohort, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "heatmaps").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (run / "heatmaps" / "a.png").symlink_to(tmp_path / "secret.png")
    odd = Sample("../../secret.png", cohort.root / "b.png", None, "z", "s", "s")
    insight = Insight(run, {}, {"a.png": 0}, ())
    client = enter(open_session(replace(cohort, labelled=(*cohort.labelled, odd)), insight=insight))
    for name in ("a.png", "../../secret.png"):
        assert client.get("/heatmap", params={"image": name}).status_code == 404
        assert client.get("/card", params={"image": name}).json()["heatmap"] is False


def test_script_in_names_and_labels_is_text(cohort: Cohort) -> None:
    name = f"{SCRIPT}.png"
    sample = replace(cohort.labelled[0], image=name, case=SCRIPT)
    finding = Finding("x", "error", (name,), 1.0, SCRIPT, "relabel", {"label": SCRIPT})
    client = enter(open_session(replace(cohort, labelled=(sample, *cohort.labelled[1:])), (finding,)))
    page = client.get("/")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in page.headers["content-security-policy"]
    for path in ("/state", "/news"):
        assert client.get(path).headers["content-type"] == "application/json"
    card = client.get("/card", params={"image": name})
    assert card.headers["content-type"] == "application/json"
    assert json.loads(card.text)["findings"][0]["message"] == SCRIPT
    refused = send(client, images=[SCRIPT], action=SCRIPT)
    assert refused.status_code == 400
    assert refused.headers["content-type"].startswith("text/plain")
    for asset in ("review.js", "gallery.js", "panel.js", "stage.js", "wire.js", "words.js"):
        text = client.get(f"/assets/{asset}").text
        assert not any(word in text for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("))


@pytest.mark.slow
def test_pictures_of_a_hundred_megapixels_are_drawn_and_larger_ones_refused(cohort: Cohort) -> None:
    Image.new("1", (10_000, 10_000)).save(cohort.root / "b.png")
    write_zeros(cohort.root / "c.png", 13_400)  # just above twice Pillow's warning
    client = enter(open_session(cohort))
    large = client.get("/picture?image=b.png&px=256")
    assert large.status_code == 200
    assert len(large.content) < 100_000
    corner = client.get("/region?image=b.png&row=9990&col=9990&height=10&width=10&px=10")
    assert corner.status_code == 200
    assert client.get("/picture?image=c.png").status_code == 422
    assert client.get("/region?image=c.png&row=0&col=0&height=1&width=1&px=1").status_code == 422


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="not applicable: ru_maxrss is in kB on Linux")
def test_a_bomb_just_below_the_limit_stays_within_a_gigabyte(cohort: Cohort, tmp_path: Path) -> None:
    write_zeros(cohort.root / "b.png", 13_300)  # 177 million pixels, 0.7 GB decoded
    code = """
import resource, sys
from pathlib import Path
from smalti.review.serving import Pictures
path = Path(sys.argv[1])
pictures = Pictures(path.parent)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert pictures.draw_picture(path, longest_px=256)
assert pictures.draw_picture(path, box=(0, 0, 100, 100), longest_px=100)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(cohort.root / "b.png")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 1_000_000


# --- words, locks, disks and clients that leave -------------------------------------------------------------------


@pytest.mark.parametrize("key", ["action", "finding", "entry", "undone", "at", "label"])
@pytest.mark.parametrize("sign", ["\x00", "\n", "\x1b", "\x7f", "\ud800"])
def test_control_signs_and_half_surrogates_are_refused(key: str, sign: str, cohort: Cohort) -> None:
    client = enter(open_session(cohort))
    act = {"images": ["a.png"], "action": "keep", "label": "z", key: f"keep{sign}"}
    path = "/undo" if key == "undone" else "/decide"
    content = json.dumps({"entry": "e1", **act})
    answer = client.post(path, content=content, headers={**OWN, "Content-Type": "application/json"})
    if key != "label" or sign == "\ud800":  # a class may be named as it likes, and is looked up
        assert (answer.status_code, bool(answer.text)) == (400, True)
        assert not find_decisions(cohort).exists()


def test_an_image_with_half_a_surrogate_is_refused(cohort: Cohort) -> None:
    client = enter(open_session(cohort))
    content = json.dumps({"entry": "e1", "action": "keep", "images": ["a\udce4.png"]})
    assert (
        client.post("/decide", content=content, headers={**OWN, "Content-Type": "application/json"}).status_code == 400
    )


def test_only_findings_that_exist_are_answered(cohort: Cohort) -> None:
    finding = Finding("of-this-folder", "info", ("a.png",), 1.0, "a", "keep")
    client = enter(open_session(cohort, (finding,)))
    refused = send(client, images=["a.png"], action="keep", finding="=cmd|'/c calc'!A1")
    assert (refused.status_code, "no finding is called" in refused.text) == (400, True)
    for number, code in enumerate(("", "blank", "of-this-folder")):
        assert send(client, images=["a.png"], action="keep", finding=code, entry=f"f{number}").status_code == 200


@pytest.mark.slow
def test_a_lock_held_elsewhere_is_told_and_reading_goes_on(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty writers wait for another program; whoever reads does not."""
    monkeypatch.setattr("smalti.audit.decisions.LOCK_WAIT_S", 1.0)
    client = enter(open_session(cohort))
    path = find_decisions(cohort)
    with FileLock(path.with_name(f".{path.name}.lock")), ThreadPoolExecutor(50) as pool:
        acts = [pool.submit(send, client, images=["a.png"], action="keep", entry=f"e{i}") for i in range(9)]
        time.sleep(0.3)
        started = time.monotonic()
        assert client.get("/news").status_code == client.get("/card?image=a.png").status_code == 200
        assert time.monotonic() - started < 0.5
        answers = [act.result() for act in acts]
    assert {answer.status_code for answer in answers} == {409}
    assert "another program holds" in answers[0].text
    assert not path.exists()
    assert send(client, images=["a.png"], action="keep").status_code == 200


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, 507), (errno.EROFS, 500), (errno.EACCES, 500)])
def test_a_disk_that_refuses_is_told_as_what_it_is(
    code: int, status: int, cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = enter(open_session(cohort))

    def refuse(path: Path, *_: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("smalti.store.write_atomic", refuse)
        answer = send(client, images=["a.png"], action="keep")
    assert (answer.status_code, "Fix: " in answer.text) == (status, True)
    assert client.get("/news").json()["decisions"] == {}
    assert send(client, images=["a.png"], action="keep").json()["added"], "the same act goes through afterwards"


def test_a_field_without_end_is_refused_by_name(cohort: Cohort) -> None:
    find_decisions(cohort).write_text("image,action,reason\na.png,keep," + "x" * 140_000 + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"decisions\.csv line 2: field larger than field limit"):
        read_decisions(find_decisions(cohort))


def test_a_reader_with_control_signs_is_refused(cohort: Cohort) -> None:
    with pytest.raises(DataError, match="Fix: --who"):
        ReviewSession(cohort, Audit((), {}), decisions_path=find_decisions(cohort), who="me\nyou")


SERVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from sessions import name_cohort, open_session
from smalti.review import serve
from smalti.stopping import catch_signals
catch_signals()
root = Path(sys.argv[1]) / "data"
root.mkdir()
serve(open_session(name_cohort(root, 3)), address_path=root.parent / "address", say=lambda url: print(url, flush=True))
print("closing lines", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_clients_that_leave_print_nothing_and_signals_end_with_the_closing_lines(number: int, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path), str(Path(__file__).parents[1])],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    port, token = int(url.partition("127.0.0.1:")[2].partition("/")[0]), url.partition("token=")[2]
    about = f"Host: 127.0.0.1:{port}\r\nCookie: smalti_review_{port}={token}\r\n"
    own = f"{about}Origin: http://127.0.0.1:{port}\r\nX-Smalti: 1\r\nContent-Type: application/json\r\n"
    requests = (
        f"POST /decide HTTP/1.1\r\n{own}Content-Length: 500\r\n\r\n{{",
        f"GET /state HTTP/1.1\r\n{about}\r\n" * 50,
        "GET /st",
    )
    for request in requests:
        for _ in range(5):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(request.encode())
            time.sleep(0.02)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
            client.close()
    time.sleep(0.3)
    process.send_signal(number)
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, said, complaints) == (0, "closing lines\n", "")
