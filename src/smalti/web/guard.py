"""Check every request before a page sees it: only this computer, only with the token, no form of another page."""

from __future__ import annotations

import secrets
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
CONTENT_POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Rules:
    """What one kind of page lets in.

    Attributes:
        command: that serves it, such as ``review``.
        largest_body: bytes of a request.
        media: content types of a body; ``image/*`` is any image.
        programs: whether ``Authorization: Bearer TOKEN`` does instead of cookie and origin.
        drawn: whether the page shows pictures that its script makes.
    """

    command: str
    largest_body: int
    media: tuple[str, ...]
    programs: bool = False
    drawn: bool = False


@dataclass(eq=False)
class Guard:
    """Let a request through or refuse it, and give every answer its headers.

    Starlette's own way to wrap a handler fails where a client leaves early, so this class wraps the application.
    """

    app: ASGIApp
    _: KW_ONLY
    rules: Rules
    token: str
    port: int | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        policy = CONTENT_POLICY + ("; img-src 'self' blob: data:" if self.rules.drawn else "")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS | {"Content-Security-Policy": policy})
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = refuse(Request(scope), self.token, rules=self.rules, port=self.port)
        await (refusal or self.app)(scope, receive, send_guarded)


def refuse(request: Request, token: str, *, rules: Rules, port: int | None) -> Response | None:
    """Return the refusal; None lets the request through.

    Args:
        request: any.
        token: the secret; ``/?token=...`` exchanges it for the cookie that every other request of a page needs.
        rules: of the page.
        port: the only port that the Host header may name; None takes any.
    """
    host = request.headers.get("host", "")
    name, _, asked = host.partition(":")
    if name not in HOSTS or (port is not None and asked != str(port)):
        return PlainTextResponse("this page answers only to 127.0.0.1", 403)  # DNS rebinding
    cookie = f"smalti_{rules.command}_{asked}"  # browsers send cookies to every port of a host
    if request.url.path == "/" and _is_same(request.query_params.get("token", ""), token):
        answer = RedirectResponse("/", 303)
        answer.set_cookie(cookie, token, httponly=True, samesite="strict")
        return answer
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    program = rules.programs and scheme.lower() == "bearer" and _is_same(secret.strip(), token)
    if not program and not _is_same(request.cookies.get(cookie, ""), token):
        way = ", or send 'Authorization: Bearer TOKEN'" if rules.programs else ""
        return PlainTextResponse(f"open the address that smalti {rules.command} printed{way}", 403)
    return _refuse_body(request, rules, program=program) if request.method == "POST" else None


def _refuse_body(request: Request, rules: Rules, *, program: bool) -> Response | None:
    headers = request.headers
    origin, own = headers.get("origin"), f"http://{headers.get('host', '')}"
    # A program sends no origin; a page of another site may know the token, and is refused all the same.
    foreign = origin not in (None, own) if program else origin != own or "x-smalti" not in headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    known = any(fnmatchcase(kind, media) for media in rules.media)
    if foreign or (not known and not program):  # a form can send other types without asking
        return PlainTextResponse(f"smalti {rules.command} takes this from its own page only", 403)
    if not known:
        return PlainTextResponse(f"the content type must be one of {', '.join(rules.media)}", 415)
    length = headers.get("content-length", "")
    # With both headers a server goes by the pieces, whose length nobody knows.
    unknown = "transfer-encoding" in headers or not (length.isascii() and length.isdigit())
    if unknown or len(length) > 9 or int(length) > rules.largest_body:
        return PlainTextResponse(f"too long, or of unknown length; at most {rules.largest_body} bytes are taken", 413)
    return None


def _is_same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())
