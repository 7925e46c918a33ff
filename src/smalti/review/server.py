"""The page of a desk, for this computer alone; no path is ever taken from a request, only names of the desk."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..errors import DataError, FaultError, SmaltiError
from ..faults import explain_fault
from ..types import Decision
from .address import take_address
from .desk import Card, Desk
from .guard import Guard
from .serving import Pictures

LARGEST_PX = 4096
ENTRY = re.compile(r"[A-Za-z0-9-]{1,40}")
KEEP = {"Cache-Control": "private, max-age=300"}  # a picture looked at ahead is there when the next one opens
ASSETS = {
    "review.css": "text/css",
    **dict.fromkeys(("review.js", "wire.js", "gallery.js", "stage.js", "panel.js", "words.js"), "text/javascript"),
}
_templates = jinja2.Environment(loader=jinja2.PackageLoader("smalti.review"), autoescape=True)

WRITERS = 8  # acts that wait for the disk at once; reading has threads of its own
FAULTS = {"lock": 409, "disk": 507, "memory": 503, "path": 500}  # kind -> status


def make_app(desk: Desk, token: str, *, port: int | None = None) -> Starlette:
    """The web application; whoever opens ``/?token=...`` once gets the cookie that each request needs.

    Args:
        desk: what is shown.
        token: the secret.
        port: the only port that the Host header may name; None takes any.
    """

    routes = [
        Route("/", _show_page),
        Route("/assets/{name}", _send_asset),
        Route("/state", _send_state),
        Route("/news", _send_news),
        Route("/card", _send_card),
        Route("/picture", _send_picture),
        Route("/region", _send_region),
        Route("/outline", _send_outline),
        Route("/heatmap", _send_heatmap),
        Route("/decide", _decide, methods=["POST"]),
        Route("/undo", _decide, methods=["POST"]),
    ]
    handlers: Any = {SmaltiError: _say_error, OSError: _say_error, MemoryError: _say_error}
    guard = Middleware(Guard, token=token, port=port)
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    app.state.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
    app.state.desk = desk
    app.state.pictures = Pictures(desk.cohort.root, bits={s.path: s.bits for s in desk.cohort.samples})
    app.state.heatmaps = Pictures(desk.insight.heatmaps) if desk.insight else None
    return app


def serve(desk: Desk, *, address_path: Path, port: int = 0, say: Callable[[str], None]) -> None:
    """Serve the desk on 127.0.0.1 until Ctrl-C or SIGTERM; ``say`` is told the address.

    Args:
        desk: what is shown.
        address_path: keeps port and token for the next start (see `take_address`).
        port: 0 takes the last one, or any free one.
        say: told the address.

    Raises:
        SmaltiError: the port that was asked for is taken.
    """
    address, listener = take_address(address_path, port=port)
    with suppress(KeyboardInterrupt), listener:  # the server lets go of everything, then it passes the signal on
        say(address.url)
        app = make_app(desk, address.token, port=address.port)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listener])


def _say_error(request: Request, error: Exception) -> Response:
    error = explain_fault(error) or error
    if isinstance(error, FaultError):
        return PlainTextResponse(str(error), FAULTS[error.kind])
    codes = {p.code for p in error.problems} if isinstance(error, DataError) else set()
    status = 403 if "outside" in codes else 415 if "unreadable" in codes else 422
    return PlainTextResponse(str(error), status)


def _show_page(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    folds = sorted({card.fold for card in desk.cards.values() if card.fold is not None})
    page = _templates.get_template("review.html").render(
        root=desk.cohort.root.name, classes=desk.cohort.classes, folds=folds, insight=desk.insight
    )
    return Response(page, media_type="text/html")


def _send_asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS or _templates.loader is None:
        raise HTTPException(404, "no such file")
    return Response(_templates.loader.get_source(_templates, name)[0], media_type=ASSETS[name])


def _send_state(request: Request) -> Response:
    """All cards in short, the worst first, and the decisions."""
    desk: Desk = request.app.state.desk
    cards = [_describe(card) for card in desk.cards.values()]
    return JSONResponse({"classes": desk.cohort.classes, "cards": cards, "who": desk.who, **_read_news(desk, "")})


def _describe(card: Card) -> dict[str, Any]:
    findings = [{"code": f.code, "severity": f.severity} for f in card.findings]
    about = {"image": card.image, "label": card.label, "part": card.part, "fold": card.fold, "findings": findings}
    return {
        **about,
        "case": card.sample.case if card.sample else "",
        "loss": card.trace.loss if card.trace else None,
        "actions": card.actions,
    }


def _send_news(request: Request) -> Response:
    return JSONResponse(_read_news(request.app.state.desk, request.query_params.get("at", "")))


def _read_news(desk: Desk, version: str) -> dict[str, Any]:
    news = desk.news(version)
    decisions = {image: made and _tell(made) for image, made in news["decisions"].items()}
    return {**news, "decisions": decisions, "stamp": desk.stamp, "changed": desk.changed()}


def _tell(made: Decision) -> dict[str, str]:
    return {"action": made.action, "label": made.label, "who": made.who, "when": made.when, "entry": made.entry}


def _send_card(request: Request) -> Response:
    """All about one image, for the large view."""
    desk: Desk = request.app.state.desk
    card = _find(request)
    trace, sample = card.trace, card.sample
    size, trouble = None, ""
    if sample is not None:
        try:
            size = request.app.state.pictures.read_size(sample.path)
        except SmaltiError as error:
            trouble = str(error)
    return JSONResponse({
        "image": card.image,
        "size": size,
        "trouble": trouble,
        "mask": bool(sample and sample.mask_path),
        "heatmap": bool(desk.insight and desk.insight.find_heatmap(card.image)),
        "findings": [_detail(card, i) for i in range(len(card.findings))],
        "trace": trace and {"loss": trace.loss, "scores": trace.scores, "history": trace.history},
        "alike": [name for name in trace.alike if name in desk.cards] if trace else [],
        "unlike": [name for name in trace.unlike if name in desk.cards] if trace else [],
        "history": [_tell(row) for row in desk.history(card.image)],
    })  # fmt: skip


def _detail(card: Card, position: int) -> dict[str, Any]:
    finding = card.findings[position]
    # Another label is that of all its images.
    mine = finding.images[0] == card.image or finding.proposal == "relabel"
    acts = mine and finding.proposal in card.actions
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "proposal": finding.proposal if acts else None,
        "label": str(finding.evidence.get("label", "")),
        "outline": finding.evidence.get("outline", []) if finding.images[0] == card.image else [],
        "others": [image for image in finding.images if image != card.image],
    }


async def _decide(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    try:
        body = await request.json()
        words = {key: body.get(key, "") for key in ("action", "label", "finding", "entry", "undone", "at")}
        images = body.get("images", [])
    except ClientDisconnect:
        return Response(status_code=400)  # whom nobody hears
    except (ValueError, AttributeError, RecursionError):
        return PlainTextResponse("the body is no JSON object", 400)
    if not isinstance(images, list) or not all(isinstance(word, str) for word in [*words.values(), *images]):
        return PlainTextResponse("every value must be text, images a list of texts", 400)
    # Images and classes are looked up, and may be named as they like; whatever else is text would be written down.
    if _holds((*words.values(), *images), "Cs") or _holds((w for k, w in words.items() if k != "label"), "Cc"):
        return PlainTextResponse("control signs and half surrogates are no text", 400)
    entry, version = words.pop("entry"), words.pop("at")
    if not ENTRY.fullmatch(entry):
        return PlainTextResponse("entry must name this act: 1 to 40 letters, digits or -", 400)
    undone, action = words.pop("undone"), words.pop("action")

    def write() -> dict[str, Any]:
        if request.url.path == "/undo":
            added = desk.undo(undone, entry=entry)
        else:
            added = desk.record(images, action, entry=entry, **words)
        return {"added": added, **_read_news(desk, version)}

    try:
        # Writing waits for the disk, and for others who write; reading need not.
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(request.app.state.writers, write))
    except SmaltiError as error:
        return PlainTextResponse(str(error), 400)


def _holds(words: Iterable[str], category: str) -> bool:
    """Whether a sign of this Unicode category is in any of the words."""
    return any(unicodedata.category(sign) == category for word in words for sign in word)


def _find(request: Request) -> Card:
    card: Card | None = request.app.state.desk.cards.get(request.query_params.get("image", ""))
    if card is None:
        raise HTTPException(404, "the data folder has no such image")
    return card


def _find_sample(request: Request) -> Path:
    card = _find(request)
    if card.sample is None:
        raise HTTPException(415, f"'{card.image}' could not be read")
    return card.sample.path


def _read_number(request: Request, name: str, *, least: int, most: int, default: str = "") -> int:
    text = request.query_params.get(name, default)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise HTTPException(400, f"{name} must be a number from {least} to {most}")
    return int(text)


def _send_picture(request: Request) -> Response:
    path = _find_sample(request)
    px = _read_number(request, "px", least=1, most=LARGEST_PX, default="256")
    return _send_jpeg(request.app.state.pictures.draw_whole(path, longest_px=px))


def _send_region(request: Request) -> Response:
    path = _find_sample(request)
    box = tuple(_read_number(request, name, least=0, most=10**9 - 1) for name in ("row", "col", "height", "width"))
    px = _read_number(request, "px", least=1, most=LARGEST_PX)
    return _send_jpeg(request.app.state.pictures.draw_region(path, box, longest_px=px))


def _send_outline(request: Request) -> Response:
    card = _find(request)
    if card.sample is None or card.sample.mask_path is None:
        raise HTTPException(404, "this image has no mask")
    outline = request.app.state.pictures.draw_outline(card.sample.mask_path, card.sample.mask_reading)
    return Response(outline, media_type="application/json", headers=KEEP)


def _send_heatmap(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    path = desk.insight.find_heatmap(_find(request).image) if desk.insight else None
    if path is None:
        raise HTTPException(404, "there is no heat map of this image")
    px = _read_number(request, "px", least=1, most=LARGEST_PX, default="1024")
    return _send_jpeg(request.app.state.heatmaps.draw_whole(path, longest_px=px))


def _send_jpeg(content: bytes) -> Response:
    return Response(content, media_type="image/jpeg", headers=KEEP)
