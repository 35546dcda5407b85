"""Tasks: what outputs mean and how right they are."""
