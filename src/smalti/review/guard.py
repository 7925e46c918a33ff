"""What stands between a request and the page: this computer alone, a token, no form of another page."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

HOSTS = ("127.0.0.1", "localhost")
LARGEST_BODY = 2**21  # bytes; a decision about 10,000 images needs some hundred thousand
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def refuse(request: Request, token: str, *, port: int | None) -> Response | None:
    """The refusal; None lets the request through.

    Args:
        request: any.
        token: the secret; ``/?token=...`` exchanges it for the cookie that every other request needs.
        port: the only one that the Host header may name; None takes any.
    """
    host = request.headers.get("host", "")
    name, _, asked = host.partition(":")
    if name not in HOSTS or (port is not None and asked != str(port)):
        return PlainTextResponse("this page answers only to 127.0.0.1", 403)  # DNS rebinding
    cookie = f"smalti_review_{asked}"  # browsers send cookies to every port of a host
    given = request.query_params.get("token", "") if request.url.path == "/" else ""
    if given and _is_same(given, token):
        answer = RedirectResponse("/", 303)
        answer.set_cookie(cookie, token, httponly=True, samesite="strict")
        return answer
    if not _is_same(request.cookies.get(cookie, ""), token):
        return PlainTextResponse("open the address that smalti review printed", 403)
    return _refuse_post(request, host) if request.method == "POST" else None


def _refuse_post(request: Request, host: str) -> Response | None:
    foreign = request.headers.get("origin") != f"http://{host}" or "x-smalti" not in request.headers
    if foreign or request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return PlainTextResponse("decisions are taken from this page only", 403)
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or len(length) > 9 or int(length) > LARGEST_BODY:
        return PlainTextResponse("too long", 413)
    return None


def _is_same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())
