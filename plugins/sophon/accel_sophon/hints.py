"""What the compiler's messages mean. One table: for the errors we raise and, through the hook, for the driver."""

from __future__ import annotations

import re
from pathlib import Path

from accel.errors import AccelError, ErrorHint
from accel.toolchain.process import Completed

HINTS: tuple[ErrorHint, ...] = (
    ErrorHint(
        r"Op not support:\s*\{?'?(?P<op>[\w.]+)",
        "the Sophon compiler has no operator {op}",
        "Run `accel check` for every node's support; cut the network before it with --output-names, or replace it.",
        "unsupported.op",
    ),
    ErrorHint(
        r"can't open calibration table file",
        "the compiler could not open the calibration table",
        "Build again; the table is written beside the network.",
        "failed.compiler",
    ),
    ErrorHint(
        r"(?:loc\(\"(?P<node>[^\"\n]+)\"\)[^\n]*\n)?can't get scale and zeropoint",
        "a layer has no row in the calibration table",
        "Calibrate again with this version of the model, or use --calibrator vendor.",
        "calibration.missing",
    ),
    ErrorHint(
        r"loc\(\"(?P<node>[^\"]+)\"\): error: (?P<why>[^\n]+)",
        "the compiler refused a layer: {why}",
        "Run `accel check`; keep this layer in float with --node-precision NAME=fp32, or cut the network before it.",
        "failed.compiler",
    ),
    ErrorHint(
        r"(?P<op>\w+)?[^\n]*Not Implemented",
        "the chip has no implementation of an operation at this precision",
        "Try another precision, or keep the layer in float with --node-precision NAME=fp32.",
        "unsupported.precision",
    ),
    ErrorHint(
        r"weight file (?P<file>\S+) (?:not exist|doesn't exist)|(?P<file2>\S+_weight\.npz).*(?:No such file|not exist)",
        "the compiler's weights are not beside its MLIR file",
        "Build again: `accel cache clean` drops a half-deleted transform.",
        "failed.compiler",
    ),
    ErrorHint(
        r"(?P<failed>\d+) failed[\s\S]{0,400}npz compare FAILED|npz compare FAILED",
        "the compiled network differs from float by more than was allowed",
        "See the log for the layers; keep bad layers in float with --node-precision.",
        "accuracy.compare",
    ),
    ErrorHint(
        r"INVALID_ARGUMENT[^\n]*Got invalid dimensions for input: (?P<input>\S+)",
        "the input shape does not fit the network",
        "Give --input-shape that fits the input {input}.",
        "usage.shape",
    ),
    ErrorHint(
        r"assert \(?len\(.*shape|KeyError: '(?P<name>[^']+)'",
        "the compiler could not read the network's shapes ({name})",
        "Check --input-shape: rank and order of the inputs must be those of the model.",
        "failed.compiler",
    ),
    ErrorHint(
        r"invalid choice: '(?P<choice>[^']*)' \(choose from",
        "the compiler does not know {choice!r}",
        "The installed toolchain may be another version: run `accel doctor`.",
        "toolchain.outdated",
    ),
    ErrorHint(
        r"GLIBC_(?P<version>[\d.]+)' not found",
        "the compiler's bundled libraries do not fit this machine",
        "Install it again: accel toolchain remove sophon && accel toolchain install sophon",
        "toolchain.broken",
    ),
    ErrorHint(
        r"ModuleNotFoundError: No module named '(?P<module>[^']+)'",
        "the toolchain lacks the package {module}",
        "Install it again: accel toolchain install sophon",
        "toolchain.broken",
    ),
    ErrorHint(r"No space left on device", "the disk is full", "Free some space and build again.", "failed.disk"),
    ErrorHint(
        r"std::bad_alloc|MemoryError|Killed",
        "the compiler ran out of memory",
        "Build fewer targets at once.",
        "failed.memory",
    ),
    ErrorHint(
        r"Inconsistent kernel module mode",
        "the bmodels hold different kernel modules",
        "Combine artifacts that the same version of the toolchain built.",
        "failed.combine",
    ),
    ErrorHint(
        r"(?P<why>[^\n]+)\nPLEASE submit a bug report",
        "the compiler crashed: {why}",
        "The log has the layer it was at: keep it in float with --node-precision NAME=fp32, or cut before it.",
        "failed.compiler",
    ),
    ErrorHint(
        r"error: (?P<why>[^\n]+)",
        "the compiler failed: {why}",
        "The log has the compiler's own words.",
        "failed.compiler",
    ),
    ErrorHint(
        r"(?:RuntimeError|AssertionError|ValueError|TypeError|IndexError): (?!\[!Error\])(?P<why>[^\n]+)",
        "the compiler failed: {why}",
        "The log has the compiler's own words.",
        "failed.compiler",
    ),
)

SPECIFIC = HINTS[:-3]
"""Those that can be nobody else's message."""


def explain(completed: Completed, what: str, *, kept_log: Path | None = None) -> AccelError:
    """The one error for a tool that failed.

    Args:
        completed: It, with its log.
        what: What it was doing: ``lowering for bm1684``.
        kept_log: Where the log will be kept, when not where it is.
    """
    text = completed.text()
    # Only what the last command wrote: earlier ones in the same log succeeded.
    text = text[text.rfind("\n$ ") + 1 :]
    log = kept_log or completed.log
    for hint in HINTS:
        found = re.search(hint.pattern, text)
        if found is None:
            continue
        groups = {k: v or "" for k, v in found.groupdict().items()}
        return AccelError(
            f"{what}: {hint.summary.format(**groups)}",
            code=hint.code,
            stage="build",
            cause=_last_error(text) or found.group(0)[:300],
            node=groups.get("node", ""),
            hints=[hint.hint.format(**groups)] if hint.hint else [],
            log=log,
        )
    how = f"exit code {completed.rc}" if completed.rc >= 0 else f"signal {-completed.rc}"
    return AccelError(
        f"{what}: the compiler crashed ({how})",
        code="failed.compiler",
        stage="build",
        cause="\n".join([line for line in text.splitlines()[1:] if line.strip()][-4:]),
        hints=["The log has the compiler's own words."],
        log=log,
    )


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if re.search(r"\berror\b|Error|assert|abort|FAILED", line)]
    lines = [line for line in lines if "tpuc-opt " not in line and not line.startswith("raise ")]
    return lines[-1][:300] if lines else ""
