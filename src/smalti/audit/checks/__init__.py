"""One file a check, and the registry of all checks."""
