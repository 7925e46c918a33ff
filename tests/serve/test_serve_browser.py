"""The page of a model in a real Chromium: a dropped image is answered with its map; what is no image is refused."""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from chromium import CHROMIUM, Chromium, Tab

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="not applicable: no chromium on this machine")

PATIENCE_S = 180  # for libraries to load on a busy machine
DROP = """
{{
const bytes = Uint8Array.from(atob("{content}"), (c) => c.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], "{name}"));
dispatchEvent(new DragEvent("drop", {{dataTransfer: carried, bubbles: true, cancelable: true}}));
}}
"""
SHOWN = "['said', 'refused', 'failure'].some((id) => !document.getElementById(id).hidden)"


@pytest.fixture
def server(forms: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """``smalti serve`` as a process of its own, its address, and what it prints."""
    log = tmp_path / "server.log"
    command = [sys.executable, "-m", "smalti", "serve", str(forms / "plain"), "--device", "cpu"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    end = time.monotonic() + PATIENCE_S
    while not (found := re.search(r"http://\S+", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, "the server did not start"
        time.sleep(0.05)
    yield process, found[0], log
    process.kill()
    process.wait()


def drop(tab: Tab, name: str, content: bytes) -> None:
    """Drop a file on the page, and wait for what is said about it."""
    tab.run(DROP.format(content=base64.b64encode(content).decode(), name=name))
    end = time.monotonic() + PATIENCE_S
    while not tab.run(SHOWN) and time.monotonic() < end:
        time.sleep(0.05)
    tab.wait(SHOWN)


def test_a_dropped_image_is_answered_with_its_map(
    server: tuple[subprocess.Popen[bytes], str, Path], challenge: Path, tmp_path: Path
) -> None:
    process, url, log = server
    image = Image.open(sorted((challenge / "test_data").glob("img_*.png"))[0])
    image.save(tmp_path / "tissue.tif")  # which no browser shows by itself
    with Chromium(tmp_path / "profile") as browser:
        for width in (1280, 400):
            tab = browser.open(url, width=width)
            tab.wait("document.querySelectorAll('#drop').length === 1")
            worth = tab.run("document.getElementById('worth').innerText")
            assert re.search(
                r"Macro-F1 0\.\d{3} \(0\.\d{3} to [01]\.\d{3}, 95 % interval\) by image, on held-out", worth
            )
            tab.wait("performance.getEntriesByName(new URL('/assets/serve.js', location).href).length > 0")
            drop(tab, "tissue.tif", (tmp_path / "tissue.tif").read_bytes())
            bars = tab.run("[...document.querySelectorAll('#bars .number')].map((node) => +node.textContent)")
            assert sum(bars) == pytest.approx(1, abs=0.002)
            assert bars == sorted(bars, reverse=True)
            named = tab.run("document.getElementById('predicted').textContent")
            assert tab.run("document.querySelector('#bars .given span').textContent") == named
            assert "networks name this class" in tab.run("document.getElementById('agreement').textContent")
            tab.wait("document.getElementById('map').naturalWidth > 0 && !document.getElementById('map').hidden")
            tab.press("m")
            assert tab.run("document.getElementById('map').hidden")
            assert tab.run("document.getElementById('picture').naturalWidth") == image.width
            assert tab.run("document.documentElement.scrollWidth") <= width
            drop(tab, "<img src=x onerror=alert(1)>.png", b"<!doctype html><script>alert(1)</script>")
            assert "web page" in tab.run("document.getElementById('why').textContent")
            assert tab.run("document.getElementById('said').hidden && document.getElementById('numbers').hidden")
            assert tab.run("document.querySelectorAll('#name img').length") == 0
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0, log.read_text()
    printed = log.read_text()
    assert printed.rstrip().splitlines()[-1].startswith("next:")
    assert "Traceback" not in printed
