"""Every knob of an experiment: frozen sections, unknown keys refused, one description per field.

A recipe is a named preset, plus a YAML file or ``--set section.knob=value`` on top of it.
"""

from .automatic import AUTO, GIVEN, PLAIN_POOLERS, SOLVED, STEPPED, STEPS, list_turned, settle_backbone, settle_choices
from .documents import list_documents, load_document
from .given import NO_PIXELS, needs_pixels, settle_given
from .loading import change_recipe, list_knobs, load_recipe, overlay_recipe
from .portfolios import Member, check_portfolio, load_portfolio, settle_portfolio
from .recipe import Recipe, Settled
from .section import Section
from .sections import Audit, Data, Ensemble, Evaluate, Model, Portfolio, Predict, Split, Stain, Tile
from .training import Finetune, Gate, Noise, Phase, Pretrain, Pseudo, Synthesis, Train, Transfer

__all__ = [
    "AUTO", "GIVEN", "NO_PIXELS", "PLAIN_POOLERS", "SOLVED", "STEPPED", "STEPS", "Audit", "Data", "Ensemble",
    "Evaluate", "Finetune", "Gate", "Member", "Model", "Noise", "Phase", "Portfolio", "Predict", "Pretrain", "Pseudo",
    "Recipe", "Section", "Settled", "Split", "Stain", "Synthesis", "Tile", "Train", "Transfer", "change_recipe",
    "check_portfolio", "list_documents", "list_knobs", "list_turned", "load_document", "load_portfolio", "load_recipe",
    "needs_pixels", "overlay_recipe", "settle_backbone", "settle_choices", "settle_given", "settle_portfolio",
]  # fmt: skip
