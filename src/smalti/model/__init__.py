"""What leaves a run: one folder with weights, rules and everything that prediction needs."""

from .bundle import (
    export_model,
    find_obstacle,
    read_model,
    read_recipes,
    read_weights,
    write_combination,
    write_networks,
)

__all__ = [
    "export_model", "find_obstacle", "read_model", "read_recipes", "read_weights", "write_combination",
    "write_networks",
]  # fmt: skip
