"""Check every request before the page sees it: only this computer, only with the token, no form of another page."""

from __future__ import annotations

import secrets
from dataclasses import KW_ONLY, dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
LARGEST_BODY = 2**21  # bytes; a decision about 10,000 images needs some hundred thousand
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(eq=False)
class Guard:
    """Let a request through or refuse it, and give every answer its headers.

    Starlette's own way to wrap a handler fails where a client leaves early, so this class wraps the application.
    """

    app: ASGIApp
    _: KW_ONLY
    token: str
    port: int | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = refuse(Request(scope), self.token, port=self.port)
        await (refusal or self.app)(scope, receive, send_guarded)


def refuse(request: Request, token: str, *, port: int | None) -> Response | None:
    """Return the refusal; None lets the request through.

    Args:
        request: any.
        token: the secret; ``/?token=...`` exchanges it for the cookie that every other request needs.
        port: the only port that the Host header may name; None takes any.
    """
    host = request.headers.get("host", "")
    name, _, asked = host.partition(":")
    if name not in HOSTS or (port is not None and asked != str(port)):
        return PlainTextResponse("this page answers only to 127.0.0.1", 403)  # DNS rebinding
    cookie = f"smalti_review_{asked}"  # browsers send cookies to every port of a host
    given = request.query_params.get("token", "") if request.url.path == "/" else ""
    if given and secrets.compare_digest(given.encode(), token.encode()):
        answer = RedirectResponse("/", 303)
        answer.set_cookie(cookie, token, httponly=True, samesite="strict")
        return answer
    if not secrets.compare_digest(request.cookies.get(cookie, "").encode(), token.encode()):
        return PlainTextResponse("open the address that smalti review printed", 403)
    if request.method != "POST":
        return None
    foreign = request.headers.get("origin") != f"http://{host}" or "x-smalti" not in request.headers
    if foreign or request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return PlainTextResponse("decisions are taken from this page only", 403)
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or len(length) > 9 or int(length) > LARGEST_BODY:
        return PlainTextResponse("too long", 413)
    return None
