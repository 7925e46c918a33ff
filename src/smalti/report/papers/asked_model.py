"""Answer what checklists ask about the model: input, network, training, choice, output, software."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..blocks import count_things
from ..contents import RunRecord
from .answer import Answer
from .licensed import SCRATCH, list_used_weights, read_knobs, say_members


def answer_predictors(record: RunRecord) -> Answer | None:
    """Say that pixels, or given features, are the only predictors."""
    if record.recipe is None:
        return None
    if (encoder := find_encoder(record)) is not None:
        return Answer(f"{_say_features(encoder)}; no other predictor was given to the model.", "recipe")
    return Answer("Pixels of the images alone; no other predictor was given to the model.", "recipe")


def answer_input(record: RunRecord) -> Answer | None:
    """Say what a tile is, and what scale is known."""
    knobs = read_knobs(record)
    if (encoder := find_encoder(record)) is not None:
        return Answer(f"{_say_features(encoder)}; new slides need the same.{say_members(record)}", "recipe")
    if "tile.source" not in knobs:
        return None
    size = f"{knobs['tile.size_px']} px" if knobs["tile.size_px"] else "the size that the network takes"
    field = f"; a tile shows {knobs['tile.field_px']} px of the image" if knobs["tile.field_px"] else ""
    mpp = knobs["tile.mpp"]
    scale = f"{mpp} microns per pixel" if mpp else "pixels as they are; microns per pixel were not asked for"
    return Answer(
        f"Colour images, read as {knobs['tile.source']} of {size}{field}; scale: {scale}.{say_members(record)}",
        "recipe",
    )


def answer_preprocessing(record: RunRecord) -> Answer | None:
    """Say what happens between a file and the network."""
    found = answer_input(record)
    if found is None or find_encoder(record) is not None:
        return found
    stain = "Stain as it came"
    if record.stain is not None:
        stain = f"Stain normalised ({record.stain.normalise}) to the training cases of each fold"
    return Answer(f"{found.text} {stain}; values scaled as the network's weights expect.", "recipe")


def find_encoder(record: RunRecord) -> str | None:
    """Return the encoder of features that were made elsewhere, empty where nothing says it; None of images."""
    return None if record.cohort is None else record.cohort.encoder


def _say_features(encoder: str) -> str:
    said = f"encoder {encoder}" if encoder else "of an encoder that the files do not name"
    return f"Features of tiles that were made before and elsewhere, {said}"


def answer_model(record: RunRecord) -> Answer | None:
    """Say which network reads tiles, how a bag becomes one embedding, and which head scores it."""
    knobs = read_knobs(record)
    if record.members is not None:
        done = record.members[record.members["status"] == "done"]
        names = ", ".join(str(name) for name in done["member"])
        return Answer(f"A portfolio of {count_things(len(done), 'member')}: {names}; each with its settings.", "plan")
    if "model.backbone" not in knobs:
        return None
    tuned = int(knobs["train.finetune.epochs"])
    learns = f"the backbone is fine-tuned for up to {tuned} epochs" if tuned else "the backbone stays frozen"
    if knobs.get("train.pretrain.method"):
        learns = f"the backbone goes on learning from tiles without labels where that is kept; then {learns}"
    return Answer(
        f"Multiple-instance classification: each tile through {knobs['model.backbone']} (embedding: "
        f"{knobs['model.embedding']}, normalisation: {knobs['model.norm']}), tiles of an image pooled by "
        f"{knobs['model.pooler']}, head: {knobs['model.head']}; {learns}. Every knob is in the recipe.",
        "recipe",
    )


def answer_software(record: RunRecord) -> Answer | None:
    """Say versions and machine."""
    found = record.environment
    if found is None:
        return None
    versions = ", ".join(f"{name} {version}" for name, version in list(found.libraries.items())[:4])
    device = f"; {found.device['name']}" if "name" in found.device else ""
    return Answer(f"Python {found.python}, {versions} and others{device}.", "environment")


def answer_initial(record: RunRecord) -> Answer | None:
    """Say where weights come from, with their licence."""
    used = list_used_weights(record)
    if not used:
        return None
    texts = [
        "No weights were loaded, so that none bring a licence: the network began from scratch"
        if row is SCRATCH
        else f"{row.title or row.name}: {came or 'where they came from is not recorded'}; licence {row.licence}"
        for row, came in used
    ]
    return Answer(f"{'. '.join(texts)}.", "licences")


def answer_training(record: RunRecord) -> Answer | None:
    """Say how the head, and the backbone where it learned, were trained."""
    knobs = read_knobs(record)
    if "train.transfer.epochs" not in knobs:
        return None
    if knobs["model.head"] == "steps":
        text = _say_phase(knobs, "transfer")
    else:
        text = f"Head {knobs['model.head']} was solved on frozen embeddings, class weights " + str(
            knobs["train.transfer.class_weights"]
        )
    if knobs["train.finetune.epochs"]:
        text += f". {_say_phase(knobs, 'finetune')}, augmentation {knobs['train.finetune.augmentation']}"
    text += f". Losses by epoch are in the report where there were epochs.{_say_tried(record)}{say_members(record)}"
    return Answer(text, "curves")


def _say_tried(record: RunRecord) -> str:
    """Return what was tried beside the labels, and in how many folds it was kept; empty where nothing was."""
    verdicts = () if record.gate is None else record.gate.verdicts
    parts = [
        f"{part} in {sum(v.kept for v in verdicts if v.part == part)} of {sum(v.part == part for v in verdicts)} folds"
        for part in dict.fromkeys(v.part for v in verdicts)
    ]
    return f" Beside the labels, kept where inner cases gained: {', '.join(parts)}." if parts else ""


def _say_phase(knobs: Mapping[str, Any], phase: str) -> str:
    names = ("optimiser", "lr", "weight_decay", "batch_images", "loss", "class_weights", "schedule")
    found = {name.replace("_", " "): knobs[f"train.{phase}.{name}"] for name in names}
    settings = ", ".join(f"{name} {value}" for name, value in found.items() if value is not None)
    return f"Phase {phase}: up to {knobs[f'train.{phase}.epochs']} epochs, {settings}"


def answer_choice(record: RunRecord) -> Answer | None:
    """Say what chose the model, and that it never scored."""
    if record.folds is None:
        return None
    return Answer(
        "Epochs, strength of solved heads, thresholds, temperatures and shares of an ensemble were chosen on inner "
        "cases "
        "of each fold. Held-out cases chose nothing.",
        "method",
    )


def answer_ensemble(record: RunRecord) -> Answer | None:
    """Say how many networks make an answer."""
    if record.scores is None:
        return None
    number = record.scores.n_folds * record.scores.n_seeds
    of = ", of each member" if record.members is not None else ""
    own = (
        f"An unlabelled image is scored by the mean of {count_things(number, 'network')} (folds times seeds{of}); a "
        "labelled one by those that had not seen its case."
    )
    if record.ensemble is None or not record.ensemble.folds:
        return Answer(own, "method")
    return Answer(f"{own} Members were combined by {record.ensemble.folds[0].method}.", "calibration")


def answer_imbalance(record: RunRecord) -> Answer | None:
    """Say what was done about rare classes."""
    knobs = read_knobs(record)
    if "train.transfer.class_weights" not in knobs:
        return None
    return Answer(
        f"Class weights in the loss: {knobs['train.transfer.class_weights']}; sampling: "
        f"{knobs['train.transfer.sampling']}; "
        f"folds with similar shares; the decision rule is '{knobs['predict.decision']}', calibration "
        f"'{knobs['predict.calibration']}'. The score is macro-F1, to which each class counts "
        f"alike.{say_members(record)}",
        "recipe",
    )


def answer_output(record: RunRecord) -> Answer | None:
    """Say what comes out, and how thresholds were found."""
    knobs = read_knobs(record)
    if record.scores is None or "predict.decision" not in knobs:
        return None
    text = (
        f"A probability of each of {len(record.scores.classes)} classes; the class said is the largest after the rule "
        f"'{knobs['predict.decision']}', fitted on inner images where it is fitted at all."
    )
    if record.operating is not None and record.operating.points:
        return Answer(
            f"{text} Thresholds for stated sensitivity or specificity were chosen on inner images too; none was set "
            "before "
            "the run.",
            "threshold",
        )
    return Answer(text, "calibration")


def answer_predictions(record: RunRecord) -> Answer | None:
    """Say how held-out images were scored."""
    if record.out_of_fold is None:
        return None
    return Answer(
        "Each held-out image was scored once per seed by the network of its fold; the table "
        "predictions/out_of_fold.csv "
        "holds every score.",
        "method",
    )


def answer_updating(record: RunRecord) -> Answer | None:
    """Say that nothing was updated after evaluation."""
    if record.scores is None:
        return None
    text = "The model was not updated after it was evaluated."
    if record.rules is not None and any(not rule.plain for rule in record.rules.rules):
        text += " Rules on its scores were fitted before, on inner images."
    return Answer(text, "calibration")


def answer_specification(record: RunRecord) -> Answer | None:
    """Say where weights and recipe are, and what restricts passing them on."""
    initial = answer_initial(record)
    if initial is None:
        return None
    return Answer(
        "Recipe, weights of every fold (safetensors) and rules are in the run folder; smalti predicts with them. "
        f"{initial.text}",
        "licences",
    )


def answer_code(record: RunRecord) -> Answer | None:
    """Say version and licence of the code, and what repeats the run."""
    if record.environment is None:
        return None
    version = record.environment.libraries.get("smalti", "of unknown version")
    return Answer(
        f"smalti {version}, Apache-2.0. 'smalti run DATA --recipe recipe.yaml' repeats the run; the same data, "
        "recipe and "
        "machine give the same bytes.",
        "environment",
    )


def answer_availability(record: RunRecord) -> Answer | None:
    """Say licences of code, weights and images."""
    code, initial = answer_code(record), answer_initial(record)
    if code is None or initial is None:
        return None
    return Answer(f"{code.text} {initial.text} Where they are published is not known to the run.", "licences")


def answer_development(record: RunRecord) -> Answer | None:
    """Say training and sizes in one answer."""
    trained, score = answer_training(record), record.scores
    if trained is None or score is None:
        return None
    return Answer(
        f"{trained.text} {count_things(score.n_folds, 'fold')} and {count_things(score.n_seeds, 'seed')} of "
        f"{count_things(score.n_cases, 'case')}; no cohort from elsewhere was scored in this run.",
        "folds",
    )


def answer_details(record: RunRecord) -> Answer | None:
    """Say that recipe and events are complete."""
    if record.recipe is None:
        return None
    return Answer(
        "Every knob as it was used is in the recipe; when each stage began and ended is in events.log.", "recipe"
    )


def answer_kept(record: RunRecord) -> Answer | None:
    """Say which outputs are kept."""
    if record.out_of_fold is None:
        return None
    return Answer(
        f"Scores of every image, fold and seed ({len(record.out_of_fold):,} rows), folds, decisions and hashes are "
        "kept in "
        "the run folder, and 'smalti evaluate' computes every number of the report from them again.",
        "environment",
    )
