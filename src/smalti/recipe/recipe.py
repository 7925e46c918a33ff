"""One experiment as a whole."""

from __future__ import annotations

from typing import NewType

import yaml
from pydantic import Field, model_validator

from .section import Section
from .sections import Audit, Data, Ensemble, Evaluate, Model, Portfolio, Predict, Split, Stain, Tile
from .training import Train


class Recipe(Section):
    """Everything that defines one experiment; one YAML file."""

    preset: str = Field("default", description="the preset that the recipe started from")
    data: Data = Data()
    audit: Audit = Audit()
    tile: Tile = Tile()
    stain: Stain = Stain()
    split: Split = Split()
    model: Model = Model()
    train: Train = Train()
    predict: Predict = Predict()
    ensemble: Ensemble = Ensemble()
    portfolio: Portfolio = Portfolio()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.train.transfer.epochs == 0 and self.train.finetune.epochs == 0:
            raise ValueError("train.transfer.epochs and train.finetune.epochs are both 0: nothing would be learned")
        if self.ensemble.members and self.portfolio.members is not None:
            raise ValueError("ensemble.members combines finished runs, and portfolio.members trains its own: drop one")
        if self.model.fusion is not None and (self.train.transfer.bag_mixing or self.train.finetune.bag_mixing):
            raise ValueError("bag_mixing makes one bag of two images, and model.fusion reads the mask of one: drop one")
        if self.model.fusion is not None and self.train.finetune.pixel_mixing != "none":
            raise ValueError("pixel_mixing makes one tile of two, and model.fusion reads the mask of one: drop one")
        if self.model.mask_channel and self.train.finetune.epochs == 0:
            raise ValueError(
                "model.mask_channel learns in finetune only, and train.finetune.epochs is 0: it would do nothing. "
                "Fix: train.finetune.epochs above 0, or model.mask_channel=false"
            )
        return self

    @property
    def own_backbones(self) -> bool:
        """Whether each fold has a backbone of its own, because something opens it."""
        pretrains = self.train.pretrain.method is not None and self.train.gate.keep != "off"
        return self.train.finetune.epochs > 0 or pretrains

    def to_yaml(self) -> str:
        """Return the resolved recipe as YAML; `load_recipe` reads it back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


Settled = NewType("Settled", Recipe)
"""A recipe in which nothing is ``auto`` any more: backbone, head, norm, embedding and rates have their values."""
