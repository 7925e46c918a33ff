"""The page and the endpoint of a model among strangers and hostile bodies: a refusal or a plain answer for each."""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from smalti import images
from smalti.model import Answer, Model
from smalti.serve import make_app
from smalti.serve.service import RULES
from smalti.serve.turns import WAITING
from smalti.types import Sample

HOME, TOKEN, SCRIPT = "http://127.0.0.1:8000", "secret", "<script>alert(1)</script>"
KIND = {"Content-Type": "application/octet-stream"}
OWN = {**KIND, "Origin": HOME, "X-Smalti": "1"}
BEARER = {**KIND, "Authorization": f"Bearer {TOKEN}"}


class Stub:
    """A model without networks: it reads the image as a model does, and its gate can be shut."""

    classes = (SCRIPT, "b")

    def __init__(self) -> None:
        about = {"name": SCRIPT, "population": "out-of-fold", "unit": "image"}
        self.record = SimpleNamespace(**about, scores=None, bits=None, features=None)
        self.gate, self.seen, self.at_once, self.most = threading.Event(), 0, 0, 0
        self.gate.set()

    def stream(self, items: list[Sample], *, mpp: float | None = None) -> Iterator[Answer]:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.gate.wait(30)
        for item in items:
            images.read_image(item.path)
            self.seen += 1
            yield Answer(item.image, item.case, (0.25, 0.75), 1.0)
        self.at_once -= 1

    def map_answer(self, item: Sample, *, mpp: float | None = None) -> tuple[Answer, None]:
        (answer,) = self.stream([item], mpp=mpp)
        return answer, None


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def picture() -> bytes:
    return pack(Image.fromarray(np.full((20, 30, 3), 200, np.uint8)))


def pack(image: Image.Image, kind: str = "PNG") -> bytes:
    with tempfile.SpooledTemporaryFile() as file:
        image.save(file, format=kind)
        file.seek(0)
        return file.read()


def visit(stub: Stub) -> TestClient:
    """A client that knows nothing."""
    return TestClient(make_app(cast(Model, stub), TOKEN, port=8000), base_url=HOME, raise_server_exceptions=False)


def enter(stub: Stub) -> TestClient:
    """A browser that opened the address."""
    client = visit(stub)
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


def test_page_and_program_are_answered(stub: Stub, picture: bytes, room: Path) -> None:
    for client, headers in ((enter(stub), OWN), (visit(stub), BEARER), (visit(stub), {**BEARER, "Origin": HOME})):
        answer = client.post("/predict", content=picture, headers=headers)
        assert answer.status_code == 200
        reply = answer.json()
        assert (reply["predicted"], reply["scores"]["b"], reply["refused"]) == ("b", 0.75, "")
        assert reply["model"]["population"] == "out-of-fold"
        assert "map" not in reply
    assert not list(room.iterdir())


@pytest.mark.parametrize("headers", [
    KIND, {**KIND, "Cookie": "smalti_serve_8000=wrong"}, {**KIND, "Cookie": f"smalti_review_8000={TOKEN}"},
    {**KIND, "Cookie": f"smalti_serve_9000={TOKEN}"}, {**KIND, "Authorization": "Bearer wrong"},
    {**KIND, "Authorization": TOKEN}, {**KIND, "Authorization": f"Basic {TOKEN}"}, {**KIND, "Authorization": "Bearer "},
])  # fmt: skip
def test_no_wrong_and_misplaced_tokens_are_refused(stub: Stub, picture: bytes, headers: dict[str, str]) -> None:
    client = visit(stub)
    for path in ("/predict", f"/predict?token={TOKEN}"):
        assert (
            client.post(path, content=picture, headers={**headers, "Origin": HOME, "X-Smalti": "1"}).status_code == 403
        )
    for path in ("/", "/?token=wrong", "/assets/serve.js"):
        assert client.get(path, headers=headers).status_code == 403
    assert stub.seen == 0


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1:9", "127.0.0.1.evil.example:8000", ""]
)
def test_another_name_for_this_computer_is_refused(stub: Stub, picture: bytes, host: str) -> None:
    client = enter(stub)
    assert client.get("/", headers={"Host": host}).status_code == 403
    assert client.post("/predict", content=picture, headers={**BEARER, "Host": host}).status_code == 403


@pytest.mark.parametrize("headers", [
    {**OWN, "Origin": "http://evil.example"}, {**OWN, "Origin": "null"}, {**KIND, "X-Smalti": "1"},
    {**KIND, "Origin": HOME}, {**OWN, "Content-Type": "text/plain"},
    {**OWN, "Content-Type": "multipart/form-data; boundary=x"},
])  # fmt: skip
def test_what_another_page_sends_is_refused(stub: Stub, picture: bytes, headers: dict[str, str]) -> None:
    assert enter(stub).post("/predict", content=picture, headers=headers).status_code == 403
    assert stub.seen == 0


def test_a_foreign_page_with_the_token_is_refused(stub: Stub, picture: bytes) -> None:
    answer = visit(stub).post("/predict", content=picture, headers={**BEARER, "Origin": "http://evil.example"})
    assert (answer.status_code, stub.seen) == (403, 0)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(stub: Stub, method: str) -> None:
    answer = visit(stub).request(method, "/predict", headers=BEARER)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("kind", ["text/html", "application/json", "", "imagepng"])
def test_a_program_with_another_type_is_told_which(stub: Stub, picture: bytes, kind: str) -> None:
    answer = visit(stub).post("/predict", content=picture, headers={**BEARER, "Content-Type": kind})
    assert (answer.status_code, "image/*" in answer.text) == (415, True)


