"""Ed25519 (RFC 8032), verification only, decided strictly.

Of the readings that RFC 8032 leaves open the strict one is taken, so that no two verifiers differ: encodings must be canonical
(y below p, S below L), neither the key nor R may be of small order, and the equation is the one without cofactor. The library
`cryptography` does the arithmetic where it is installed; otherwise the few lines below do, in some milliseconds a signature. Nothing here
is secret, so nothing needs to take constant time.
"""

from __future__ import annotations

import hashlib

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
SMALL_ORDER_Y_OF_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
SMALL_ORDER_YS = frozenset((0, 1, P - 1, SMALL_ORDER_Y_OF_8, P - SMALL_ORDER_Y_OF_8))
"""The y of the eight points whose order divides 8."""


def backend() -> str:
    return "python" if Ed25519PublicKey is None else "cryptography"


def is_acceptable_point(encoded: bytes) -> bool:
    """True for 32 bytes with a canonical y that is not of small order."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return len(encoded) == 32 and y < P and y not in SMALL_ORDER_YS


def is_point(encoded: bytes) -> bool:
    """True if the 32 bytes are a point of the curve, in whatever encoding: without that they are no key at all."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    # x^2 = (y^2 - 1) / (d y^2 + 1) has a root if this product, which differs from it by a square, is 0 or a square.
    return pow((y * y - 1) * (D * y * y + 1), (P - 1) // 2, P) in (0, 1)


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= L:
        return False
    if not is_acceptable_point(public) or not is_acceptable_point(signature[:32]):
        return False
    if Ed25519PublicKey is None:
        return _verify(public, signature, message)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """S*B = R + h*A, asked as: do the bytes of S*B - h*A equal those of R?"""
    key = _decode(public)
    if key is None:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    s = int.from_bytes(signature[32:], "little")
    return _encode(_add(_times(s, BASE), _times(h, _negative(key)))) == signature[:32]


# Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.


def _decode(encoded: bytes):
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    x_squared = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x_squared, (P + 3) // 8, P)
    if (x * x - x_squared) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - x_squared) % P:
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def _encode(point) -> bytes:
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _negative(point):
    return (P - point[0], point[1], point[2], P - point[3])


def _add(one, other):
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * D * one[3] * other[3] % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _times(scalar: int, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    return total


BASE = _decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
