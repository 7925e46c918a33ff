"""Where everything lies: the names of all files and folders of runs, ladders, searches, learning curves and caches.

Each name is a path below its folder: ``run / OUT_OF_FOLD``. No other module spells one.
"""

from __future__ import annotations

from pathlib import PurePosixPath

# A run folder.
RECIPE = "recipe.yaml"  # the resolved recipe
PLAN = "plan.yaml"  # of a portfolio: what it chose and why
CLOCK = "clock.json"
ENVIRONMENT = "environment.json"
COHORT = "cohort.json"
POPULATION = "population.json"  # what the training images are
POPULATION_POINTS = "population.npz"  # likewise, the numbers of each
SAMPLES = "samples.csv"
CASES = "cases.csv"  # image, and the case that the data names, also of images that decisions have left out
DECISIONS = "decisions.csv"
FINDINGS = "findings.json"
INFLUENCE = "influence.json"
FOLDS = "folds.csv"
EVENTS = "events.log"
STAIN = "stain.json"
HISTORY = "history.csv"
DIVERGED = "diverged.csv"  # folds whose weights became NaN
PRETRAINING = "pretraining.json"  # what each fold learned without labels
TRIED_HEADS = "heads.csv"  # strengths that were tried for heads that are solved
GATE = "gate.json"  # what was tried on inner cases, and whether it was kept
PSEUDO = "pseudo.csv"  # unlabelled images that taught, or would have
OPERATIONS = "operations.csv"  # augmentations that were tried
MEMBERS = "members.csv"  # of a portfolio
SCORES = "scores.json"
OPERATING = "operating.json"  # of two classes: decision curve, operating points
SITES = "sites.json"
SUSPECTS = "suspects.json"
TRACES = "traces.json"
EXPLANATION = "explanation.json"
SUBMISSION = "submission.csv"
REPORT = "report.html"
EXPERIMENT = "experiment.json"  # from which units of work elsewhere open it; only while they run
DONE = "done.json"  # in the folder of a member of a portfolio: it is finished

CHECKPOINTS = "checkpoints"
POLICIES = "policies"
FIGURES = "figures"
HEATMAPS = "heatmaps"
SITE_RUNS = "sites"  # networks of site-out folds, only while they are trained
MEMBER_RUNS = "members"  # folders of the members of a portfolio
PREDICTIONS = "predictions"

AUGMENTATION_PICTURE = f"{FIGURES}/augmentation.png"
TILE_SHEET = f"{FIGURES}/tiles.png"
DRAWN_SHEET = f"{FIGURES}/drawn-images.png"

OUT_OF_FOLD = f"{PREDICTIONS}/out_of_fold.csv"
INNER = f"{PREDICTIONS}/inner.csv"
TEST = f"{PREDICTIONS}/test.csv"
SEALED = f"{PREDICTIONS}/sealed.csv"
SITE_OUT = f"{PREDICTIONS}/site_out.csv"  # of each image by networks that saw nothing of its site
SITE_FOLDS = f"{PREDICTIONS}/site_out.json"
AS_GIVEN = f"{PREDICTIONS}/as_given.csv"  # under the labels as given, where decisions may follow predictions
BY_CASE = f"{PREDICTIONS}/by_case.csv"
TEST_BY_CASE = f"{PREDICTIONS}/test_by_case.csv"
RULES = f"{PREDICTIONS}/rules.json"
ENSEMBLE = f"{PREDICTIONS}/ensemble.json"
DYNAMICS = f"{PREDICTIONS}/dynamics.npz"
EMBEDDINGS = f"{PREDICTIONS}/embeddings.npz"
ATTENTION = f"{PREDICTIONS}/attention.npz"
FOLD_TABLES = f"{PREDICTIONS}/folds"
EXPLAINED = f"{PREDICTIONS}/explained"  # what one pass finds about an image

UNITS = "units.jsonl"  # what became of each unit of work, in the folder that its files are in

# A ladder, a search, a learning curve, a comparison.
LADDER = "ladder.json"
LADDER_RECIPE = "ladder.yaml"
RUNGS = "rungs"
FAILURES = "failures"  # what Python said, one file a rung
LADDER_DECISIONS = "decisions"
TUNE = "tune.json"
TRIALS = "trials.csv"
TRIAL_RUNS = "trials"  # of a search, one folder a trial, only while it runs
OUTER_RUNS = "outer"  # of a search, one folder for each outer fold and recipe
JOURNAL = "trials.journal"  # what optuna knows of a search
CURVES = "curves.csv"
LEARN = "learn.json"
LEARN_TABLE = "learn.csv"
PARTS = "parts"
PART_SCORES = "scores.csv"  # in the folder of a fold and order of a learning curve
PART_TAUGHT = "taught.csv"  # likewise: scores of the training images
PREPARED = "prepared"  # the run folder inside a search or a learning curve
COMPARISON = "comparison.json"
ARTICLE = "article"
ARTICLE_ZIP = "article.zip"
RUNS_REPORT = "report"  # in the folder of all runs: the page about many runs

# After the name of an image in the folder of heat maps: of the shown class; Grad-CAM of it, and of the label.
HEATMAP, HEATMAP_GRADCAM, HEATMAP_GRADCAM_LABEL = ".png", ".gradcam.png", ".gradcam-label.png"
HEATMAP_OUTLINES = ".geojson"
HEATMAP_TABLE = ".csv"  # of tiles of features, which have no picture

