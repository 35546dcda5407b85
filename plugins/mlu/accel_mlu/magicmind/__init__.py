"""MagicMind: builder configuration, the SDK's toolchain, build, run and performance."""
