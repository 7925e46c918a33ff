"""Parts of a run as units of work, which another process or machine does ahead of the command that needs them."""
