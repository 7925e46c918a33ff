"""Records of what leaves a run: the model, and its answers for new images."""
