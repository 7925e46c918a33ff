"""Look at findings and images on a local page, and decide; nothing but ``decisions.csv`` is written."""

from .desk import Card, Desk
from .insight import Insight, read_insight
from .server import make_app, serve

__all__ = ["Card", "Desk", "Insight", "make_app", "read_insight", "serve"]
