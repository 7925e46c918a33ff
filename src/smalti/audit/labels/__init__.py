"""Labels compared with what was learned without them."""
