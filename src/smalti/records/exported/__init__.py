"""What leaves a run with its model."""
