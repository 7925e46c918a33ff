"""Serve the review page to this computer alone; a request names images of the session, never a path."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..errors import SmaltiError
from ..records.layout import HEATMAPS
from ..types import Decision
from ..web import Guard, Rules, answer_error, host_page
from .bag_cards import draw_bag
from .serving import Pictures
from .session import Card, ReviewSession

LARGEST_PX = 4096
ENTRY = re.compile(r"[A-Za-z0-9-]{1,40}")
KEEP = {"Cache-Control": "private, max-age=300"}  # a picture fetched ahead is there when its image is opened
ASSETS = {
    "review.css": "text/css",
    **dict.fromkeys(("review.js", "wire.js", "gallery.js", "stage.js", "panel.js", "words.js"), "text/javascript"),
}
_templates = jinja2.Environment(loader=jinja2.PackageLoader("smalti.review"), autoescape=True)

RULES = Rules(
    "review", 2**21, ("application/json",)
)  # a decision about 10,000 images needs some hundred thousand bytes
WRITERS = 8  # acts that may wait for the disk at once; reading has threads of its own


def make_app(session: ReviewSession, token: str, *, port: int | None = None) -> Starlette:
    """Return the web application; opening ``/?token=...`` once sets the cookie that each request needs.

    Args:
        session: what is shown.
        token: the secret.
        port: the only port that the Host header may name; None takes any.
    """
    routes = [
        Route("/", _show_page),
        Route("/assets/{name}", _send_asset),
        Route("/state", _send_state),
        Route("/news", _send_state),
        Route("/card", _send_card),
        Route("/picture", _send_picture),
        Route("/region", _send_picture),
        Route("/outline", _send_outline),
        Route("/heatmap", _send_heatmap),
        Route("/decide", _decide, methods=["POST"]),
        Route("/undo", _decide, methods=["POST"]),
    ]
    handlers: Any = dict.fromkeys((SmaltiError, OSError, MemoryError), answer_error)
    guard = Middleware(Guard, rules=RULES, token=token, port=port)
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    app.state.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
    app.state.session = session
    app.state.pictures = Pictures(session.cohort.root, bits={s.path: s.bits for s in session.cohort.samples})
    app.state.heatmaps = Pictures(session.insight.run / HEATMAPS) if session.insight else None
    return app


def serve(session: ReviewSession, *, address_path: Path, port: int = 0, say: Callable[[str], None]) -> None:
    """Serve the session on 127.0.0.1 until Ctrl-C or SIGTERM.

    Args:
        session: what is shown.
        address_path: keeps port and token for the next start.
        port: 0 takes the last one, or any free one.
        say: called with the address.

    Raises:
        SmaltiError: the port that was asked for is taken.
    """
    host_page(
        lambda address: make_app(session, address.token, port=address.port), address_path=address_path, port=port,
        say=lambda address: say(address.url),
    )  # fmt: skip


def _show_page(request: Request) -> Response:
    session: ReviewSession = request.app.state.session
    folds = sorted({card.fold for card in session.cards.values() if card.fold is not None})
    page = _templates.get_template("review.html").render(
        root=session.cohort.root.name, classes=session.cohort.classes, folds=folds, insight=session.insight
    )
    return Response(page, media_type="text/html")


def _send_asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS or _templates.loader is None:
        raise HTTPException(404, "no such file")
    return Response(_templates.loader.get_source(_templates, name)[0], media_type=ASSETS[name])


def _send_state(request: Request) -> Response:
    """Send what changed since the version ``at``; for ``/state`` all cards, worst first, and all decisions."""
    session: ReviewSession = request.app.state.session
    if request.url.path == "/news":
        return JSONResponse(_read_news(session, request.query_params.get("at", "")))
    cards = [
        {
            "image": card.image,
            "label": card.label,
            "part": card.part,
            "fold": card.fold,
            "findings": [{"code": f.code, "severity": f.severity} for f in card.findings],
            "case": card.sample.case if card.sample else "",
            "loss": card.trace.loss if card.trace else None,
            "actions": card.actions,
        }
        for card in session.cards.values()
    ]
    return JSONResponse({
        "classes": session.cohort.classes, "cards": cards, "who": session.who, **_read_news(session, "")
    })  # fmt: skip


def _read_news(session: ReviewSession, version: str) -> dict[str, object]:
    news = session.news(version)
    decisions = {image: made and _tell(made) for image, made in news.decisions.items()}
    changed = {"stamp": session.stamp, "changed": session.changed()}
    return {"at": news.at, "all": news.all, "decisions": decisions, **changed}


def _tell(made: Decision) -> dict[str, str]:
    return {"action": made.action, "label": made.label, "who": made.who, "when": made.when, "entry": made.entry}


def _send_card(request: Request) -> Response:
    """Send all about one image, for the large view."""
    session: ReviewSession = request.app.state.session
    card = _find_card(request)
    trace, sample = card.trace, card.sample
    size, trouble = None, ""
    if sample is not None and session.cohort.features is None:
        try:
            size = request.app.state.pictures.read_size(sample.path)
        except SmaltiError as error:
            trouble = str(error)
    findings = []
    for finding in card.findings:
        first = finding.images[0] == card.image
        # A new label is proposed for all images of a finding, everything else for the first one.
        proposed = (first or finding.proposal == "relabel") and finding.proposal in card.actions
        findings.append({
            "code": finding.code,
            "severity": finding.severity,
            "message": finding.message,
            "proposal": finding.proposal if proposed else None,
            "label": str(finding.evidence.get("label", "")),
            "outline": finding.evidence.get("outline", []) if first else [],
            "others": [image for image in finding.images if image != card.image],
        })  # fmt: skip
    return JSONResponse({
        "image": card.image,
        "size": size,
        "trouble": trouble,
        "mask": bool(sample and sample.mask_path),
        "heatmap": bool(session.insight and session.insight.find_heatmap(card.image)),
        "findings": findings,
        "trace": trace and {"loss": trace.loss, "scores": trace.scores, "history": trace.history},
        "alike": [name for name in trace.alike if name in session.cards] if trace else [],
        "unlike": [name for name in trace.unlike if name in session.cards] if trace else [],
        "history": [_tell(row) for row in session.history(card.image)],
    })  # fmt: skip


async def _decide(request: Request) -> Response:
    session: ReviewSession = request.app.state.session
    try:
        body = await request.json()
        words = {key: body.get(key, "") for key in ("action", "label", "finding", "entry", "undone", "at")}
        images = body.get("images", [])
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    except (ValueError, AttributeError, RecursionError):
        return PlainTextResponse("the body is no JSON object", 400)
    if not isinstance(images, list) or not all(isinstance(word, str) for word in [*words.values(), *images]):
        return PlainTextResponse("every value must be text, images a list of texts", 400)
    # Images and classes are looked up and may have any name; all other text would be written to the file.
    all_text, written = "".join((*words.values(), *images)), "".join(w for k, w in words.items() if k != "label")
    if "Cs" in map(unicodedata.category, all_text) or "Cc" in map(unicodedata.category, written):
        return PlainTextResponse("control characters and unpaired surrogates are not allowed", 400)
    entry, version = words.pop("entry"), words.pop("at")
    if not ENTRY.fullmatch(entry):
        return PlainTextResponse("entry must name this act: 1 to 40 letters, digits or -", 400)
    undone, action = words.pop("undone"), words.pop("action")

    def write() -> dict[str, object]:
        if request.url.path == "/undo":
            added = session.undo(undone, entry=entry)
        else:
            added = session.record(images, action, entry=entry, **words)
        return {"added": added, **_read_news(session, version)}

    try:
        # Writing waits for the disk and for other writers; readers have threads of their own.
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(request.app.state.writers, write))
    except SmaltiError as error:
        return PlainTextResponse(str(error), 400)


def _find_card(request: Request) -> Card:
    card: Card | None = request.app.state.session.cards.get(request.query_params.get("image", ""))
    if card is None:
        raise HTTPException(404, "the data folder has no such image")
    return card


def _read_number(request: Request, name: str, *, least: int, most: int, default: str = "") -> int:
    text = request.query_params.get(name, default)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise HTTPException(400, f"{name} must be a number from {least} to {most}")
    return int(text)


def _send_picture(request: Request) -> Response:
    """Send an image, or a region of it, as a JPEG of at most ``px`` pixels."""
    card = _find_card(request)
    if card.sample is None:
        raise HTTPException(415, f"'{card.image}' could not be read")
    box: tuple[int, ...] | None = None
    default = "256"
    if request.url.path == "/region":
        box = tuple(_read_number(request, name, least=0, most=10**9 - 1) for name in ("row", "col", "height", "width"))
        default = ""
    px = _read_number(request, "px", least=1, most=LARGEST_PX, default=default)
    spec = request.app.state.session.cohort.features
    if spec is not None:
        return Response(draw_bag(card.sample, spec, px=px), media_type="image/jpeg", headers=KEEP)
    picture = request.app.state.pictures.draw_picture(card.sample.path, box=box, longest_px=px)
    return Response(picture, media_type="image/jpeg", headers=KEEP)


def _send_outline(request: Request) -> Response:
    card = _find_card(request)
    if card.sample is None or card.sample.mask_path is None:
        raise HTTPException(404, "this image has no mask")
    outline = request.app.state.pictures.draw_outline(card.sample.mask_path, card.sample.mask_reading)
    return Response(outline, media_type="application/json", headers=KEEP)


def _send_heatmap(request: Request) -> Response:
    session: ReviewSession = request.app.state.session
    path = session.insight.find_heatmap(_find_card(request).image) if session.insight else None
    if path is None:
        raise HTTPException(404, "there is no heat map of this image")
    px = _read_number(request, "px", least=1, most=LARGEST_PX, default="1024")
    picture = request.app.state.heatmaps.draw_picture(path, longest_px=px)
    return Response(picture, media_type="image/jpeg", headers=KEEP)
