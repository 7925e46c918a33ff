"""What a run is worth in use, and what was kept in its making, beside its scores."""
