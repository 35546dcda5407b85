"""The command line: one file a command family, thin over driver.py."""
