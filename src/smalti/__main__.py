"""``python -m smalti`` and the ``smalti`` command."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from .cli import app


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show is shown as an escape
    app()


if __name__ == "__main__":
    main()
