"""What networks take from the mask: a branch, a fusion, a fourth channel."""
