"""Cambricon MLU220, MLU270, MLU290, MLU370 and CE3226 targets for accel."""
