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
from .predicting import Answer, Drawn, Model, load_model, tabulate_answers

__all__ = [
    "Answer", "Drawn", "Model", "export_model", "find_obstacle", "load_model", "read_model", "read_recipes",
    "read_weights", "tabulate_answers", "write_combination", "write_networks",
]  # fmt: skip
