"""Single receipts, right and wrong. Where the signer could have signed the fault, it has: then only the rule itself refuses it."""

import hashlib
import json

import curve
from sealing import (
    BUNDLE_TYP, BUNDLES, CID_A, MAIN, NBF, NEXT, PAYLOAD_A, RECEIPT_TYP, STRANGER, Key, base64url, canonical, chain, changed, digest,
    exchange_id, hashed, jws, open_receipt, resealed, sealed, signed, signing_input, unix, with_signature, without,
)  # fmt: skip

FIRST, SECOND, THIRD = chain(3)
NO_CID = "sha256:" + "0" * 64
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def case(name, document, verdict, **more):
    """A vector of one receipt; a text is taken as it is. `index` 0 unless nothing failed in it or the case says otherwise."""
    text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
    return {"name": name, "text": text, "keys": "standing", "verdict": verdict, "index": None if verdict in ("ok", None) else 0, **more}


def keyed(name, document, verdict, *entries, **more):
    """A vector with a key document of its own."""
    return case(name, document, verdict, keys={"keys": list(entries)}, **more)


def unusable_keys(name, *entries):
    """No verdict: what was named as keys cannot be relied on."""
    return keyed(f"keys: {name}", FIRST, None, *entries, exit=2)


def spelled(old, new, receipt=FIRST):
    """The receipt with a piece of its text written in another way."""
    text = json.dumps(receipt, separators=(",", ":"))
    assert text.count(old) == 1, old
    return text.replace(old, new)


def last_bits_changed(part):
    """Another text for the same bytes: a bit that base64url leaves over is set."""
    changed_part = part[:-1] + ALPHABET[ALPHABET.index(part[-1]) | 1]
    assert changed_part != part and len(part) % 4 in (2, 3), "this length leaves no bits over"
    return changed_part


def good():
    yield case("ok: hop 1", FIRST, "ok")
    yield case("ok: hop 2 by itself", SECOND, "ok")
    yield case("ok: members in another order, white space", json.dumps(dict(reversed(FIRST.items())), indent=2), "ok")
    yield case("ok: names and values written with escapes", spelled('"tenant":"acme"', '"\\u0074enant":"\\u0061cme"'), "ok")
    yield case("ok: v written 1.0", spelled('"v":1', '"v":1.0'), "ok")
    yield case("ok: hop written 1e0", spelled('"hop":1', '"hop":1e0'), "ok")
    yield case("ok: fu written -0", spelled('"fu":0', '"fu":-0'), "ok")
    yield case("ok: an amount of zero", resealed(FIRST, amount={"currency": "USD", "minor": "0", "payee": "agent-7"}), "ok")
    yield case("ok: the largest amount", resealed(FIRST, amount={"currency": "JPY", "minor": str(2**63 - 1), "payee": "A.b_c-1"}), "ok")
    yield case("ok: a destination host", resealed(FIRST, policy={"allowed": True, "reason": "allowlisted", "host": "hooks.example.com"}), "ok")
    yield case("ok: fu 2^53-1", resealed(FIRST, usage={"vex": 1, "fu": 2**53 - 1}), "ok")
    yield case("ok: hop 2^53-1", resealed(SECOND, hop=2**53 - 1), "ok")
    yield case("ok: the longest tenant id", resealed(FIRST, tenant="0" + "a-" * 31), "ok")
    yield case("ok: the longest trace id", resealed(FIRST, trace_id="A-z.9_:" * 18 + "ab"), "ok")
    yield case("ok: the trace is the exchange itself", resealed(FIRST, trace_id=FIRST["exchange_id"]), "ok")
    yield case("ok: a mapped payload", resealed(FIRST, type={"payload": "openai.tooluse.invoice.v1", "target": "invoice.iso20022.v1"}, request_cid=NO_CID), "ok")
    yield case("ok: a leap day", keyed_time("2028-02-29T00:00:00.000Z"), "ok")
    yield case("ok: the last millisecond of a year", keyed_time("2026-12-31T23:59:59.999Z"), "ok")
    yield case("ok: sealed by the key that follows", sealed(FIRST, NEXT), "ok")
    yield case("ok: the payload", FIRST, "ok", payloads=[PAYLOAD_A])
    yield case("ok: the payload in another spelling", FIRST, "ok", payloads=[' {"currency":"\\u0045UR",\n"amount":"12.50","invoice_id":"INV-1"} '])
    number = resealed(FIRST, cid=digest(b'{"n":[1,0,1e-7]}'))
    yield case("ok: a payload with numbers in another spelling", number, "ok", payloads=['{"n":[1.0,-0,0.0000001]}'])


