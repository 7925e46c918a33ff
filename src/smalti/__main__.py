"""``python -m smalti`` and the ``smalti`` command."""

from __future__ import annotations

from .cli import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
