"""Random JSON: documents that are fine in odd spellings, documents with one fault, and bytes that were JSON once. All from one seed."""

import json
import random
import struct

PLANES = [(0x20, 0x7E), (0xA0, 0x2FF), (0x370, 0x1FFF), (0x2000, 0x2BFF), (0x3040, 0xD7FF), (0xE000, 0xFDCF), (0xFDF0, 0xFFFD)]
PLANES += [(plane << 16, plane << 16 | 0xFFFD) for plane in range(1, 17)]
SHORT = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\", "/": "\\/"}
FAULTS = (
    "1e400", "-1e999", "1e-400", "9007199254740992", "-9007199254740993", "1e20", "123456789012345678901234567890", "01", "1.", "+1", ".1", "NaN",
    '"\\ud800"', '"\\udc00x"', '"\\uffff"', '"\ufdd0"', '"\\x"', '"\t"', "tru", '{"a":1,"a":1}', '{"\\u0061":1,"a":1}', "[1,]", "{,}", "'a'",
)  # fmt: skip
NESTED_MAX = 70


class Documents:
    def __init__(self, seed):
        self._random = random.Random(seed)

    def next(self):
        """The bytes of one document."""
        chance = self._random.random()
        text = self.value(0)
        if chance < 0.70:
            return text.encode("utf-8")
        if chance < 0.85:
            return self._with_fault().encode("utf-8")
        return self._garbled(text.encode("utf-8"))

    # --- Documents that are fine ------------------------------------------------------------------------------------------------

    def value(self, depth):
        kind = self._random.random()
        if depth > 6 or kind < 0.45:
            return self.number() if kind < 0.33 else self.string()
        if kind < 0.52:
            return self._random.choice(("true", "false", "null"))
        if kind < 0.54:
            levels = self._random.randrange(55, NESTED_MAX)
            return "[" * levels + self.number() + "]" * levels
        items = [self.value(depth + 1) for _ in range(self._random.randrange(6))]
        if kind < 0.75:
            return f"[{self._comma().join(items)}]"
        names = {self.characters() for _ in items}
        return f"{{{self._comma().join(f'{self.spelled(name)}{self._space()}:{item}' for name, item in zip(sorted(names, key=hash_of), items))}}}"

    def number(self):
        kind = self._random.randrange(7)
        if kind == 0:
            return str(self._random.randrange(-(2**53) + 1, 2**53))
        if kind == 1:
            return str(self._random.randrange(-1000, 1000))
        if kind == 2:
            return self._decimal()
        return self._spelling_of(self._double(kind))

    def _double(self, kind):
        if kind == 3:
            # Round about the places where the form changes.
            edge = self._random.choice((1e21, 1e-6, 1e-7, 2.0**53, 1e23, 5e-324, 2.2250738585072014e-308, 1.0, 10.0, 1e22, 0.1))
            bits = struct.unpack(">q", struct.pack(">d", edge))[0] + self._random.randrange(-3, 4)
            return struct.unpack(">d", struct.pack(">q", max(bits, 0)))[0]
        if kind == 4:
            return self._random.randrange(10**9) / 10 ** self._random.randrange(12)
        while True:
            value = struct.unpack(">d", self._random.randbytes(8))[0]
            if value == value and abs(value) != float("inf"):
                return value

    def _spelling_of(self, value):
        shape = self._random.choice(("{!r}", "{:.17g}", "{:.20e}", "{:.16E}", "{:.30g}"))
        text = shape.format(value)
        return text if shape != "{!r}" else text.replace("e+", self._random.choice(("e+", "e", "E", "E+0")))

    def _decimal(self):
        digits = "".join(self._random.choice("0123456789") for _ in range(self._random.randrange(1, 25)))
        whole = digits.lstrip("0") or "0"
        fraction = self._random.choice(("", "." + digits[::-1]))
        exponent = self._random.choice(
            ("", f"e{self._random.randrange(-345, 330)}", f"E+{self._random.randrange(30)}", f"e-{self._random.randrange(30)}")
        )
        return self._random.choice(("", "-")) + whole + fraction + exponent

    def characters(self):
        return "".join(self._character() for _ in range(self._random.choice((0, 1, 1, 2, 3, 8))))

    def _character(self):
        if self._random.random() < 0.2:
            return chr(self._random.randrange(0x20)) if self._random.random() < 0.6 else self._random.choice('"\\/\x7f\u2028\ufeff')
        return chr(self._random.randint(*self._random.choice(PLANES)))

    def string(self):
        return self.spelled(self.characters())

    def spelled(self, characters):
        return '"' + "".join(map(self._spelled_character, characters)) + '"'

    def _spelled_character(self, character):
        if character in SHORT and self._random.random() < 0.5:
            return SHORT[character]
        if character in '"\\' or character < " " or self._random.random() < 0.3:
            units = character.encode("utf-16-be")
            pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
            return "".join("\\u" + (pair.upper() if self._random.random() < 0.5 else pair) for pair in pairs)
        return character

    def _space(self):
        return self._random.choice(("", "", "", " ", "\n", "\t \r\n"))

    def _comma(self):
        return f"{self._space()},{self._space()}"

    # --- Documents that are not ---------------------------------------------------------------------------------------------------

    def _with_fault(self):
        """One fault somewhere inside a document that is fine."""
        text = self._random.choice(FAULTS)
        for _ in range(self._random.randrange(4)):
            beside = self.value(4)
            wrap = self._random.choice(("[{},{}]", "[{1},{0}]", '{{"a":{},"b":{}}}', '{{"x~/y":{1},"":{0}}}'))
            text = wrap.format(text, beside)
        return text

    def _garbled(self, data):
        made = bytearray(data)
        for _ in range(self._random.randrange(1, 4)):
            at = self._random.randrange(len(made) + 1)
            if self._random.random() < 0.4:
                del made[at : at + self._random.randrange(1, 4)]
            elif self._random.random() < 0.5:
                made[at:at] = self._random.choice(
                    (b"\xff", b"\xed\xa0\x80", b"{", b"]", b",", b'"', b"0", b"\\", b"\xef\xbb\xbf", b" ", b"-", b"e", b".")
                )
            elif at < len(made):
                made[at] = self._random.randrange(256)
        return bytes(made)


def hash_of(name):
    """An order of names that is neither theirs nor the random one of a set."""
    return name[::-1].encode("utf-8")


def same_value(text, form):
    """True if the standard library reads the same from both: neither lost, added nor changed anything."""
    return json.loads(text) == json.loads(form)
