"""Serve a model to this computer alone; an image is a body of bytes, and nothing in a request names a file."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..errors import SmaltiError
from ..model import Model
from ..web import Address, Guard, Rules, answer_error, host_page
from .reply import POPULATIONS, describe_model, make_reply
from .turns import Turns

RULES = Rules("serve", 200_000_000, ("application/octet-stream", "image/*"), programs=True, drawn=True)
READ_S = 60.0  # for a body to arrive; a client that sends nothing more would keep its place in the queue
ASSETS = {"serve.css": "text/css", "serve.js": "text/javascript"}
_templates = jinja2.Environment(loader=jinja2.PackageLoader("smalti.serve"), autoescape=True)


def make_app(model: Model, token: str, *, port: int | None = None, mpp: float | None = None) -> Starlette:
    """Return the web application.

    Args:
        model: what answers.
        token: the secret; ``/?token=...`` exchanges it for a cookie, programs send it as ``Authorization: Bearer``.
        port: the only port that the Host header may name; None takes any.
        mpp: microns per pixel of images that do not say their own.
    """
    routes = [
        Route("/", _show_page),
        Route("/assets/{name}", _send_asset),
        Route("/predict", _predict, methods=["POST"]),
    ]
    handlers = dict.fromkeys((SmaltiError, OSError, MemoryError), answer_error)
    guard = Middleware(Guard, rules=RULES, token=token, port=port)
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)
    app.state.model, app.state.mpp, app.state.turns = model, mpp, Turns()
    return app


def serve(model: Model, *, port: int = 0, mpp: float | None = None, say: Callable[[Address], None]) -> None:
    """Serve a model on 127.0.0.1 until Ctrl-C or SIGTERM; each start draws a new token.

    Args:
        model: what answers.
        port: 0 takes any free one.
        mpp: microns per pixel of images that do not say their own.
        say: called with the address.

    Raises:
        SmaltiError: the port that was asked for is taken.
    """
    host_page(
        lambda address: make_app(model, address.token, port=address.port, mpp=mpp), address_path=None, port=port,
        say=say,
    )  # fmt: skip


def _show_page(request: Request) -> Response:
    model: Model = request.app.state.model
    page = _templates.get_template("serve.html").render(
        model=describe_model(model.record), population=POPULATIONS[model.record.population],
        most_mb=RULES.largest_body // 10**6,
    )  # fmt: skip
    return Response(page, media_type="text/html")


def _send_asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS or _templates.loader is None:
        raise HTTPException(404, "no such file")
    return Response(_templates.loader.get_source(_templates, name)[0], media_type=ASSETS[name])


async def _predict(request: Request) -> Response:
    """Answer for the image in the body: 422 where it is none that can be read."""
    state, query = request.app.state, request.query_params
    wanted = [name for name in ("map", "picture") if query.get(name) == "1"]
    async with state.turns.wait():
        with tempfile.TemporaryDirectory(prefix="smalti-") as room:  # which only the owner can enter
            path = Path(room, "image")
            try:
                async with asyncio.timeout(READ_S):
                    await _keep_body(request, path)
            except TimeoutError:
                raise HTTPException(408, f"the image did not arrive within {READ_S:.0f} s") from None
            except ClientDisconnect:
                return Response(status_code=400)  # nobody is there to read it
            work = functools.partial(make_reply, state.model, path, mpp=state.mpp, wanted=wanted)
            reply = await state.turns.score(work)
    return JSONResponse(reply, 422 if reply["scores"] is None else 200)


async def _keep_body(request: Request, path: Path) -> None:
    size = 0
    with path.open("wb") as file:
        async for piece in request.stream():
            size += len(piece)
            if size > RULES.largest_body:  # whatever its header said
                raise HTTPException(413, "too long")
            file.write(piece)
