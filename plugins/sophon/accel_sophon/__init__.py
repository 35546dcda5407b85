"""Sophon BM1684, BM1684X, BM1688, CV186X and BM1682 targets for accel."""
