"""Which files are masks, and how they are meant."""
