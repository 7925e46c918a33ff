"""Images compared with each other: which show the same field."""
