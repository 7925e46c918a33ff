"""Choose the address of a page, and keep it: an open page still works after the server is restarted.

Keeping the token of a review page is safe. The file lies beside the decisions and only its owner can read it; whoever
can read the owner's files can change the decisions without a page. A new token is drawn after a week.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import SmaltiError
from ..store.leftovers import name_temporary

HOST = "127.0.0.1"
KEPT_S = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Address:
    """The port on this computer, and the secret that opens the page."""

    port: int
    token: str

    @property
    def url(self) -> str:
        """Return the address that a person opens."""
        return f"http://{HOST}:{self.port}/?token={self.token}"


def take_address(path: Path | None, *, port: int = 0) -> tuple[Address, socket.socket]:
    """Listen on the last port, or on any free port if the last one is taken, and keep the address in ``path``.

    Args:
        path: file of the last address, which need not exist; None keeps nothing.
        port: the port wanted; 0 takes the last one, or any free one.

    Raises:
        SmaltiError: the port that was asked for is taken.
    """
    last = _read_address(path) if path else None
    token = last.token if last else secrets.token_urlsafe()
    try:
        listener = _listen(port or (last.port if last else 0))
    except OSError:
        if port:
            raise SmaltiError(f"port {port} of this computer is taken", fix="--port 0 takes a free one") from None
        listener = _listen(0)  # another page of this data is open; the file keeps the address of that one
        return Address(listener.getsockname()[1], token), listener
    address = Address(listener.getsockname()[1], token)
    if path is None or address == last:
        return address, listener  # the file is left alone, so that its token still ends after a week
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = name_temporary(path.parent)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # readable by the owner alone
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(address), file)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return address, listener


def _listen(port: int) -> socket.socket:
    # asyncio turns Nagle's delay off only where the protocol is named: each answer comes 40 ms sooner.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name != "nt":  # on Windows this would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _read_address(path: Path) -> Address | None:
    """Return the kept address; None if there is none, or if it is old, damaged or readable by others."""
    try:
        state = path.lstat()
        if time.time() - state.st_mtime > KEPT_S:
            return None
        if os.name != "nt" and (state.st_mode & 0o77 or state.st_uid != os.getuid() or path.is_symlink()):
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        address = Address(int(content["port"]), str(content["token"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address if 0 < address.port < 2**16 and len(address.token) >= 32 else None
