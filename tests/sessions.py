"""Review sessions over a few drawn files, and a client that has opened their page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from smalti.audit import Audit
from smalti.review import Insight, ReviewSession, make_app
from smalti.types import Cohort, Finding, Sample

HOME = "http://127.0.0.1:8000"
TOKEN = "secret"
OWN = {"Origin": HOME, "X-Smalti": "1"}
SCRIPT = "</script><script>alert(1)</script>"


def draw_cohort(root: Path) -> Cohort:
    """Three images and a web page that is named like one; the first has a mask; a class is named like a script."""
    root.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(root / name)
    (root / "page.png").write_text(f"<!doctype html>{SCRIPT}")
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 20:60] = 255
    Image.fromarray(mask).save(root / "mask.bin", format="PNG")
    names = ("a.png", "b.png", "c.png", "page.png")
    masks = {"a.png": root / "mask.bin"}
    samples = tuple(Sample(n, root / n, masks.get(n), SCRIPT, n, n) for n in names)
    return Cohort(root, "table", samples, (), (SCRIPT, "z"))


def name_cohort(root: Path, n: int) -> Cohort:
    """Labelled images of two classes that have no files."""
    names = [f"{i}.png" for i in range(n)]
    samples = tuple(Sample(name, root / name, None, "ab"[i % 2], name, name) for i, name in enumerate(names))
    return Cohort(root, "table", samples, (), ("a", "b"))


def find_decisions(cohort: Cohort) -> Path:
    """The decisions file of `open_session`, beside the data folder."""
    return cohort.root.parent / "decisions.csv"


def open_session(
    cohort: Cohort, findings: tuple[Finding, ...] = (), *, insight: Insight | None = None
) -> ReviewSession:
    """A session as a freshly started server has it."""
    audit = Audit(findings, {})
    return ReviewSession(cohort, audit, decisions_path=find_decisions(cohort), who="test", insight=insight)


def enter(session: ReviewSession) -> TestClient:
    """A client that opened the address."""
    client = TestClient(make_app(session, TOKEN, port=8000), base_url=HOME)
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


def send(client: TestClient, path: str = "/decide", **body: Any) -> Any:
    """The answer to one act."""
    return client.post(path, json={"entry": "e1", **body}, headers=OWN)
