"""Masks as planes of 0 and 1."""
