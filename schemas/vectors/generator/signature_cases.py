"""Signatures that do not hold, and those that a lax Ed25519 lets pass."""

import curve
from cases import FIRST, SECOND, case, keyed, last_bits_changed
from sealing import MAIN, NEXT, RECEIPT_TYP, STRANGER, Key, canonical, jws, resealed, sealed, signing_input, with_signature, without


def wrong_signatures():
    content = canonical(without(FIRST, "jws"))
    signature = MAIN.sign(signing_input(FIRST, MAIN))
    r_part, s_part = signature[:32], int.from_bytes(signature[32:], "little")
    header_part, signature_part = FIRST["jws"].split("..")

    def with_s(value):
        return with_signature(FIRST, MAIN, r_part + value.to_bytes(32, "little"))

    without_hash = jws(MAIN, canonical(without(FIRST, "receipt_hash", "jws")), MAIN.header(RECEIPT_TYP))
    yield case("signature: by another key under this kid", sealed(FIRST, STRANGER, MAIN.header(RECEIPT_TYP)), "bad_signature")
    yield case("signature: by the next key under this kid", sealed(FIRST, NEXT, MAIN.header(RECEIPT_TYP)), "bad_signature")
    yield case("signature: of another receipt", {**FIRST, "jws": SECOND["jws"]}, "bad_signature")
    yield case("signature: receipt_hash left out of the content", {**FIRST, "jws": without_hash}, "bad_signature")
    yield case(
        "signature: over the content that is not encoded",
        with_signature(FIRST, MAIN, MAIN.sign(header_part.encode() + b"." + content)),
        "bad_signature",
    )
    yield case("signature: over the bare content", with_signature(FIRST, MAIN, MAIN.sign(content)), "bad_signature")
    yield case("signature: over the receipt_hash", with_signature(FIRST, MAIN, MAIN.sign(FIRST["receipt_hash"].encode())), "bad_signature")
    yield case("signature: first bit flipped", with_signature(FIRST, MAIN, bytes([signature[0] ^ 1]) + signature[1:]), "bad_signature")
    yield case("signature: last bit flipped", with_signature(FIRST, MAIN, signature[:-1] + bytes([signature[-1] ^ 0x80])), "bad_signature")
    yield case("signature: S + L (malleable)", with_s(s_part + curve.L), "bad_signature")
    yield case("signature: S + 8 L", with_s(s_part + 8 * curve.L), "bad_signature")
    yield case("signature: L - S", with_s(curve.L - s_part), "bad_signature")
    yield case("signature: zeros", with_signature(FIRST, MAIN, bytes(64)), "bad_signature")
    yield case("signature: 63 bytes", with_signature(FIRST, MAIN, signature[:63]), "bad_signature")
    yield case("signature: 65 bytes", with_signature(FIRST, MAIN, signature + b"\0"), "bad_signature")
    yield case("signature: empty", with_signature(FIRST, MAIN, b""), "bad_signature")
    yield case(
        "signature: DER", with_signature(FIRST, MAIN, b"\x30\x44\x02\x20" + signature[:32] + b"\x02\x20" + signature[32:]), "bad_signature"
    )
    yield case("signature: hex", {**FIRST, "jws": f"{header_part}..{signature.hex()}"}, "bad_signature")
    yield case(
        "signature: stray bits at the end of base64url",
        {**FIRST, "jws": f"{header_part}..{last_bits_changed(signature_part)}"},
        "bad_signature",
    )
    yield case("signature: padded", {**FIRST, "jws": FIRST["jws"] + "=="}, "bad_signature")
    yield case("signature: a line end behind it", {**FIRST, "jws": FIRST["jws"] + "\n"}, "bad_signature")
    std = with_dashes()
    yield case(
        "signature: in the alphabet of base64",
        {**std, "jws": "..".join((std["jws"].split("..")[0], std["jws"].split("..")[1].replace("-", "+").replace("_", "/")))},
        "bad_signature",
    )
    yield case("signature: something behind it", {**FIRST, "jws": FIRST["jws"] + ".x"}, "bad_signature")
    yield from wrong_points()


