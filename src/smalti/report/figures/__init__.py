"""Figures, pictures and sheets of tiles."""