def test_what_is_too_long_or_hides_its_length_is_refused(stub: Stub, picture: bytes) -> None:
    client = visit(stub)
    for length in (str(RULES.largest_body + 1), "9" * 30, "-1", "1e3", b"\xb2"):
        answer = client.post("/predict", content=picture, headers={**BEARER, "Content-Length": length})
        assert answer.status_code == 413, length
    assert client.post("/predict", content=iter([picture]), headers=BEARER).status_code == 413
    both = {**BEARER, "Transfer-Encoding": "chunked", "Content-Length": str(len(picture))}
    assert client.post("/predict", content=picture, headers=both).status_code == 413
    assert stub.seen == 0


def test_a_body_that_is_longer_than_it_said_is_refused(
    stub: Stub, picture: bytes, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count of what arrives, without the guard before it."""
    monkeypatch.setattr("smalti.web.guard._refuse_body", lambda *_, **__: None)
    monkeypatch.setattr("smalti.serve.service.RULES", replace(RULES, largest_body=len(picture) - 1))
    assert visit(stub).post("/predict", content=picture, headers=BEARER).status_code == 413
    assert not list(room.iterdir())


@pytest.mark.parametrize("path", ["/predict/../../etc/passwd", "/predict/a.png", "/assets/../service.py",
                                  "/assets/..%2fservice.py", "/assets/serve.html", "/assets/serve.js%00",
                                  "/assets//etc/passwd", "/etc/passwd"])  # fmt: skip
def test_a_path_in_a_name_leads_nowhere(stub: Stub, picture: bytes, path: str) -> None:
    client = visit(stub)
    assert client.get(path, headers=BEARER).status_code in (404, 405)
    named = {**BEARER, "Content-Disposition": 'attachment; filename="../../x.png"'}
    assert client.post(path, content=picture, headers=named).status_code in (404, 405)
    assert stub.seen == 0


def make_zeros(side_px: int) -> bytes:
    """A square RGB PNG of zeros: some hundred kB for any size."""
    packer, row = zlib.compressobj(9), bytes(1 + 3 * side_px)
    packed = b"".join([*(packer.compress(row) for _ in range(side_px)), packer.flush()])
    parts = ((b"IHDR", struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)), (b"IDAT", packed), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_bodies_that_are_no_image_are_refused_in_words(stub: Stub, picture: bytes, room: Path) -> None:
    client, noise = visit(stub), np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    frames = [Image.new("L", (8, 8), n) for n in (0, 255)]
    with tempfile.SpooledTemporaryFile() as file:
        frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:])
        file.seek(0)
        film = file.read()
    bodies = {
        "bomb": (make_zeros(8100), "million"), "web page": (f"<!doctype html>{SCRIPT}".encode(), "web page"),
        "empty": (b"", "empty"), "truncated": (pack(Image.fromarray(noise))[:-900], ""), "text": (b"hello", "no image"),
        "film": (film, "frames"), "script": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no image"),
        "tiff": (b"II*\x00\xff\xff\xff\xff", ""),
    }  # fmt: skip
    for name, (body, word) in bodies.items():
        answer = client.post("/predict?picture=1&map=1", content=body, headers={**BEARER, "Content-Type": "image/png"})
        assert answer.status_code == 422, (name, answer.text)
        reply = answer.json()
        assert (reply["predicted"], reply["scores"]) == ("", None), name
        assert reply["refused"], name
        assert word in reply["refused"], (name, reply["refused"])
        assert "Traceback" not in answer.text
        assert str(room) not in answer.text, name
    assert (stub.seen, list(room.iterdir())) == (0, [])


def test_names_of_classes_and_models_are_text(stub: Stub) -> None:
    client = enter(stub)
    page = client.get("/")
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;" in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "unsafe" not in policy
    script = client.get("/assets/serve.js").text
    assert not any(word in script for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("))


def test_one_image_at_a_time_a_few_wait_and_others_come_again(stub: Stub, picture: bytes, room: Path) -> None:
    stub.gate.clear()
    with visit(stub) as client, ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(client.post, "/predict", content=picture, headers=BEARER) for _ in range(WAITING + 4)]
        end = time.monotonic() + 20
        while sum(job.done() for job in asked) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        stub.gate.set()
        answers = [job.result() for job in asked]
        late = [answer for answer in answers if answer.status_code == 503]
        assert (len(late), stub.seen, stub.most) == (3, WAITING + 1, 1)
        assert int(late[0].headers["retry-after"]) >= 1
        assert client.post("/predict", content=picture, headers=BEARER).status_code == 200
    assert not list(room.iterdir())


@pytest.mark.slow
def test_smuggled_lengths_slow_senders_and_clients_that_leave(
    stub: Stub, picture: bytes, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smalti.serve.service.READ_S", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(make_app(cast(Model, stub), TOKEN, port=port), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    start = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n" \
            "Content-Type: image/png\r\n"  # fmt: skip
    second = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
    refused: dict[str, Any] = {
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + second: (400,),
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second: (400, 413),
        "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n": (413,),
        "Transfer-Encoding: xchunked\r\n\r\n": (400, 413, 501),
        "Content-Length: 5, 6\r\n\r\nhello": (400,),
        "Content-Length: +5\r\n\r\nhello": (400,),
        "Content-Length: 500\r\n\r\nslow": (408,),
    }
    try:
        for rest, codes in refused.items():
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall((start + rest).encode())
                assert int(client.recv(1000).split()[1]) in codes, rest
        for _ in range(WAITING + 3):  # more than there are places
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall((start + "Content-Length: 500\r\n\r\nbye").encode())
        time.sleep(1)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(f"{start}Content-Length: {len(picture)}\r\n\r\n".encode() + picture)
            assert int(client.recv(1000).split()[1]) == 200
        assert (stub.seen, list(room.iterdir())) == (1, [])
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
