"""Encoders of tiles: one record each, and how their networks are made and their weights fetched."""
