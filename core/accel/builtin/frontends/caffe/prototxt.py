"""Reads protobuf's text format into plain messages that know their lines. Bounded: a hostile file is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from accel.errors import AccelError

# Real definitions nest 5 deep and have some 10,000 fields in 1 MB.
MAX_DEPTH = 32
MAX_BYTES = 32 * 2**20
MAX_FIELDS = 2_000_000

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)
      | (?P<line>\n)
      | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<word>[A-Za-z_][\w./-]*)
      | (?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)[fF]?|-(?:inf|nan)(?:inity)?\b)
      | (?P<mark>[{}<>\[\]:;,])""",
    re.VERBOSE,
)


@dataclass
class Message:
    """One message: fields by name, each a list, with the lines they stand on.

    Fields that were looked at are remembered, so that what nobody understood can be reported.
    """

    line: int
    fields: dict[str, list[Message | str]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def add(self, name: str, value: Message | str, line: int) -> None:
        self.fields.setdefault(name, []).append(value)
        self.lines.setdefault(name, line)

    def has(self, name: str) -> bool:
        """True when the field is given."""
        self.seen.add(name)
        return name in self.fields

    def messages(self, name: str) -> list[Message]:
        """Every message of a field."""
        found = []
        for value in self._values(name):
            if not isinstance(value, Message):
                raise self.broken(name, "should be a message")
            found.append(value)
        return found

    def message(self, name: str) -> Message:
        """The message of a field; an empty one when it is not given."""
        found = self.messages(name)
        return found[-1] if found else Message(self.line)

    def texts(self, name: str) -> list[str]:
        """Every scalar of a field as text."""
        found = []
        for value in self._values(name):
            if isinstance(value, Message):
                raise self.broken(name, "should be a single value")
            found.append(value)
        return found

    def text(self, name: str, default: str = "") -> str:
        """The last scalar of a field as text."""
        found = self.texts(name)
        return found[-1] if found else default

    def numbers(self, name: str) -> list[float]:
        """Every scalar of a field as a number."""
        return [self._number(name, v) for v in self.texts(name)]

    def number(self, name: str, default: float = 0.0) -> float:
        """The last scalar of a field as a number."""
        found = self.numbers(name)
        return found[-1] if found else default

    def integers(self, name: str) -> list[int]:
        """Every scalar of a field as an integer."""
        found = self.numbers(name)
        if any(v != int(v) for v in found):
            raise self.broken(name, "is no integer")
        if any(abs(v) >= 2**31 for v in found):
            raise self.broken(name, "is out of range")
        return [int(v) for v in found]

    def integer(self, name: str, default: int = 0) -> int:
        """The last scalar of a field as an integer."""
        found = self.integers(name)
        return found[-1] if found else default

    def flag(self, name: str, default: bool = False) -> bool:
        """The last scalar of a field as true or false."""
        value = self.text(name, str(default)).lower()
        if value not in ("true", "false", "1", "0", "t", "f"):
            raise self.broken(name, "is neither true nor false")
        return value in ("true", "1", "t")

    def unseen(self) -> Iterator[tuple[str, int]]:
        """Fields that nobody looked at, with their lines."""
        for name, line in self.lines.items():
            if name not in self.seen:
                yield name, line

    def broken(self, name: str, what: str) -> AccelError:
        """An error about a field, with its line."""
        line = self.lines.get(name, self.line)
        value = self.fields.get(name, [""])[-1]
        shown = f" {value[:40]!r}" if isinstance(value, str) else ""
        return AccelError(f"line {line}: {name}{shown} {what}", code="model.prototxt")

    def _values(self, name: str) -> list[Message | str]:
        self.seen.add(name)
        return self.fields.get(name, [])

    def _number(self, name: str, value: str) -> float:
        try:
            lower = value.lower()
            if "x" in lower:
                return float(int(value, 16))
            found = float(lower.rstrip("f") if not lower.endswith(("inf", "nan")) else lower)
        except ValueError as error:
            raise self.broken(name, "is no number") from error
        if found != found or found in (float("inf"), float("-inf")):
            raise self.broken(name, "is no finite number")
        return found


def read_prototxt(path: Path) -> Message:
    """The message in a text file.

    Raises:
        AccelError: ``model.prototxt`` with the line: not text, no such grammar, nested or large beyond all reason.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AccelError(
                f"{path} is larger than any network definition",
                code="model.prototxt",
                cause=f"limit: {MAX_BYTES} bytes",
            )
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise AccelError(f"{path} is not a text file", code="model.prototxt", cause=str(error)) from error
    except OSError as error:
        raise AccelError(f"{path} cannot be read", code="model.unreadable", cause=error.strerror or "") from error
    try:
        return parse_text(text)
    except AccelError as error:
        raise AccelError(f"{path}: {error.summary}", code=error.code, cause=error.cause, hints=error.hints) from error


def parse_text(text: str) -> Message:
    """The message that ``text`` describes; errors as for :func:`read_prototxt`."""
    root = Message(1)
    stack: list[tuple[Message, str]] = [(root, "")]
    tokens, count = _Tokens(text), 0
    while True:
        message, closing = stack[-1]
        kind, token, line = tokens.take()
        if kind == "end":
            if closing:
                raise _at(line, f"the file ends inside a message that began on line {message.line}")
            return root
        if token == closing and kind == "mark":
            stack.pop()
            continue
        if token in (";", ","):
            continue
        if kind != "word":
            raise _at(line, f"a field name was expected, not {token[:40]!r}")
        count += 1
        if count > MAX_FIELDS:
            raise _at(line, "more fields than any network has")
        name = token
        if tokens.peek() == ":":
            tokens.take()
        follows = tokens.peek()
        if follows in ("{", "<"):
            tokens.take()
            if len(stack) >= MAX_DEPTH:
                raise _at(line, f"messages nest deeper than {MAX_DEPTH}")
            inner = Message(line)
            message.add(name, inner, line)
            stack.append((inner, "}" if follows == "{" else ">"))
        elif follows == "[":
            tokens.take()
            _list(tokens, message, name)
        else:
            message.add(name, _scalar(tokens), line)


def _list(tokens: _Tokens, message: Message, name: str) -> None:
    while tokens.peek() != "]":
        message.add(name, _scalar(tokens), tokens.line)
        if tokens.peek() == ",":
            tokens.take()
        elif tokens.peek() != "]":
            raise _at(tokens.line, f"the list of {name} is not closed")
    tokens.take()


def _scalar(tokens: _Tokens) -> str:
    kind, token, line = tokens.take()
    if kind == "text":
        parts = [_unquoted(token)]
        while tokens.peek()[:1] in ("'", '"') and tokens.peek():  # adjacent strings are one
            parts.append(_unquoted(tokens.take()[1]))
        return "".join(parts)
    if kind in ("word", "number"):
        return token
    raise _at(
        line, "the file ends where a value was expected" if kind == "end" else f"a value was expected, not {token!r}"
    )


def _unquoted(token: str) -> str:
    inner = token[1:-1]
    if "\\" not in inner:
        return inner
    return inner.encode("latin-1", "backslashreplace").decode("unicode_escape", "replace")


class _Tokens:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.line = text, 0, 1
        self.held: tuple[str, str, int] | None = None

    def peek(self) -> str:
        if self.held is None:
            self.held = self._next()
        return self.held[1]

    def take(self) -> tuple[str, str, int]:
        held, self.held = self.held or self._next(), None
        return held

    def _next(self) -> tuple[str, str, int]:
        while self.at < len(self.text):
            match = _TOKEN.match(self.text, self.at)
            if match is None:
                raise _at(self.line, f"unexpected {self.text[self.at : self.at + 10]!r}")
            self.at = match.end()
            kind = match.lastgroup or ""
            if kind == "line":
                self.line += 1
            elif kind != "space":
                return kind, match.group(), self.line
        return "end", "", self.line


def _at(line: int, what: str) -> AccelError:
    return AccelError(f"line {line}: {what}", code="model.prototxt")
