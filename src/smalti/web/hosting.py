"""Serve an application on 127.0.0.1 until it is ended, and turn what goes wrong in it into answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..errors import DataError, FaultError
from ..faults import explain_fault
from .address import Address, take_address

FAULTS = {"lock": 409, "disk": 507, "memory": 503, "path": 500}  # kind -> status


def host_page(
    make_app: Callable[[Address], Starlette], *, address_path: Path | None, port: int, say: Callable[[Address], None]
) -> None:
    """Serve on 127.0.0.1 until Ctrl-C or SIGTERM.

    Args:
        make_app: makes the application for an address.
        address_path: keeps port and token for the next start; None keeps nothing (see `take_address`).
        port: 0 takes the last one, or any free one.
        say: called with the address, which answers from then on.

    Raises:
        SmaltiError: the port that was asked for is taken.
    """
    address, listener = take_address(address_path, port=port)
    with suppress(KeyboardInterrupt), listener:  # uvicorn closes everything, then passes the signal on
        say(address)
        config = uvicorn.Config(make_app(address), log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listener])


def answer_error(request: Request, error: Exception) -> Response:
    """Return what was raised on purpose, or by the machine, as text with a fitting status."""
    error = explain_fault(error) or error
    if isinstance(error, FaultError):
        return PlainTextResponse(str(error), FAULTS[error.kind])
    codes = {p.code for p in error.problems} if isinstance(error, DataError) else set()
    status = 403 if "outside" in codes else 415 if "unreadable" in codes else 422
    return PlainTextResponse(str(error), status)
