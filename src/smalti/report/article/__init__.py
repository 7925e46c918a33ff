"""The LaTeX article."""
