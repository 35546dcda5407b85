"""Cambricon PyTorch for MLU220 and MLU270: quantise on the CPU, trace, save offline models."""
