"""Parts that import, and are wrong in other ways."""
