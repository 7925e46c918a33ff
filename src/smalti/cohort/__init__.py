"""Read and validate a data folder: three layouts, recognised without being told; all that is wrong at once.

    challenge      train_data/img_0000.png + mask_0000.png, train_labels.csv; test_data/, sample_submission.csv,
                   cases.csv if present
    table          a CSV with a column of images and a column of labels; mask, case and part columns if present
    class-folders  root/<class>/*.png, or root/train/<class>/ and root/test/; folders of cases and sites above and below
                   and a table of images and cases if present

Every file that is none of a sample, a mask or a table is told in one note, by kind and count (`smalti.cohort.unused`).
Nothing is written and no source file is changed.
"""

from .fresh import FreshImages, list_fresh
from .inspection import inspect_folder, read_cohort
from .layouts.feature_table import sniff_table
from .result import Columns

__all__ = ["Columns", "FreshImages", "inspect_folder", "list_fresh", "read_cohort", "sniff_table"]
