"""The section about training: two phases, and what is learned beside the labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ..types import Sampling
from .section import MOST_EPOCHS, MOST_IMAGES, MOST_TILES, Option, Section

BALANCING_LOSSES = ("logit_adjusted",)  # class weights beside them would correct twice


class Phase(Section):
    """What both phases of training have in common."""

    epochs: int = Field(60, ge=0, le=MOST_EPOCHS, description="maximum number of epochs; 0 skips the phase")
    batch_images: int = Field(32, gt=0, le=MOST_IMAGES, description="images (bags) per step")
    sampling: Sampling = Field(
        "shuffled",
        description="each image once in an epoch, or drawn so that classes, cases, or both count alike",
    )
    optimiser: str = Field("adamw", description="any optimiser that timm lists, by its own name")
    lr: float | None = Field(
        None,
        gt=0,
        description="learning rate of the head; null: AdamW's 3e-3 in transfer and 3e-4 in finetune, for Lion, RAdam, "
        "Ranger and SGD in the proportion of their papers; for others see rate_test",
    )
    rate_test: bool = Field(
        False, description="take the rate from a range test on the training images of each fold instead"
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="weight decay; null: AdamW's 0.01, for Lion, RAdam, Ranger and SGD in step with their rate",
    )
    lookahead: bool = Field(False, description="slow weights around the optimiser")
    sharpness: float = Field(
        0.0, ge=0, description="radius of sharpness-aware minimisation around the optimiser; 0 leaves it out"
    )
    warmup_epochs: int = Field(0, ge=0, le=MOST_EPOCHS, description="epochs in which the rate rises to its full height")
    schedule: Literal["cosine", "plateau", "onecycle", "constant"] = Field(
        "cosine", description="cosine to zero; plateau: ReduceLROnPlateau on the inner loss; onecycle; constant"
    )
    averaging: Literal["none", "ema", "swa", "soup"] = Field(
        "none",
        description="weights that are looked at: the last; their exponential mean; the mean of the second half's "
        "epochs; at the end, the mean of epochs that lowers the inner loss",
    )
    accumulate: int = Field(
        1, gt=0, le=MOST_IMAGES, description="batches whose gradients make one step; each is normalised by itself"
    )
    average_decay: float = Field(0.99, gt=0, lt=1, description="decay of the exponential mean, for one step")
    patience: int = Field(
        15, gt=0, le=MOST_EPOCHS, description="stop after this many epochs without a better inner loss"
    )
    loss: str = Field("cross_entropy", description="what is minimised (smalti parts)")
    loss_options: tuple[Option, ...] = Field(
        (), description="what the loss takes, as name=value, for example [gamma=1]"
    )
    class_weights: Literal["balanced", "effective", "none"] = Field(
        "balanced", description="weights of the classes in the loss: by counts, by effective numbers, or none"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing of the loss")
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; null leaves gradients alone")

    @property
    def balances(self) -> bool:
        """Return whether sampling or loss makes the classes count alike by itself."""
        return self.sampling.startswith("balanced") or self.loss in BALANCING_LOSSES

    @model_validator(mode="after")
    def _check_schedule(self) -> Phase:
        if self.optimiser.startswith("schedulefree") and (self.schedule, self.averaging) != ("constant", "none"):
            raise ValueError(f"{self.optimiser} wants schedule=constant and averaging=none: it averages by itself")
        if self.balances and self.class_weights != "none":
            part = f"loss={self.loss}" if self.loss in BALANCING_LOSSES else f"sampling={self.sampling}"
            raise ValueError(f"{part} balances the classes already: set class_weights=none beside it")
        if self.warmup_epochs and self.warmup_epochs >= self.epochs > 0:
            raise ValueError("warmup_epochs must be fewer than epochs")
        return self


class Transfer(Phase):
    """The backbone is frozen; its features are computed once."""

    views: int = Field(
        1, ge=1, le=8, description="stored views of each tile: the plain one and views-1 flips and turns"
    )
    tiles_per_image: int | None = Field(
        None,
        gt=0,
        le=MOST_TILES,
        description="most tiles drawn from a bag at each step, for a pooler that learns; null takes all",
    )
    tile_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of these tiles left out at each step, for a pooler that learns"
    )
    bag_mixing: float = Field(
        0.0,
        ge=0,
        description="alpha of the shares by which two bags become one, for a pooler that learns; 0 mixes nothing",
    )


class Finetune(Phase):
    """The backbone is opened stage by stage, from the head down."""

    epochs: int = Field(12, ge=0, le=MOST_EPOCHS, description="maximum number of epochs; 0 skips the phase")
    batch_images: int = Field(8, gt=0, le=MOST_IMAGES, description="images (bags) per step")
    patience: int = Field(
        5, gt=0, le=MOST_EPOCHS, description="stop after this many epochs without a better inner loss"
    )
    tiles_per_image: int = Field(4, gt=0, le=MOST_TILES, description="tiles drawn from a bag at each step")
    bag_mixing: float = Field(
        0.0, ge=0, description="alpha of the shares by which the drawn tiles of two bags become one; 0 mixes nothing"
    )
    pixel_mixing: Literal["none", "mixup", "cutmix", "mask_cutmix"] = Field(
        "none",
        description="tiles of two images as one: mean of pixels; a pasted box; of the box, what is under the mask",
    )
    pixel_alpha: float = Field(1.0, gt=0, description="alpha of the shares of pixel_mixing; small ones mix little")
    stages: int = Field(
        3, ge=1, le=1000, description="equal steps in which the backbone is opened; 1 opens all at once"
    )
    layer_decay: float = Field(0.7, gt=0, le=1, description="rate of a layer group relative to the one above it")
    augmentation: str = Field("flips_colour", description="augmentation of the tiles (smalti parts)")
    augmentation_options: tuple[Option, ...] = Field(
        (), description="what the augmentation takes, as name=value, for example [count=3] (smalti parts)"
    )
    policy_search: str | None = Field(
        None,
        description="way to learn a policy of augmentation in each fold, in the place of augmentation (smalti parts); "
        "null learns none",
    )
    policy_options: tuple[Option, ...] = Field(
        (), description="what the search takes, as name=value, for example [trials=50] (smalti parts)"
    )
    consistency: float = Field(
        0.0,
        ge=0,
        description="weight of the divergence between predictions for a tile as it is and for two augmented ones "
        "(AugMix: 12); three tiles in the place of one",
    )
    strength_start: float = Field(0.2, ge=0, le=1, description="strength at the first epoch, 0 none to 1 strong")
    strength_end: float = Field(0.6, ge=0, le=1, description="strength at the last epoch")

    @model_validator(mode="after")
    def _check_mixing(self) -> Finetune:
        if self.bag_mixing and self.pixel_mixing != "none":
            raise ValueError("bag_mixing and pixel_mixing mix the same tiles: set one of them")
        if self.policy_options and self.policy_search is None:
            raise ValueError("policy_options say how to search, and no search is asked for: set policy_search=density")
        if self.consistency and self.pixel_mixing != "none":
            raise ValueError("consistency compares views of one tile, which pixel_mixing mixes: set one of them")
        return self


class Pretrain(Section):
    """The backbone goes on learning from the tiles of the training cases, without labels, before phase transfer."""

    method: str | None = Field(None, description="what is learned (smalti parts); null skips the phase")
    options: tuple[Option, ...] = Field(
        (), description="what the method takes, as name=value, for example [smoothing=0.8] (smalti parts)"
    )
    epochs: int = Field(10, ge=1, le=MOST_EPOCHS, description="passes over the tiles")
    batch_tiles: int = Field(64, ge=2, le=MOST_TILES, description="tiles per step")
    tiles_per_image: int | None = Field(
        None, gt=0, le=MOST_TILES, description="most tiles of an image that teach, an even choice; null takes all"
    )
    lr: float = Field(1e-4, gt=0, description="learning rate of the backbone, AdamW")
    head_rate: float = Field(10.0, gt=0, description="rate of the head that is thrown away, relative to it")
    weight_decay: float = Field(0.05, ge=0, description="weight decay")
    stain: float = Field(0.3, ge=0, le=1, description="how far the amounts of stain vary between views")
    crop: float = Field(0.8, gt=0, le=1, description="least share of a tile's side that a view shows; 1 crops nothing")
    beside: float = Field(
        0.5, ge=0, le=1, description="how often the second view is a tile beside the first, in the same image"
    )
    turns: int = Field(
        3, ge=2, le=5, description="parts of the inner cases that the gate holds out in turns; each is a pretraining"
    )
    transductive: bool = Field(
        False, description="unlabelled images teach as well, never sealed ones; the report says so"
    )


class Gate(Section):
    """What was tried is kept only where the inner cases say that it helps."""

    # YAML reads the bare word off as false.
    keep: Annotated[Literal["off", "if-better", "always"], BeforeValidator(lambda v: "off" if v is False else v)] = (
        Field(
            "if-better",
            description="off: nothing is tried; if-better: a part is kept in a fold where the lower end of its gain on "
            "inner cases is above 0 and the gain at least 0.001; always: it is kept, and only the verdict is written",
        )
    )
    metric: Literal["log_loss", "macro_f1", "balanced_accuracy", "accuracy", "auc"] = Field(
        "log_loss", description="what has to gain; log_loss tells a gain from noise with the fewest cases"
    )
    confidence: float = Field(
        0.9, gt=0.5, lt=1, description="of the interval of the gain; 0.9 keeps what means nothing once in 20 times"
    )
    repeats: int = Field(
        2, ge=1, le=20, description="times that the inner cases are dealt to turns, each with trainings of its own"
    )


class Pseudo(Section):
    """Unlabelled images teach with the labels that a solved head gives them."""

    rounds: int = Field(0, ge=0, le=3, description="rounds of labelling and learning, each behind the gate; 0 none")
    weight: float = Field(0.5, gt=0, le=0.5, description="most that an unlabelled image counts, beside 1 of a label")
    share_frac: float = Field(0.5, gt=0, le=1, description="most of the unlabelled images that a round accepts")
    agreement_frac: float = Field(
        1.0, ge=0, le=1, description="heads of other cases that must give an image the same class"
    )
    prior: Literal["estimated", "labelled"] = Field(
        "estimated",
        description="shares of the classes among the unlabelled, by which a round fills its quotas: estimated by EM, "
        "or those of the labelled images",
    )
    sharpness: float = Field(
        2.0,
        ge=1,
        le=100,
        description="power that soft labels are raised to before they teach; 1 leaves them as they are",
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="share of the embedding of an unlabelled image that is blanked when it teaches"
    )
    unlike_frac: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="an unlabelled image is left out whose nearest labelled image is farther than that of all but this "
        "share of the labelled; 0 leaves none out",
    )


class Synthesis(Section):
    """Images that are drawn along masks from the training cases of a fold teach beside the real ones."""

    method: str | None = Field(None, description="how images are drawn (smalti parts); null draws none")
    options: tuple[Option, ...] = Field(
        (), description="what the way of drawing takes, as name=value, for example [edge_px=2] (smalti parts)"
    )
    weight: float = Field(0.5, gt=0, le=1, description="what a drawn image counts, beside 1 of a real one of its class")


class Noise(Section):
    """Labels that may be wrong, for a solved head; behind the gate."""

    method: Literal["none", "bootstrap", "small_loss"] = Field(
        "none",
        description="bootstrap: a label is mixed with the scores of heads that did not have the case (Reed et al. "
        "2015); small_loss: labels that these find least likely are set aside (Han et al. 2018)",
    )
    given_frac: float = Field(0.8, ge=0.5, le=1, description="of a mixed label what was given, for bootstrap")
    aside_frac: float = Field(0.1, ge=0, le=0.5, description="labels of each class that are set aside, for small_loss")


class Train(Section):
    """How the network learns."""

    device: Literal["auto", "cuda", "mps", "cpu"] = Field("auto", description="where to compute")
    devices: int = Field(
        1,
        ge=1,
        le=1024,
        description="devices that fine-tune one network together, each on a share of the images of a step; "
        "--on processes spreads folds over devices, which is the better use of several",
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field("auto", description="number format")
    refit: bool = Field(
        True, description="learn once more from training and inner cases together, with the rates and epochs chosen"
    )
    watch: Literal["transfer", "all", "none"] = Field(
        "transfer",
        description="phases in which the held-out images are scored after each epoch, for the audit after training; "
        "they teach and choose nothing (all: one more forward of the held-out fold per epoch of finetune)",
    )
    pretrain: Pretrain = Pretrain()
    transfer: Transfer = Transfer()
    finetune: Finetune = Finetune()
    noise: Noise = Noise()
    pseudo: Pseudo = Pseudo()
    synthesis: Synthesis = Synthesis()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _check_search(self) -> Train:
        if self.finetune.policy_search is not None and self.finetune.epochs and not self.transfer.epochs:
            raise ValueError(
                "a policy is searched with the network that phase transfer leaves: set transfer.epochs above 0, "
                "or finetune.policy_search=null"
            )
        if self.devices > 1 and not self.finetune.epochs:
            raise ValueError(
                "devices above 1 share the steps of phase finetune, and finetune.epochs is 0: set it above 0, or "
                "devices=1; --on processes spreads folds over devices"
            )
        return self
