"""The licences of code, weights and data sets: what each allows, where that is known."""

from .ledger import (
    Permission,
    Row,
    count_open,
    find_data,
    find_encoder_row,
    find_weights,
    list_code,
    list_datasets,
    list_weights,
    read_code,
)

__all__ = [
    "Permission", "Row", "count_open", "find_data", "find_encoder_row", "find_weights", "list_code",
    "list_datasets", "list_weights", "read_code",
]  # fmt: skip
