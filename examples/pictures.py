"""Photograph a report, the review page, a ladder and a heat map of the demo, for README.md and docs/.

After ``make demo``: ``python examples/pictures.py [demo-data [runs [docs/pictures]]]``. It explains six images of the
newest demo run, runs a small ladder on the same cohort (some minutes), and takes the pictures with a headless Chromium.
What is there already is not done again.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import smalti

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from chromium import CHROMIUM, Chromium, Tab  # noqa: E402  (the tests' own browser)

LARGEST_BYTES = 150_000
LADDER = """
about: "Tiles, the whole image, or both?"
preset: demo
rungs:
  - {name: whole, change: "whole image, shrunk", set: [tile.source=whole, tile.field_px=null]}
  - {name: tiles, change: "tiles at full resolution", set: [tile.source=tiles, tile.field_px=112]}
  - {name: turns, change: "test-time augmentation: four turns", set: [predict.views=4]}
  - {name: both, change: "whole image and tiles, weighed", from: tiles, members: [whole, tiles], set: [ensemble.method=weighed]}
"""  # noqa: E501


def photograph(tab: Tab, path: Path, *, scroll_to: str = "") -> None:
    """Write what a tab shows as a WebP below `LARGEST_BYTES`, once the element ``scroll_to`` is at its top."""
    if scroll_to:
        tab.run(f"document.querySelector({scroll_to!r}).scrollIntoView()")
    time.sleep(1)  # pictures of the page are decoded
    for quality in range(85, 20, -15):
        picture = base64.b64decode(tab.ask("Page.captureScreenshot", format="webp", quality=quality)["data"])
        if len(picture) < LARGEST_BYTES:
            break
    path.write_bytes(picture)
    print(path, len(picture), "bytes")


def photograph_review(browser: Chromium, data: Path, runs: Path, path: Path) -> None:
    """Start the review page on the demo, photograph its gallery, and end it."""
    command = [sys.executable, "-m", "smalti", "review", str(data), "--recipe", "demo", "--runs", str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = next(found[1] for line in server.stdout if (found := re.search(r"open (http\S+)", line)))
        tab = browser.open(url, width=1000, height=760)
        tab.wait("document.querySelectorAll('#gallery img').length > 8")
        photograph(tab, path)
        server.terminate()


def main(data: Path = Path("demo-data"), runs: Path = Path("runs"), folder: Path = ROOT / "docs" / "pictures") -> None:
    """Make what is missing, and the four pictures."""
    done = sorted(runs.glob(f"{data.name}-demo-*/scores.json"), key=lambda p: p.stat().st_mtime)
    if CHROMIUM is None:
        sys.exit("no Chromium is on the PATH: install it, or google-chrome")
    if not done:
        sys.exit(f"no finished demo run is in {runs}: make demo")
    run = done[-1].parent
    if not (run / "explanation.json").is_file():
        smalti.explain_run(run, images=6)
    smalti.report_run(run)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        ladder = Path(temporary) / "pictures.yaml"
        ladder.write_text(LADDER, encoding="utf-8")
        climbed, _ = smalti.run_ladder(data, str(ladder), runs=runs)
        folder.mkdir(parents=True, exist_ok=True)
        with Chromium(Path(temporary) / "profile") as browser:
            report = browser.open((run / "report.html").resolve().as_uri(), width=1000, height=760)
            report.wait("document.readyState == 'complete'")
            photograph(report, folder / "report.webp")
            photograph(report, folder / "heatmap.webp", scroll_to="#looked figure:has(img)")
            steps = browser.open((climbed / "report.html").resolve().as_uri(), width=1000, height=760)
            steps.wait("document.readyState == 'complete'")
            photograph(steps, folder / "ladder.webp")
            photograph_review(browser, data, runs, folder / "review.webp")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
