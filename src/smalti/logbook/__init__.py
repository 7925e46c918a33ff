"""All runs of a project in one table, and the one that is best by a stated rule."""
