"""What a run is worth in use, beside its scores."""
