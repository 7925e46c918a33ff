"""Which decisions belong to a data folder, and which may have been made with predictions in view."""
