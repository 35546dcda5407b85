"""Reading a task's options, which arrive as text from the command line and the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from accel.errors import AccelError

T = TypeVar("T")
TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


class TaskOptions:
    """Typed access to ``name -> text``; :meth:`done` refuses what nobody asked for."""

    def __init__(self, task: str, options: Mapping[str, str]) -> None:
        self.task = task
        self._options = dict(options)
        self._asked: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the user gave it."""
        return name in self._options

    def text(self, name: str, default: str = "", choices: tuple[str, ...] = ()) -> str:
        """A word, one of ``choices`` if there are any."""
        value = self._get(name, default, str)
        if choices and value not in choices:
            raise self._wrong(name, value, f"one of {', '.join(choices)}")
        return value

    def number(self, name: str, default: float) -> float:
        """A real number."""
        return self._get(name, default, float)

    def whole(self, name: str, default: int) -> int:
        """A whole number."""
        return self._get(name, default, int)

    def flag(self, name: str, default: bool = False) -> bool:
        """A switch: 1/true/yes/on or 0/false/no/off."""

        def convert(value: str) -> bool:
            if value.lower() not in TRUE | FALSE:
                raise ValueError
            return value.lower() in TRUE

        return self._get(name, default, convert)

    def numbers(self, name: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """Numbers with commas between them."""
        return self._get(name, default, lambda v: tuple(float(part) for part in v.split(",") if part.strip()))

    def words(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Words with commas between them."""
        return self._get(name, default, lambda v: tuple(part.strip() for part in v.split(",") if part.strip()))

    def done(self) -> None:
        """Refuse options that the task does not have.

        Raises:
            AccelError: ``usage.task``.
        """
        for name in self._options:
            if name not in self._asked:
                raise AccelError(
                    f"the task {self.task} has no option {name!r}",
                    code="usage.task",
                    hints=[f"Its options: {', '.join(sorted(self._asked))}."],
                )

    def _get(self, name: str, default: T, convert: Callable[[str], T]) -> T:
        self._asked.add(name)
        if name not in self._options:
            return default
        value = str(self._options[name])
        try:
            return convert(value)
        except ValueError as error:
            raise self._wrong(name, value, type(default).__name__) from error

    def _wrong(self, name: str, value: str, wanted: str) -> AccelError:
        return AccelError(
            f"the option {name}={value!r} of the task {self.task} is not valid",
            code="usage.task",
            cause=f"expected {wanted}",
        )
