"""Class names: a text file with one name a line, line 1 is class 0."""

from __future__ import annotations

from pathlib import Path

from accel.errors import AccelError


def read_labels(path: Path) -> tuple[str, ...]:
    """Names by class index. Blank lines at the end do not count.

    Raises:
        AccelError: ``data.labels`` for a missing, empty or binary file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        raise AccelError(f"cannot read the label file {path}", code="data.labels", cause=reason) from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names:
        raise AccelError(f"the label file {path} is empty", code="data.labels", hints=["One class name a line."])
    return names


def check_labels(names: tuple[str, ...], classes: int, what: str) -> None:
    """Refuse names that do not reach ``classes``.

    Raises:
        AccelError: ``data.labels`` when there are fewer names than classes.
    """
    if names and len(names) < classes:
        raise AccelError(
            f"the label file is too short: {len(names)} names for {classes} classes",
            code="data.labels",
            cause=f"{what} needs {classes}",
            hints=["One name a line, line 1 is class 0 (some files leave out a background class)."],
        )
