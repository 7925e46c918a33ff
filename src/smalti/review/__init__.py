"""Look at findings and images on a local page, and decide; nothing but ``decisions.csv`` is written."""

from .insight import Insight, read_insight
from .server import make_app, serve
from .session import Card, ReviewSession

__all__ = ["Card", "Insight", "ReviewSession", "make_app", "read_insight", "serve"]
