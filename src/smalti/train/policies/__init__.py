"""Augmentation policies: searched inside a fold."""