def keyed_time(ts):
    return resealed(FIRST, ts=ts)


def wrong_members():
    for name in FIRST:
        yield case(f"missing: {name}", without(FIRST, name), "missing_member")
        if name not in ("jws", "receipt_hash"):
            yield case(f"missing, and sealed so: {name}", sealed(without(FIRST, name)), "missing_member")
    yield case("missing: everything", {}, "missing_member")
    yield case("missing: policy.host, not null but absent", resealed(FIRST, policy={"allowed": True, "reason": "no_forward"}), "missing_member")
    yield case("missing: usage.fu", resealed(FIRST, usage={"vex": 1}), "missing_member")
    yield case("missing: amount.payee", resealed(FIRST, amount={"currency": "EUR", "minor": "1"}), "missing_member")
    yield case("missing: type.target", resealed(FIRST, type={"payload": "passthrough"}), "missing_member")
    yield case("unknown: a further member", {**FIRST, "note": "x"}, "unknown_member")
    yield case("unknown: a further member, sealed", resealed(FIRST, note="x"), "unknown_member")
    yield case("unknown: a further member that is null", {**FIRST, "error": None}, "unknown_member")
    yield case("unknown: a name in another case", {**FIRST, "Tenant": "acme"}, "unknown_member")
    yield case("unknown: an empty name", {**FIRST, "": 1}, "unknown_member")
    yield case("unknown: __proto__", spelled('{"v":1', '{"__proto__":{"x":1},"v":1'), "unknown_member")
    yield case("unknown: in policy", resealed(FIRST, policy={**FIRST["policy"], "rule": "7"}), "unknown_member")
    yield case("unknown: in usage", resealed(FIRST, usage={"vex": 1, "fu": 0, "gpu": 0}), "unknown_member")
    yield case("unknown: in type", resealed(FIRST, type={**FIRST["type"], "version": 1}), "unknown_member")
    yield case("unknown: in amount", resealed(FIRST, amount={"currency": "EUR", "minor": "1", "payee": "a", "memo": ""}), "unknown_member")


WRONG_VALUES = {
    "v": [0, 2, "1", True, None, 1.5],
    "tenant": ["", "Acme", "-acme", "acme:eu", "a" * 64, "acme\n", "ac me", None, 7, "аcme"],
    "exchange_id": ["", "ex_", "ex_" + "0" * 25, "ex_" + "0" * 27, "ex_" + "u" * 26, "EX_" + "0" * 26, "ex_" + "A" * 26, None],
    "trace_id": ["", "a" * 129, "a b", "a/b", "é", "trace-1\n", None, 1],
    "chain": ["", "ex_" + "i" * 26, None],
    "hop": [0, -1, 1.5, "1", None, True, [1]],
    "ts": [
        "2026-11-21T10:00:00Z", "2026-11-21T10:00:00.12Z", "2026-11-21T10:00:00.1234Z", "2026-11-21T10:00:00.123+00:00", "2026-11-21 10:00:00.123Z",
        "2026-11-21t10:00:00.123z", "2026-02-29T10:00:00.123Z", "2026-04-31T10:00:00.123Z", "2026-13-01T10:00:00.123Z", "2026-00-10T10:00:00.123Z",
        "2026-11-00T10:00:00.123Z", "2026-11-21T24:00:00.000Z", "2026-11-21T10:60:00.000Z", "2026-12-31T23:59:60.000Z", "20261121T100000.123Z",
        "2026-11-21T10:00:00,123Z", " 2026-11-21T10:00:00.123Z", "2026-11-21T10:00:00.123Z\n", "2100-02-29T10:00:00.123Z", "٢٠٢٦-11-21T10:00:00.123Z", 1795255200, None,
    ],
    "type": [None, "passthrough", [], {"payload": 1, "target": "passthrough"}, {"payload": "passthrough", "target": None}],
    "request_cid": ["", "sha256:", "0" * 64, "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:" + "G" * 64, "sha512:" + "0" * 64, "SHA256:" + "0" * 64, None],
    "cid": ["sha256:" + "A" * 64, "sha256:" + "0" * 64 + "\n", None, 0],
    "canon": ["rfc8785", "JCS", "", None, 8785],
    "algo": ["SHA256", "sha512", "none", "", None],
    "policy": [
        None, True, [], {"allowed": False, "reason": "denied", "host": None}, {"allowed": 1, "reason": "no_forward", "host": None},
        {"allowed": "true", "reason": "no_forward", "host": None}, {"allowed": True, "reason": None, "host": None}, {"allowed": True, "reason": "no_forward", "host": False},
    ],
    "usage": [None, {"vex": 0, "fu": 0}, {"vex": 2, "fu": 0}, {"vex": 1, "fu": -1}, {"vex": 1, "fu": 0.5}, {"vex": 1, "fu": "0"}, {"vex": True, "fu": 0}],
    "amount": [
        "1250", 1250, [], {"currency": "EUR", "minor": 1250, "payee": "a"}, {"currency": "EUR", "minor": "12.50", "payee": "a"}, {"currency": "EUR", "minor": "01", "payee": "a"},
        {"currency": "EUR", "minor": "-1", "payee": "a"}, {"currency": "EUR", "minor": "", "payee": "a"}, {"currency": "EUR", "minor": "1e3", "payee": "a"},
        {"currency": "EUR", "minor": str(2**63), "payee": "a"}, {"currency": "eur", "minor": "1", "payee": "a"}, {"currency": "EURO", "minor": "1", "payee": "a"},
        {"currency": "EUR", "minor": "1", "payee": ""}, {"currency": "EUR", "minor": "1", "payee": "a b"}, {"currency": "EUR", "minor": "1", "payee": None},
    ],
    "prev_receipt_hash": ["", "null", "sha256:" + "F" * 64, False, 0],
}  # fmt: skip


