"""Messages of the vendor's software, and of ours about it, with what to do."""

from __future__ import annotations

from accel.errors import ErrorHint

HINTS = (
    ErrorHint(
        r"the builder configuration failed",
        "MagicMind refused the builder configuration",
        "builder_config.json has what it was given; keys of --set config=FILE win over ours.",
    ),
    ErrorHint(
        r"no engine for .*: was it built for this card's architecture",
        "the model does not fit this card",
        "Build for the card's own target, and for no more clusters than it has (--cores).",
    ),
    ErrorHint(
        r"MagicMind built no model",
        "MagicMind could not build the network",
        "The log names the operator. A quantised network needs a range for every input of a convolution or matmul.",
    ),
    ErrorHint(
        r"No module named 'magicmind",
        "the SDK's Python does not import magicmind",
        "Name the right interpreter: ACCEL_MAGICMIND_PYTHON=/path/to/python3.7",
        "toolchain.broken",
    ),
    ErrorHint(
        r"libcnrt\.so|libmagicmind\w*\.so",
        "a library of the SDK is not found",
        "Set NEUWARE_HOME to the SDK's folder; its lib64 must hold the library.",
        "toolchain.broken",
    ),
)
