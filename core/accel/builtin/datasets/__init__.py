"""Data sets: folders, list files, archives; and how a picture becomes an input."""
