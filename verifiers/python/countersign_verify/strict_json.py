"""The JSON door: bytes become a value only if they are I-JSON as the contract has it (docs/contracts/receipt.md).

`json.loads` forgives repeated names, rounds large integers and reads `NaN`, so it is not used. A number comes out as `int` where it is
an integer and as `float` otherwise; `1.0` is the integer 1, and `-0` is 0. Nothing is repaired: the first fault is raised.
"""

from __future__ import annotations

import re

DEPTH_MAX = 64
"""Containers inside one another."""
SAFE_INTEGER_MAX = 2**53 - 1

SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
HEX4 = re.compile(r"[0-9a-fA-F]{4}")
NONCHARACTER = re.compile("[\ufdd0-\ufdef" + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)) + "]")
ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
LITERALS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


class Refused(ValueError):
    """A document that may not enter. `code` is stable, `pointer` (RFC 6901) says where.

    `path` is the pointer in steps, `root_names` are the outermost member names read so far: enough to say which receipt it was.
    """

    def __init__(self, code: str, detail: str, path=(), root_names=()):
        self.code = code
        self.path = list(path)
        self.root_names = frozenset(root_names)
        self.pointer = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in self.path)
        super().__init__(f'{code} at "{self.pointer}": {detail}')


class TrailingContent(Refused):
    """The text goes on after a whole value: it may still be a value a line."""


def parse(data: bytes):
    """Reads one document, or raises `Refused`."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("malformed_json", f"byte {error.start} is not UTF-8") from None
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str):
        self._text = text
        self._at = 0
        self._path: list = []
        self._root_names: list = []

    def document(self):
        value = self._value()
        self._space()
        if self._at != len(self._text):
            raise TrailingContent("malformed_json", f"something follows the value (character {self._at})")
        return value

    def _refused(self, code: str, detail: str) -> Refused:
        return Refused(code, f"{detail} (character {self._at})", self._path, self._root_names)

    def _space(self) -> None:
        self._at = SPACE.match(self._text, self._at).end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _expect(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise self._refused("malformed_json", f"expected {wanted}")
        self._at += 1

    def _value(self):
        self._space()
        first = self._peek()
        if first == "{":
            return self._inside(self._object)
        if first == "[":
            return self._inside(self._array)
        if first == '"':
            return self._string()
        if first in LITERALS:
            word, value = LITERALS[first]
            if not self._text.startswith(word, self._at):
                raise self._refused("malformed_json", "expected a value")
            self._at += len(word)
            return value
        return self._number()

    def _inside(self, read):
        # The path has one step for each container around this one.
        if len(self._path) >= DEPTH_MAX:
            raise self._refused("too_deep", f"more than {DEPTH_MAX} containers inside one another")
        self._at += 1
        self._space()
        return read()

    def _object(self) -> dict:
        members: dict = {}
        if self._peek() == "}":
            self._at += 1
            return members
        while True:
            self._space()
            if self._peek() != '"':
                raise self._refused("malformed_json", "expected a member name")
            name = self._string()
            if not self._path:
                self._root_names.append(name)
            self._path.append(name)
            if name in members:
                raise self._refused("duplicate_name", "a member name occurs twice in one object")
            self._space()
            self._expect(":")
            members[name] = self._value()
            self._path.pop()
            self._space()
            if self._peek() == "}":
                self._at += 1
                return members
            self._expect(",")

    def _array(self) -> list:
        items: list = []
        if self._peek() == "]":
            self._at += 1
            return items
        while True:
            self._path.append(len(items))
            items.append(self._value())
            self._path.pop()
            self._space()
            if self._peek() == "]":
                self._at += 1
                return items
            self._expect(",")

    def _string(self) -> str:
        self._at += 1
        parts = []
        while True:
            plain = PLAIN.match(self._text, self._at)
            parts.append(plain.group())
            self._at = plain.end()
            end = self._peek()
            if end == '"':
                self._at += 1
                break
            if end != "\\":
                raise self._refused("malformed_json", "a string is not ended, or holds a raw control character")
            parts.append(self._escape())
        string = "".join(parts)
        if NONCHARACTER.search(string):
            raise self._refused("noncharacter", "a string holds a noncharacter")
        return string

    def _escape(self) -> str:
        letter = self._text[self._at + 1 : self._at + 2]
        if letter in ESCAPES and letter:
            self._at += 2
            return ESCAPES[letter]
        if letter != "u":
            raise self._refused("malformed_json", "unknown escape")
        unit = self._code_unit()
        if not 0xD800 <= unit <= 0xDFFF:
            return chr(unit)
        if unit >= 0xDC00 or not self._text.startswith("\\u", self._at):
            raise self._refused("lone_surrogate", "half of a surrogate pair")
        low = self._code_unit()
        if not 0xDC00 <= low <= 0xDFFF:
            raise self._refused("lone_surrogate", "half of a surrogate pair")
        return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))

    def _code_unit(self) -> int:
        digits = HEX4.match(self._text, self._at + 2)
        if digits is None:
            raise self._refused("malformed_json", "\\u wants four hex digits")
        self._at += 6
        return int(digits.group(), 16)

    def _number(self):
        lexeme = NUMBER.match(self._text, self._at)
        if lexeme is None:
            raise self._refused("malformed_json", "expected a value")
        text, exponent = lexeme.group(), lexeme.group(2) or ""
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise self._refused("number_overflow", "a number is too large for binary64")
        if value == 0 and text[: len(text) - len(exponent)].strip("-0."):
            raise self._refused("number_underflow", "a number that is not zero becomes zero")
        written_as_integer = lexeme.group(1) is None and not exponent
        # From 1e21 on the canonical form has an exponent; below it, a double without a fraction is written as an integer.
        canonical_as_integer = value.is_integer() and abs(value) < 1e21
        if (written_as_integer or canonical_as_integer) and abs(value) > SAFE_INTEGER_MAX:
            raise self._refused("unsafe_integer", "an integer outside ±(2^53-1)")
        self._at = lexeme.end()
        return int(value) if canonical_as_integer else value
