"""The layouts of a data folder: challenge, table, class folders."""
