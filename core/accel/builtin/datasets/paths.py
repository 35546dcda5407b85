"""Names that stand inside data files: they may point below a folder and nowhere else."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from accel.errors import AccelError


def below(root: Path, name: str, where: str) -> Path:
    """``root / name``, refused when it is absolute or climbs out with ``..``.

    Raises:
        AccelError: ``data.path``.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise AccelError(
            f"{where} names a picture outside its folder",
            code="data.path",
            cause=repr(name[:200]),
            hints=["Names in it must be relative to the folder of the pictures."],
        )
    return root / path
