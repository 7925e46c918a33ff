"""Phase ``pretrain``: the backbone goes on learning from the user's own tiles, without labels."""

from . import methods  # noqa: F401 - importing it registers the methods
from .checking import check_pretraining
from .learning import Pretrained, pretrain
from .objective import PRETRAININGS
from .views import TileViews

__all__ = ["PRETRAININGS", "Pretrained", "TileViews", "check_pretraining", "pretrain"]
