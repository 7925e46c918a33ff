"""Masks: their files, and their meaning."""