def with_dashes():
    """A receipt whose signature has a character by which base64 and base64url differ, and no such one in its header."""
    for fu in range(100):
        receipt = resealed(FIRST, usage={"vex": 1, "fu": fu})
        if set("-_") & set(receipt["jws"].split("..")[1]):
            return receipt
    raise AssertionError("a hundred signatures without a dash")


def wrong_points():
    """Signatures that a lax Ed25519 lets pass."""
    identity = (1).to_bytes(32, "little")
    message = signing_input(FIRST, MAIN)
    s = curve.challenge(identity, MAIN.public, message) * MAIN.secret.scalar % curve.L
    yield case(
        "curve: R is the identity, the equation holds", with_signature(FIRST, MAIN, identity + s.to_bytes(32, "little")), "bad_signature"
    )
    order_2 = (curve.P - 1).to_bytes(32, "little")
    s = curve.challenge(order_2, MAIN.public, message) * MAIN.secret.scalar % curve.L
    yield case(
        "curve: R of order 2, the equation holds with the cofactor",
        with_signature(FIRST, MAIN, order_2 + s.to_bytes(32, "little")),
        "bad_signature",
    )
    eighth = curve.torsion_of_order_8()
    small = {
        "the identity": identity,
        "the identity, written with y = p + 1": (curve.P + 1).to_bytes(32, "little"),
        "the identity, with the sign of a zero x": (1 | 1 << 255).to_bytes(32, "little"),
        "order 2": order_2,
        "order 4": bytes(32),
        "order 4, written with y = p": curve.P.to_bytes(32, "little"),
        "order 8": curve.encode(eighth),
        "order 8, the other y": curve.encode(curve.times(3, eighth)),
    }
    for why, public in small.items():
        key = Key(public=public)
        yield keyed(f"curve: a key of small order, {why}", small_order_receipt(key), "bad_signature", key.jwk())
    yield from mixed_order(eighth)
    off_curve = next(y for y in range(2, 100) if curve.recover(y, 0) is None)
    key = Key(public=off_curve.to_bytes(32, "little"))
    yield keyed("keys: x is not on the curve", with_signature(FIRST, key, bytes(64)), None, key.jwk(), exit=2)
    r_bytes = off_curve.to_bytes(32, "little")
    yield case("curve: R that is not on the curve", with_signature(FIRST, MAIN, r_bytes + bytes(32)), "bad_signature")


def small_order_receipt(key):
    """R = S*B, and a content for which h*A vanishes: anybody can make it, without a secret."""
    point = curve.recover(int.from_bytes(key.public, "little") % 2**255 % curve.P, 0)
    message = signing_input(FIRST, key)
    for s in range(1, 1000):
        r_bytes = curve.encode(curve.times(s, curve.BASE))
        if curve.times(curve.challenge(r_bytes, key.public, message), point) == curve.IDENTITY:
            return with_signature(FIRST, key, r_bytes + s.to_bytes(32, "little"))
    raise AssertionError("no such signature in a thousand")


def mixed_order(eighth):
    """A key with a part of small order: with the cofactor every signature holds, without it one in eight."""
    key = Key(public=curve.encode(curve.add(MAIN.secret.point, eighth)))
    message = signing_input(FIRST, key)
    found = {}
    for r in range(1, 1000):
        r_bytes = curve.encode(curve.times(r, curve.BASE))
        h = curve.challenge(r_bytes, key.public, message)
        s = (r + h * MAIN.secret.scalar) % curve.L
        found.setdefault(h % 8 == 0, with_signature(FIRST, key, r_bytes + s.to_bytes(32, "little")))
    yield keyed("curve: a key of mixed order, the equation holds with the cofactor only", found[False], "bad_signature", key.jwk())
    yield keyed("curve: a key of mixed order, the equation holds without the cofactor", found[True], "ok", key.jwk())
