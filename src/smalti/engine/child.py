"""A Python process that this one started and talks to in lines of JSON.

``concurrent.futures`` gives up a whole pool when one of its processes dies, and so do joblib and loky; here each
process stands alone (docs/decisions/0051-engine.md).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from ..errors import show_text

GRACE_S = 10.0  # to remove temporary files in
TAIL_BYTES, MOST_SIGNS = 4096, 200
Message = dict[str, Any]  # a line of JSON
SOURCE = Path(__file__).parents[2]  # a child runs the code that its parent runs


class Child:
    """A process of ``python -m MODULE``; ``heard`` gets (child, message), and (child, None) when it has ended.

    It is a group of its own, so that Ctrl-C reaches its parent alone, and that all it has started ends with it.
    """

    def __init__(self, module: str, environment: Mapping[str, str], heard: SimpleQueue[tuple[Child, Any]]) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # what libraries say as they die
        path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, "PYTHONPATH": path, **environment},
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()
        self.send({"path": sys.path})  # a task may be in a module of the script that was started

    def _listen(self, heard: SimpleQueue[tuple[Child, Any]]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with suppress(ValueError):  # half a line of a process that was killed
                    heard.put((self, json.loads(line)))
        heard.put((self, None))

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; a child that is dead is told by ``heard``."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(json.dumps(message).encode("ascii") + b"\n")
            self.process.stdin.flush()

    def explain_end(self) -> str:
        """Return how the process ended, with the last line that it wrote to stderr."""
        code = self.process.wait()
        self.log.seek(max(0, self.log.seek(0, os.SEEK_END) - TAIL_BYTES))
        last = self.log.read().decode("utf-8", "replace").strip().rpartition("\n")[2][:MOST_SIGNS]
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"{how}: {show_text(last)}" if last else how

    def ask_to_end(self) -> None:
        """Close the pipe; see `speaking`."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()

    def kill(self, *, after_s: float = 0.0) -> None:
        """Wait for the end, then kill the process and all that it has started."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(after_s)
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()
        self.log.close()


@contextmanager
def speaking() -> Iterator[tuple[SimpleQueue[Message | None], IO[bytes]]]:
    """Yield the messages of the parent, and the stream of the answers; what a task prints goes to stderr.

    When the parent ends, so does the pipe and this process: first as by Ctrl-C, then with all that it has started.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    messages: SimpleQueue[Message | None] = SimpleQueue()
    alone = threading.Event()

    def listen() -> None:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "path" in message:
                sys.path += [place for place in message["path"] if place not in sys.path]
            else:
                messages.put(message)
        alone.set()
        messages.put(None)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_S)
        end_group()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield messages, answers
    finally:
        if alone.is_set():
            end_group()


def end_group() -> None:
    """End this process, and all that it has started."""
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def answer(stream: IO[bytes], message: Mapping[str, Any]) -> None:
    """Write one message to the parent."""
    stream.write(json.dumps(message).encode("ascii") + b"\n")
    stream.flush()
