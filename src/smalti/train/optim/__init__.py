"""Optimisers, losses, schedules, averages of weights, learning rates."""
