"""RFC 8785 bytes of what `strict_json` read, and the digests and ids over them (docs/contracts/receipt.md)."""

from __future__ import annotations

import hashlib
import re

SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
MUST_ESCAPE = re.compile(r'["\\\x00-\x1f]')
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def canonical(value) -> bytes:
    return _text(value).encode("utf-8")


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def exchange_id(tenant: str, idempotency_key: str) -> str:
    hashed = hashlib.sha256(b"\0".join((b"countersign/exchange/v1", tenant.encode("utf-8"), idempotency_key.encode("utf-8")))).digest()
    bits = int.from_bytes(hashed, "big")
    return "ex_" + "".join(CROCKFORD[(bits >> (251 - 5 * place)) & 31] for place in range(26))


def _text(value) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    # UTF-16 big-endian bytes sort as the code units do.
    members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
    return "{" + ",".join(f"{_quoted(name)}:{_text(item)}" for name, item in members) + "}"


def _quoted(string: str) -> str:
    return '"' + MUST_ESCAPE.sub(lambda found: SHORT_ESCAPES.get(found.group()) or f"\\u{ord(found.group()):04x}", string) + '"'


def number(value: float) -> str:
    """A finite double as ECMAScript writes it. `repr` finds the same shortest digits and only places the point elsewhere."""
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.DIGITS times ten to the power of `point`.
    point = len(whole) + int(exponent or "0") - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        text = digits.ljust(point, "0")
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1:+d}"
    return "-" + text if value < 0 else text
