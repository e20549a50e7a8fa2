"""Ed25519 by hand: what a library will not make, hostile signatures and keys, has to be computed here.

Signing is RFC 8032, checked against its own first test vector at import. Slow, and not constant in time: the keys here are public.
"""

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
I = pow(2, (P - 1) // 4, P)
IDENTITY = (0, 1)


def recover(y, sign):
    """The point with this y and this low bit of x, or None."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    for x in (pow(square, (P + 3) // 8, P), pow(square, (P + 3) // 8, P) * I % P):
        if x * x % P == square:
            return (x if x & 1 == sign else -x % P, y)
    return None


def add(one, other):
    """Affine, by the textbook formula."""
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return (x, y)


def times(scalar, point):
    total = IDENTITY
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE = recover(4 * pow(5, -1, P) % P, 0)


def torsion_of_order_8():
    """L times any point has an order that divides 8; the first y that gives the full 8 is taken."""
    y = 2
    while True:
        point = recover(y, 0)
        if point is not None:
            point = times(L, point)
            if times(4, point) != IDENTITY:
                return point
        y += 1


def challenge(r_bytes, public, message):
    return int.from_bytes(hashlib.sha512(r_bytes + public + message).digest(), "little") % L


class Secret:
    """The private half of a key, from its 32-byte seed."""

    def __init__(self, seed):
        hashed = hashlib.sha512(seed).digest()
        self.scalar = int.from_bytes(hashed[:32], "little") & (2**254 - 8) | 2**254
        self.prefix = hashed[32:]
        self.point = times(self.scalar, BASE)
        self.public = encode(self.point)

    def sign(self, message):
        r = int.from_bytes(hashlib.sha512(self.prefix + message).digest(), "little") % L
        r_bytes = encode(times(r, BASE))
        s = (r + challenge(r_bytes, self.public, message) * self.scalar) % L
        return r_bytes + s.to_bytes(32, "little")


_FIRST = Secret(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
assert _FIRST.sign(b"").hex() == (
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
