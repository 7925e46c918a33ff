"""What leaves a run: one folder with weights, rules and everything that prediction needs."""
