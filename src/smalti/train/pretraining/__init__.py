"""Phase ``pretrain``: the backbone goes on learning from the user's own tiles, without labels."""

from . import methods  # noqa: F401 - importing it registers the methods
from .demands import check_pretraining
from .objective import PRETRAININGS
from .unlabelled_loop import Pretrained, pretrain
from .views import TileViews

__all__ = ["PRETRAININGS", "Pretrained", "TileViews", "check_pretraining", "pretrain"]
