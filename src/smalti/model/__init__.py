"""What leaves a run: one folder with weights, rules and everything that prediction needs."""

from .answering import FolderAnswers, answer_folder, average_answers, list_columns
from .bundle import (
    export_model,
    find_model,
    find_obstacle,
    read_model,
    read_recipes,
    read_weights,
    write_combination,
    write_networks,
)
from .forms.export import FORMS, Exported, Form, export_form
from .mapping import TileMap
from .population import describe_population, fit_doubt
from .predicting import Answer, Drawn, Model, load_model, tabulate_answers
from .taught_bags import describe_bags

__all__ = [
    "FORMS", "Answer", "Drawn", "Exported", "FolderAnswers", "Form", "Model", "TileMap", "answer_folder",
    "average_answers", "describe_bags", "describe_population", "export_form", "export_model", "find_model",
    "find_obstacle", "fit_doubt", "list_columns", "load_model", "read_model", "read_recipes", "read_weights",
    "tabulate_answers", "write_combination", "write_networks",
]  # fmt: skip