def sealable(value):
    return json.dumps(value, ensure_ascii=False).isascii()


def wrong_values():
    for name, values in WRONG_VALUES.items():
        for value in values:
            wrong = changed(FIRST, **{name: value})
            # What ASCII holds is sealed, so that nothing but the value is wrong.
            yield case(f"malformed: {name} {json.dumps(value)[:99]}", sealed(wrong) if sealable(value) else wrong, "malformed")
    for value in ("", FIRST["receipt_hash"].upper(), FIRST["receipt_hash"][7:], FIRST["receipt_hash"][:-1], None):
        yield case(f"malformed: receipt_hash {json.dumps(value)[:24]}", signed(changed(FIRST, receipt_hash=value)), "malformed")
    for value in (None, 1, {}, ""):
        yield case(f"malformed: jws {json.dumps(value)}", {**FIRST, "jws": value}, "malformed")


def wrong_headers():
    right = MAIN.header(RECEIPT_TYP)
    kid = f'"kid":"{MAIN.kid}"'
    typ = f'"typ":"{RECEIPT_TYP}"'
    headers = {
        "alg none": f'{{"alg":"none",{kid},{typ}}}',
        "alg HS256": f'{{"alg":"HS256",{kid},{typ}}}',
        "alg ES256": f'{{"alg":"ES256",{kid},{typ}}}',
        "alg Ed25519": f'{{"alg":"Ed25519",{kid},{typ}}}',
        "alg in small letters": f'{{"alg":"eddsa",{kid},{typ}}}',
        "alg absent": f"{{{kid},{typ}}}",
        "alg twice, the last one right": f'{{"alg":"none","alg":"EdDSA",{kid},{typ}}}',
        "crit": f'{{"alg":"EdDSA","crit":["exp"],"exp":1,{kid},{typ}}}',
        "b64 false (RFC 7797)": f'{{"alg":"EdDSA","b64":false,"crit":["b64"],{kid},{typ}}}',
        "a further member": f'{{"alg":"EdDSA",{kid},{typ},"x":1}}',
        "an embedded key": f'{{"alg":"EdDSA","jwk":{canonical(MAIN.jwk()).decode()},{kid},{typ}}}',
        "a URL of keys": f'{{"alg":"EdDSA","jku":"https://keys.example/jwks.json",{kid},{typ}}}',
        "another order": f'{{"alg":"EdDSA",{typ},{kid}}}',
        "kid first": f'{{{kid},"alg":"EdDSA",{typ}}}',
        "a space": right.replace(",", ", "),
        "a line end after it": right + "\n",
        "an escape": right.replace('"alg"', '"\\u0061lg"'),
        "typ of a bundle": MAIN.header(BUNDLE_TYP),
        "typ JWT": f'{{"alg":"EdDSA",{kid},"typ":"JWT"}}',
        "typ absent": f'{{"alg":"EdDSA",{kid}}}',
        "typ in another case": right.replace("countersign-receipt", "Countersign-Receipt"),
        "kid absent": f'{{"alg":"EdDSA",{typ}}}',
        "kid null": f'{{"alg":"EdDSA","kid":null,{typ}}}',
        "kid that is no thumbprint": f'{{"alg":"EdDSA","kid":"main",{typ}}}',
        "kid one character short": right.replace(MAIN.kid, MAIN.kid[:-1]),
        "an array": "[]",
        "no JSON": "EdDSA",
    }
    for why, header in headers.items():
        yield case(f"malformed: jws header, {why}", sealed(FIRST, header=header), "malformed")
    header_part, signature_part = FIRST["jws"].split("..")
    parts = {
        "content attached": f"{header_part}.{base64url(canonical(without(FIRST, 'jws')))}.{signature_part}",
        "one dot": f"{header_part}.{signature_part}",
        "no header": f"..{signature_part}",
        "header padded": f"{header_part}=..{signature_part}",
        "a line end inside the header": f"{header_part[:20]}\n{header_part[20:]}..{signature_part}",
        "JSON serialisation": canonical({"protected": header_part, "signature": signature_part}).decode(),
    }
    for why, token in parts.items():
        yield case(f"malformed: jws, {why}", {**FIRST, "jws": token}, "malformed")


