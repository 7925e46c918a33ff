"""``python -m smalti`` and the ``smalti`` command."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from .process import settle_process
from .stopping import catch_signals, say_stopped


def main() -> None:
    """Run the command line."""
    catch_signals()
    settle_process()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show is shown as an escape
    try:
        from .cli import app  # takes seconds, in which a person may press Ctrl-C too

        app()
    except KeyboardInterrupt as error:
        sys.exit(say_stopped(error))


if __name__ == "__main__":
    main()
