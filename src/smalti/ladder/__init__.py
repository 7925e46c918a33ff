"""Recipes in order, each changing one thing, compared rung by rung."""
