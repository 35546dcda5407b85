"""Readers of network files: each makes a checked ONNX model."""
