"""Sections of pages: each builds blocks from records."""