# The folder of all runs.
BEST = "best.json"
SEAL_SUFFIX = ".seal.json"  # after the name of the data folder
DECISIONS_SUFFIX = ".decisions.csv"  # likewise

# The cache.
HASHES = "hashes.json"  # of files, by size and time
FEATURES = "features.json"
FEATURE_VALUES = "features.f32"
POOLED, POOLED_VALUES = "pooled", "pooled.npz"  # of a cohort of features: one embedding a bag
POINTS = "embeddings"  # of whole images, for the audit

# A model folder: what leaves a run.
MODEL = "model"  # in the run folder
MODEL_RECORD = "model.json"
MODEL_CARD = "README.md"
MODEL_WEIGHTS = "weights"
MODEL_RECIPES = "recipes"
TAUGHT_FEATURES, TAUGHT_POINTS = "bags.json", "bags.npz"  # of a model on given features

# A folder of answers for new images.
ANSWERS = "predictions.csv"
ANSWERS_BY_CASE = "by_case.csv"
ANSWERS_ABOUT = "predictions.json"  # of which model and folder
EXTERNAL = "external.json"  # scores, where the new images have labels
EXTERNAL_PAGE = "external.html"
ANSWERED = "answered.jsonl"  # one line for each image that is done, from which an interrupted command goes on
ANSWER_MAPS = "maps"  # pictures of where the evidence of each answer lies

# A folder of encoded slides.
ENCODING = "encoding.json"  # in the folder of an encoder: what its features stand on
ENCODED = "encoded.csv"  # likewise: one row a slide
ENCODED_SLIDES = "slides"  # likewise: what is known of each slide that is done
PLACES = "coords"  # beside the folders of encoders: tiles of each slide, for every encoder
PLACES_RECORD = f"{PLACES}/rules.json"

AUDIT_SUFFIX = ".audit"  # folder of the audit of a data folder, beside the runs

# A store of tiles in the cache.
TILES_PREFIX = "tiles-"  # of its folder, before its key
TILE_STORE = "store.json"
TILE_INDEX = "index.npz"
TILE_PIXELS = "tiles.u8"
TILE_MASKS = "masks.u1"
TILE_RASTERS = "rasters.u8"
MASK_SHAPES = "shapes.npz"  # of whole masks
STAINED_PIXELS = "stained.u8"


def name_prediction(table: str) -> str:
    """Return the path of a prediction table, such as ``out_of_fold``."""
    return f"{PREDICTIONS}/{table}.csv"


def name_fold_table(part: str, split: str) -> str:
    """Return the path of the predictions of one fold, from which an interrupted run goes on."""
    return f"{FOLD_TABLES}/{part}-{split}.csv"


def name_checkpoint(split: str) -> str:
    """Return the path of the weights of a fold and seed, such as ``fold0-seed0``."""
    return f"{CHECKPOINTS}/{split}.safetensors"


def name_network(member: str, split: str) -> str:
    """Return the path, in a model folder, of the weights of a member in one fold and seed."""
    return f"{MODEL_WEIGHTS}/{member}/{split}.safetensors"


def name_frozen(digest: str) -> str:
    """Return the path, in a model folder, of a frozen backbone; members that share it share the file."""
    return f"{MODEL_WEIGHTS}/backbone-{digest}.safetensors"


def name_model_recipe(member: str) -> str:
    """Return the path, in a model folder, of the resolved recipe of a member."""
    return f"{MODEL_RECIPES}/{member}.yaml"


def name_heatmap(image: str, suffix: str) -> str:
    """Return the path of a heat map, or of what is written beside it, by the name of the image."""
    return f"{HEATMAPS}/{PurePosixPath(image).with_suffix(suffix).as_posix()}"


def name_map(image: str) -> str:
    """Return the path of the map of an answer by the name of the image, whose own suffix stays: ``a.tif`` beside
    ``a.png``."""
    return f"{ANSWER_MAPS}/{image}.png"


def name_encoded(image: str) -> str:
    """Return the path, in the folder of an encoder, of what is known of a slide that is done."""
    return f"{ENCODED_SLIDES}/{image}.json"


def name_places(image: str) -> str:
    """Return the path, beside the folders of encoders, of the tiles of a slide."""
    return f"{PLACES}/{image}.coordinates.npz"


def name_checklist(name: str, suffix: str) -> str:
    """Return the path of an answered checklist, such as ``tripod-ai``, as a page or as LaTeX."""
    return f"checklist-{name}{suffix}"


def name_policy(split: str) -> str:
    """Return the path of the augmentation policy that a fold has learned."""
    return f"{POLICIES}/{split}.yaml"


def name_refusal(split: str) -> str:
    """Return where a unit notes that training refused a fold."""
    return f"{CHECKPOINTS}/{split}.refused.progress"


def name_share(key: str) -> str:
    """Return what says that a share of images is explained."""
    return f"{EXPLAINED}/{key}.done"


def name_dynamics(split: str) -> str:
    """Return the path of the training dynamics of a fold; there is no file where nothing was watched."""
    return f"{FOLD_TABLES}/dynamics-{split}.npz"


def name_stain_frames(method: str) -> str:
    """Return the file of a store of tiles with the stain frames by one method."""
    return f"stain-{method}.npz"
