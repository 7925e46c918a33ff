"""Tables of a data folder: their text, their columns, their rows and names."""
