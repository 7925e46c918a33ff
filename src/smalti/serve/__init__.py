"""Answer for one image at a time on this computer: a page for people, and an endpoint for programs."""

from .service import make_app, serve

__all__ = ["make_app", "serve"]
