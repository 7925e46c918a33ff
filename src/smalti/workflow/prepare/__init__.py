"""From a recipe and a data folder to an experiment, before anything is trained."""
