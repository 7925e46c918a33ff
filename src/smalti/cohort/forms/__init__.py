"""The sample submission: what it asks for, and of which images."""
