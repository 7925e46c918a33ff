"""The page of a desk, for this computer alone: 127.0.0.1, a token, no path ever taken from a request."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import cv2
import jinja2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from ..errors import DataError, SmaltiError
from ..images import read_mask, read_thumbnail
from .desk import Card, Desk

HOSTS = ("127.0.0.1", "localhost")
COOKIE = "smalti_review"
LARGEST_PX = 4096
LARGEST_BODY = 64 * 1024  # bytes; a decision needs some hundred
DECODERS = threading.Semaphore(2)  # a large picture takes half a gigabyte while it is decoded
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
ASSETS = {"review.css": "text/css", "review.js": "text/javascript"}
_templates = jinja2.Environment(loader=jinja2.PackageLoader("smalti.review"), autoescape=True)

Handler = Callable[[Request], Awaitable[Response]]


def make_app(desk: Desk, token: str, *, port: int | None = None) -> Starlette:
    """The web application; whoever opens ``/?token=...`` once gets the cookie that each request needs.

    Args:
        desk: what is shown.
        token: the secret of this start.
        port: the only port that the Host header may name; None takes any.
    """

    async def guard(request: Request, handle: Handler) -> Response:
        response = _refuse(request, token, port) or await handle(request)
        response.headers.update(HEADERS)
        return response

    routes = [
        Route("/", _show_page),
        Route("/assets/{name}", _send_asset),
        Route("/state", _send_state),
        Route("/picture", _send_picture),
        Route("/outline", _send_outline),
        Route("/decide", _decide, methods=["POST"]),
        Route("/undo", _decide, methods=["POST"]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)])
    app.state.desk = desk
    return app


def serve(desk: Desk, *, port: int = 0, say: Callable[[str], None]) -> None:
    """Serve the desk on 127.0.0.1 until Ctrl-C; ``say`` is told the address. Port 0 takes any free one."""
    token = secrets.token_urlsafe()
    with socket.socket() as listener:
        listener.bind((HOSTS[0], port))
        bound = listener.getsockname()[1]
        say(f"http://{HOSTS[0]}:{bound}/?token={token}")
        config = uvicorn.Config(make_app(desk, token, port=bound), log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


def _refuse(request: Request, token: str, port: int | None) -> Response | None:
    """What stands between a request and the page; None lets it through."""
    host = request.headers.get("host", "")
    name, _, asked = host.partition(":")
    if name not in HOSTS or (port is not None and asked != str(port)):
        return PlainTextResponse("this page answers only to 127.0.0.1", 403)  # DNS rebinding
    given = request.query_params.get("token", "") if request.url.path == "/" else ""
    if given and secrets.compare_digest(given.encode(), token.encode()):
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer
    if not secrets.compare_digest(request.cookies.get(COOKIE, "").encode(), token.encode()):
        return PlainTextResponse("open the address that smalti review printed", 403)
    if request.method == "POST":
        foreign = request.headers.get("origin") != f"http://{host}" or "x-smalti" not in request.headers
        if foreign or request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("decisions are taken from this page only", 403)
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > LARGEST_BODY:
            return PlainTextResponse("too long", 413)
    return None


def _show_page(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    page = _templates.get_template("review.html").render(root=desk.cohort.root.name, classes=desk.cohort.classes)
    return Response(page, media_type="text/html")


def _send_asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS or _templates.loader is None:
        return PlainTextResponse("no such file", 404)
    return Response(_templates.loader.get_source(_templates, name)[0], media_type=ASSETS[name])


def _send_state(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    try:
        decided = desk.decided()
    except SmaltiError as error:
        return PlainTextResponse(str(error), 422)
    cards = []
    for image, card in desk.cards.items():
        made = decided.get(image)
        cards.append({**_describe(card), "decision": made and {"action": made.action, "label": made.label}})
    return JSONResponse({"classes": desk.cohort.classes, "cards": cards, "changed": desk.changed()})


def _describe(card: Card) -> dict[str, Any]:
    findings = [{"code": f.code, "severity": f.severity, "message": f.message} for f in card.findings]
    sample = card.sample
    about = {"image": sample.image, "label": card.label, "case": sample.case, "part": card.part}
    return {**about, "mask": sample.mask_path is not None, "findings": findings}


async def _decide(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    try:
        body = await request.json()
        words = {key: body.get(key, "") for key in ("image", "action", "label", "finding", "request_id")}
    except (ValueError, AttributeError):
        return PlainTextResponse("the body is no JSON object", 400)
    if not all(isinstance(word, str) for word in words.values()):
        return PlainTextResponse("every value must be text", 400)
    image, action = words.pop("image"), words.pop("action")
    try:
        if request.url.path == "/undo":
            added = desk.undo(image, action, label=words["label"], request_id=words["request_id"])
        else:
            added = desk.record(image, action, **words)
        made = desk.decided().get(image)
    except SmaltiError as error:
        return PlainTextResponse(str(error), 400)
    decision = made and {"action": made.action, "label": made.label}
    return JSONResponse({"added": added, "decision": decision, "changed": desk.changed()})


def _find(request: Request) -> tuple[Card, int] | Response:
    card = request.app.state.desk.cards.get(request.query_params.get("image", ""))
    if card is None:
        return PlainTextResponse("the data folder has no such image", 404)
    px = request.query_params.get("px", "256")
    if not px.isdecimal() or len(px) > 4 or not 1 <= int(px) <= LARGEST_PX:
        return PlainTextResponse(f"px must be 1 to {LARGEST_PX}", 400)
    return card, int(px)


def _say_unreadable(error: SmaltiError) -> Response:
    codes = {p.code for p in error.problems} if isinstance(error, DataError) else set()
    return PlainTextResponse(str(error), 415 if "unreadable" in codes else 422)


def _send_picture(request: Request) -> Response:
    found = _find(request)
    if isinstance(found, Response):
        return found
    card, px = found
    try:
        with DECODERS:
            pixels = read_thumbnail(card.sample.path, longest_px=px)
    except SmaltiError as error:
        return _say_unreadable(error)
    return Response(cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes(), media_type="image/jpeg")


def _send_outline(request: Request) -> Response:
    found = _find(request)
    if isinstance(found, Response):
        return found
    card, px = found
    if card.sample.mask_path is None:
        return PlainTextResponse("this image has no mask", 404)
    try:
        with DECODERS:
            mask, _ = read_mask(card.sample.mask_path)
    except SmaltiError as error:
        return _say_unreadable(error)
    scale = min(1.0, px / max(mask.shape))
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    layer = np.zeros((size[1], size[0], 4), np.uint8)
    # Black under yellow: seen on dark and on bright tissue, and by any eye.
    cv2.drawContours(layer, contours, -1, (0, 0, 0, 255), 5)
    cv2.drawContours(layer, contours, -1, (66, 228, 240, 255), 2)
    return Response(cv2.imencode(".png", layer)[1].tobytes(), media_type="image/png")
