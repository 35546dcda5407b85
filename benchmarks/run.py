"""Every promise beside its figure: ``python benchmarks/run.py [PART ...] [--write FILE]``.

Prints each row as it is measured; with ``--write`` they also go to a Markdown file, as tables. Returns 1 when a bar is
missed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from table import Row, markdown

PARTS = {
    "calibration": "Calibration",
    "startup": "Command line",
    "rebuild": "Build cache",
    "reference": "Embedded reference",
}
NOTE = """\
Made by `make bench`; every row is measured in that run, ratios side by side in turns. The figures below are from
one run on {machine}; ratios carry over, seconds do not.
"""


def machine() -> str:
    """What it runs on."""
    cpu = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = f"{len(names)} cores of {names[0]}" if names else cpu
    used = ", ".join(f"{name} {metadata.version(name)}" for name in ("onnxruntime", "numpy"))
    # What else runs there takes the caches that the measured programs count on.
    cores += f" (load average {os.getloadavg()[1]:.0f})" if hasattr(os, "getloadavg") else ""
    return f"{cores}, Python {platform.python_version()}, {used}"


def page(found: dict[str, list[Row]]) -> str:
    """The Markdown page of what was measured so far."""
    tables = (f"## {PARTS[part]}\n\n{markdown(rows)}" for part, rows in found.items())
    return "\n".join([f"# Benchmarks\n\n{NOTE.format(machine=machine())}", "\n\n".join(tables), ""])


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)}; none: all")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    found: dict[str, list[Row]] = {}
    for part in arguments.parts or PARTS:
        found[part] = []
        for row in importlib.import_module(part).rows():
            print("  ".join(row.cells()), flush=True)
            found[part].append(row)
            if arguments.write:
                arguments.write.write_text(page(found))
    missed = [row.what for rows in found.values() for row in rows if row.passed is False]
    print(*(f"missed: {what}" for what in missed), sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
