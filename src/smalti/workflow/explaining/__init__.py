"""Explain a finished run."""
