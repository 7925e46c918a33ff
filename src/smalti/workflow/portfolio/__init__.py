"""A portfolio: its plan, its forecast, its members, their shares."""
