"""Stands in for scikit-image: pycaffe imports it to load pictures, and is never asked for one here."""
