"""Poolers: from the tiles of a bag to one embedding."""
