"""Vendors' compilers in environments of their own: found, installed, proven and driven from here."""