def wrong_hashes():
    changes = {
        "amount added": {"amount": {"currency": "EUR", "minor": "1250", "payee": "agent-7"}},
        "a millisecond later": {"ts": "2026-11-21T10:00:00.124Z"},
        "cid of another payload": {"cid": digest(b"{}")},
        "request_cid of another payload": {"request_cid": digest(b"{}")},
        "usage": {"usage": {"vex": 1, "fu": 1}},
        "tenant": {"tenant": "acme2"},
        "policy": {"policy": {"allowed": True, "reason": "allowlisted", "host": "evil.example"}},
        "hop": {"hop": 2},
        "trace_id": {"trace_id": "trace-2"},
        "target type": {"type": {"payload": "passthrough", "target": "other"}},
        "hash of another receipt": {"receipt_hash": SECOND["receipt_hash"]},
    }
    for why, members in changes.items():
        yield case(f"hash: {why}", changed(FIRST, **members), "hash_mismatch")
    yield case("hash: wrong, and signed as it stands", signed(changed(FIRST, receipt_hash=NO_CID)), "hash_mismatch")
    with_jws = digest(canonical(FIRST))
    yield case("hash: taken over jws too", signed({**FIRST, "receipt_hash": with_jws}), "hash_mismatch")
    plain = json.dumps(without(FIRST, "receipt_hash", "jws")).encode()
    yield case("hash: taken over a text that is not canonical", signed({**FIRST, "receipt_hash": digest(plain)}), "hash_mismatch")


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
    yield case("signature: over the content that is not encoded", with_signature(FIRST, MAIN, MAIN.sign(header_part.encode() + b"." + content)), "bad_signature")
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
    yield case("signature: DER", with_signature(FIRST, MAIN, b"\x30\x44\x02\x20" + signature[:32] + b"\x02\x20" + signature[32:]), "bad_signature")
    yield case("signature: hex", {**FIRST, "jws": f"{header_part}..{signature.hex()}"}, "bad_signature")
    yield case("signature: stray bits at the end of base64url", {**FIRST, "jws": f"{header_part}..{last_bits_changed(signature_part)}"}, "bad_signature")
    yield case("signature: padded", {**FIRST, "jws": FIRST["jws"] + "=="}, "bad_signature")
    yield case("signature: a line end behind it", {**FIRST, "jws": FIRST["jws"] + "\n"}, "bad_signature")
    std = with_dashes()
    yield case("signature: in the alphabet of base64", {**std, "jws": "..".join((std["jws"].split("..")[0], std["jws"].split("..")[1].replace("-", "+").replace("_", "/")))}, "bad_signature")
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
    yield case("curve: R is the identity, the equation holds", with_signature(FIRST, MAIN, identity + s.to_bytes(32, "little")), "bad_signature")
    order_2 = (curve.P - 1).to_bytes(32, "little")
    s = curve.challenge(order_2, MAIN.public, message) * MAIN.secret.scalar % curve.L
    yield case("curve: R of order 2, the equation holds with the cofactor", with_signature(FIRST, MAIN, order_2 + s.to_bytes(32, "little")), "bad_signature")
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


