"""The streaming histogram and the methods that turn it into thresholds."""
