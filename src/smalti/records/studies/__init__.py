"""What is made of several runs: ladders, searches, learning curves, comparisons, seals, the run called best."""
