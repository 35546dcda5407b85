"""Passes between parse and calibrate: each a function from model to model, float-equivalent within a stated bound."""