def keys_and_times():
    at = unix("2026-11-21T10:00:00.000Z")
    whole = keyed_time("2026-11-21T10:00:00.000Z")
    before = keyed_time("2026-11-21T09:59:59.999Z")
    after = keyed_time("2026-11-21T10:00:00.001Z")
    rsa = {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r"}
    yield keyed("time: ts is nbf", whole, "ok", MAIN.jwk(nbf=at))
    yield keyed("time: a millisecond before nbf", before, "key_expired", MAIN.jwk(nbf=at))
    yield keyed("time: a millisecond before exp", before, "ok", MAIN.jwk(exp=at))
    yield keyed("time: ts is exp", whole, "key_expired", MAIN.jwk(exp=at))
    yield keyed("time: a millisecond after exp", after, "key_expired", MAIN.jwk(exp=at))
    yield keyed("time: within exp's last second", after, "ok", MAIN.jwk(exp=at + 1))
    yield keyed("time: nbf is exp, nothing lies between", whole, "key_expired", MAIN.jwk(nbf=at, exp=at))
    yield keyed("time: before 1970", keyed_time("1969-12-31T23:59:59.999Z"), "key_expired", MAIN.jwk(nbf=0))
    yield keyed("time: before 1970, allowed", keyed_time("1969-12-31T23:59:59.999Z"), "ok", MAIN.jwk(nbf=-1))
    yield keyed("time: the year 0", keyed_time("0000-03-01T00:00:00.000Z"), "key_expired", MAIN.jwk())
    yield keyed("unknown key: none is trusted", FIRST, "unknown_key")
    yield keyed("unknown key: another is trusted", FIRST, "unknown_key", NEXT.jwk())
    yield case("unknown key: a stranger's", sealed(FIRST, STRANGER), "unknown_key")
    yield keyed("unknown key: kty EC", FIRST, "unknown_key", MAIN.jwk(kty="EC"))
    yield keyed("unknown key: crv X25519", FIRST, "unknown_key", MAIN.jwk(crv="X25519"))
    yield keyed("unknown key: crv Ed448", FIRST, "unknown_key", MAIN.jwk(crv="Ed448"))
    yield keyed("ok: keys of other kinds beside", FIRST, "ok", rsa, MAIN.jwk(), {"kty": "oct", "k": "AA"})
    yield keyed("ok: further members of a JWK", FIRST, "ok", MAIN.jwk(key_ops=["verify"], x5t="AA"))
    yield keyed("ok: the same entry twice", FIRST, "ok", MAIN.jwk(), MAIN.jwk())
    yield keyed("ok: exp absent, a rotated key beside", FIRST, "ok", MAIN.jwk(), NEXT.jwk(exp=NBF + 1))
    yield unusable_keys("kid of another key", MAIN.jwk(kid=NEXT.kid))
    yield unusable_keys("kid that is a name", MAIN.jwk(kid="main"))
    yield unusable_keys("kid absent", without(MAIN.jwk(), "kid"))
    yield unusable_keys("a lying entry beside a good one", MAIN.jwk(), NEXT.jwk(kid=STRANGER.kid))
    yield unusable_keys("use enc", MAIN.jwk(use="enc"))
    yield unusable_keys("alg ES256", MAIN.jwk(alg="ES256"))
    yield unusable_keys("use absent", without(MAIN.jwk(), "use"))
    yield unusable_keys("alg absent", without(MAIN.jwk(), "alg"))
    yield unusable_keys("nbf absent", without(MAIN.jwk(), "nbf"))
    yield unusable_keys("nbf a string", MAIN.jwk(nbf=str(NBF)))
    yield unusable_keys("nbf with a fraction", MAIN.jwk(nbf=NBF + 0.5))
    yield unusable_keys("exp null", MAIN.jwk(exp=None))
    yield unusable_keys("exp a string", MAIN.jwk(exp="9999999999"))
    yield unusable_keys("x absent", without(MAIN.jwk(), "x"))
    yield unusable_keys("x padded", x_written(MAIN.x + "="))
    yield unusable_keys("x with stray bits at its end", x_written(last_bits_changed(MAIN.x)))
    yield unusable_keys("x of 31 bytes", x_written(base64url(MAIN.public[:31])))
    yield unusable_keys("x of 33 bytes", x_written(base64url(MAIN.public + b"\0")))
    yield unusable_keys("a private key", MAIN.jwk(d=base64url(bytes([7]) * 32)))
    yield unusable_keys("the same kid twice with other times", MAIN.jwk(), MAIN.jwk(exp=NBF + 1))
    yield unusable_keys("an entry that is no object", 1, MAIN.jwk())
    yield unusable_keys("an entry without kty", without(MAIN.jwk(), "kty"))


def x_written(x):
    """A JWK with this x and the thumbprint of this spelling."""
    kid = base64url(hashlib.sha256(canonical({"crv": "Ed25519", "kty": "OKP", "x": x})).digest())
    return MAIN.jwk(x=x, kid=kid)


def payloads():
    yield case("cid: another payload", FIRST, "cid_mismatch", payloads=["{}"])
    yield case("cid: an amount changed", FIRST, "cid_mismatch", payloads=[PAYLOAD_A.replace("12.50", "12.51")])
    yield case("cid: an amount as a number", FIRST, "cid_mismatch", payloads=[PAYLOAD_A.replace('"12.50"', "12.50")])
    yield case("cid: a further member", FIRST, "cid_mismatch", payloads=[PAYLOAD_A.replace("{", '{"x":null,', 1)])
    composed = resealed(FIRST, cid=digest('"\u00e9"'.encode()))
    yield case("cid: another Unicode normalisation", composed, "cid_mismatch", payloads=['"e\u0301"'])
    yield case("ok: the payload is a string outside ASCII", composed, "ok", payloads=['"\u00e9"'])
    request = resealed(FIRST, cid=NO_CID)
    yield case("cid: the payload as received is not the normalised one", request, "cid_mismatch", payloads=[PAYLOAD_A])
    yield case("payload: a repeated name that hides a change", FIRST, "malformed", payloads=[PAYLOAD_A.replace("{", '{"amount": "99.00",', 1)])
    yield case("payload: an unsafe integer", resealed(FIRST, cid=digest(b"9007199254740992")), "malformed", payloads=["9007199254740993"])
    yield case("payload: 1e400", FIRST, "malformed", payloads=["[1e400]"])
    yield case("payload: 65 containers", FIRST, "malformed", payloads=["[" * 65 + "]" * 65])


def places():
    """What a receipt says of its place in the chain can be wrong even where the chain is not at hand."""
    yield case("place: hop 1 with a hash before it", resealed(FIRST, prev_receipt_hash=CID_A), "broken_link")
    yield case("place: hop 2 with nothing before it", resealed(SECOND, prev_receipt_hash=None), "broken_link")
    yield case("place: hop 1 of another's chain", resealed(FIRST, chain=exchange_id("acme", "key-9")), "wrong_chain")
    yield case("place: hop 1 of the chain of hop 2", resealed(FIRST, chain=SECOND["exchange_id"]), "wrong_chain")


def at_the_door():
    yield case("door: tenant twice, the first one hidden", spelled('"tenant":"acme"', '"tenant":"evil","tenant":"acme"'), "malformed")
    yield case("door: tenant twice, the second one hidden by an escape", spelled('"tenant":"acme"', '"tenant":"acme","\\u0074enant":"evil"'), "malformed")
    paid = resealed(FIRST, amount={"currency": "EUR", "minor": "1250", "payee": "agent-7"})
    yield case("door: minor twice", spelled('"minor":"1250"', '"minor":"9999","minor":"1250"', paid), "malformed")
    yield case("door: the same member twice with the same value", spelled('"v":1', '"v":1,"v":1'), "malformed")
    yield case("door: fu 2^53", spelled('"fu":0', '"fu":9007199254740992'), "malformed")
    rounded = resealed(FIRST, usage={"vex": 1, "fu": 2**53 - 1})
    yield case("door: fu with a fraction that rounds to an unsafe integer", spelled(str(2**53 - 1), "9007199254740991.5", rounded), "malformed")
    doubled = resealed(FIRST, usage={"vex": 1, "fu": 2**53})
    yield case("door: fu 2^53+1, sealed as a double rounds it", spelled(str(2**53), str(2**53 + 1), doubled), "malformed")
    yield case("door: fu 1e400", spelled('"fu":0', '"fu":1e400'), "malformed")
    yield case("door: fu 1e-400 for 0", spelled('"fu":0', '"fu":1e-400'), "malformed")
    yield case("door: half a surrogate pair", spelled("no_forward", "\\ud800"), "malformed")
    yield case("door: a noncharacter", spelled("no_forward", "\\uffff"), "malformed")
    yield case("door: 65 containers, before the unknown member that holds them", spelled('"v":1', '"v":1,"x":' + "[" * 64 + "]" * 64), "malformed")
    yield case("door: 64 containers are let in, the unknown member is not", spelled('"v":1', '"v":1,"x":' + "[" * 63 + "]" * 63), "unknown_member")
    text = json.dumps(FIRST, separators=(",", ":"))
    for why, broken in {
        "a byte order mark": "\ufeff" + text,
        "a trailing comma": text[:-1] + ",}",
        "something behind it": text + " x",
        "two receipts on a line": text + text,
        "cut short": text[:-1],
        "NaN": spelled('"fu":0', '"fu":NaN'),
        "a raw line end in a string": spelled("no_forward", "no\nforward"),
        "nothing": "",
    }.items():
        yield case(f"syntax: {why}", broken, "malformed", index=None, exit=2)
    for why, other in {"null": "null", "a number": "1", "a string": json.dumps(text), "true": "true"}.items():
        yield case(f"shape: {why}", other, "malformed", index=None, exit=2)


def precedence():
    """Two faults in one receipt: the check that comes first in the contract gives the verdict."""
    late = changed(FIRST, ts="2020-01-01T00:00:00.000Z")
    yield case("order: unknown member before missing member", without({**FIRST, "x": 1}, "cid"), "unknown_member")
    yield case("order: unknown member before a malformed value", {**FIRST, "x": 1, "hop": "1"}, "unknown_member")
    yield case("order: missing member before a malformed value", without({**FIRST, "hop": "1"}, "cid"), "missing_member")
    twice_wrong = changed(FIRST, type={"payload": 1, "target": None}, policy={**FIRST["policy"], "x": 1})
    yield case("order: an unknown member inside before a malformed value elsewhere", twice_wrong, "unknown_member")
    yield case("order: malformed before the hash", {**FIRST, "tenant": "Acme"}, "malformed")
    yield case("order: a wrong header before the hash", {**sealed(FIRST, header='{"alg":"none"}'), "cid": NO_CID}, "malformed")
    yield case("order: the hash before the signature", {**sealed(FIRST, STRANGER, MAIN.header(RECEIPT_TYP)), "cid": NO_CID}, "hash_mismatch")
    yield case("order: the hash before the unknown key", {**sealed(FIRST, STRANGER), "cid": NO_CID}, "hash_mismatch")
    yield case("order: the unknown key before its time", sealed(late, STRANGER), "unknown_key")
    yield case("order: the unknown key before the signature", with_signature(FIRST, STRANGER, bytes(64)), "unknown_key")
    yield case("order: the signature before the key's time", with_signature(hashed(late), MAIN, bytes(64)), "bad_signature")
    yield case("order: the key's time before the payload", sealed(late), "key_expired", payloads=["{}"])
    yield case("order: the signature before the payload", with_signature(FIRST, MAIN, bytes(64)), "bad_signature", payloads=["{}"])
    yield case("order: the payload before the place", resealed(FIRST, prev_receipt_hash=CID_A), "cid_mismatch", payloads=["{}"])
    yield case("order: the key's time before the place", resealed(late, prev_receipt_hash=CID_A), "key_expired")
    yield case("order: the chain before the link", resealed(FIRST, chain=SECOND["exchange_id"], prev_receipt_hash=CID_A), "wrong_chain")


def receipt_vectors():
    for part in (
        good, wrong_members, wrong_values, wrong_headers, wrong_hashes, wrong_signatures, keys_and_times, payloads, places, at_the_door, precedence,
    ):  # fmt: skip
        yield from part()
