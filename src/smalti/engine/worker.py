"""``python -m smalti.engine.worker``: does one unit after the other for the process that started it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ..process import settle_process
from ..stopping import catch_signals
from .child import answer, speaking
from .performing import perform

FIRST_TO_GO = "500"  # of 1,000: where memory runs out, Linux ends a worker rather than the process that waits for it


def main() -> None:
    """Read units from stdin until it ends."""
    catch_signals()
    settle_process()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO, encoding="ascii")
    with speaking() as (messages, answers):
        for message in iter(messages.get, None):
            report = perform(**message, heard=lambda text: answer(answers, {"said": text}))
            answer(answers, asdict(report))


if __name__ == "__main__":
    main()
