"""Installed versions of distributions, for manifests and cache keys."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib import metadata


def versions(names: Iterable[str]) -> dict[str, str]:
    """Version by name; absent distributions are left out."""
    found = {name: _version(name) for name in names}
    return {name: version for name, version in found.items() if version}


@lru_cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
