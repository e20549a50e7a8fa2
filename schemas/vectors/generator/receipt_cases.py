"""Single receipts, right and wrong. Where the signer could have signed the fault, it has: then only the rule itself refuses it."""

import json

from cases import FIRST, NO_CID, SECOND, case, keyed_time, spelled
from key_cases import keys_and_times
from sealing import (
    BUNDLE_TYP, CID_A, MAIN, NEXT, PAYLOAD_A, RECEIPT_TYP, STRANGER, base64url, canonical, changed, digest, exchange_id, hashed, resealed, sealed,
    signed, with_signature, without,
)  # fmt: skip
from signature_cases import wrong_signatures


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
    yield case(
        "ok: a destination host", resealed(FIRST, policy={"allowed": True, "reason": "allowlisted", "host": "hooks.example.com"}), "ok"
    )
    yield case("ok: fu 2^53-1", resealed(FIRST, usage={"vex": 1, "fu": 2**53 - 1}), "ok")
    yield case("ok: hop 2^53-1", resealed(SECOND, hop=2**53 - 1), "ok")
    yield case("ok: the longest tenant id", resealed(FIRST, tenant="0" + "a-" * 31), "ok")
    yield case("ok: the longest trace id", resealed(FIRST, trace_id="A-z.9_:" * 18 + "ab"), "ok")
    yield case("ok: the trace is the exchange itself", resealed(FIRST, trace_id=FIRST["exchange_id"]), "ok")
    yield case(
        "ok: a mapped payload",
        resealed(FIRST, type={"payload": "openai.tooluse.invoice.v1", "target": "invoice.iso20022.v1"}, request_cid=NO_CID),
        "ok",
    )
    yield case("ok: a leap day", keyed_time("2028-02-29T00:00:00.000Z"), "ok")
    yield case("ok: the last millisecond of a year", keyed_time("2026-12-31T23:59:59.999Z"), "ok")
    yield case("ok: sealed by the key that follows", sealed(FIRST, NEXT), "ok")
    yield case("ok: the payload", FIRST, "ok", payloads=[PAYLOAD_A])
    yield case(
        "ok: the payload in another spelling", FIRST, "ok", payloads=[' {"currency":"\\u0045UR",\n"amount":"12.50","invoice_id":"INV-1"} ']
    )
    number = resealed(FIRST, cid=digest(b'{"n":[1,0,1e-7]}'))
    yield case("ok: a payload with numbers in another spelling", number, "ok", payloads=['{"n":[1.0,-0,0.0000001]}'])


def wrong_members():
    for name in FIRST:
        yield case(f"missing: {name}", without(FIRST, name), "missing_member")
        if name not in ("jws", "receipt_hash"):
            yield case(f"missing, and sealed so: {name}", sealed(without(FIRST, name)), "missing_member")
    yield case("missing: everything", {}, "missing_member")
    yield case(
        "missing: policy.host, not null but absent", resealed(FIRST, policy={"allowed": True, "reason": "no_forward"}), "missing_member"
    )
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
    yield case(
        "payload: a repeated name that hides a change", FIRST, "malformed", payloads=[PAYLOAD_A.replace("{", '{"amount": "99.00",', 1)]
    )
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
    yield case(
        "door: tenant twice, the second one hidden by an escape",
        spelled('"tenant":"acme"', '"tenant":"acme","\\u0074enant":"evil"'),
        "malformed",
    )
    paid = resealed(FIRST, amount={"currency": "EUR", "minor": "1250", "payee": "agent-7"})
    yield case("door: minor twice", spelled('"minor":"1250"', '"minor":"9999","minor":"1250"', paid), "malformed")
    yield case("door: the same member twice with the same value", spelled('"v":1', '"v":1,"v":1'), "malformed")
    yield case("door: fu 2^53", spelled('"fu":0', '"fu":9007199254740992'), "malformed")
    rounded = resealed(FIRST, usage={"vex": 1, "fu": 2**53 - 1})
    yield case(
        "door: fu with a fraction that rounds to an unsafe integer", spelled(str(2**53 - 1), "9007199254740991.5", rounded), "malformed"
    )
    doubled = resealed(FIRST, usage={"vex": 1, "fu": 2**53})
    yield case("door: fu 2^53+1, sealed as a double rounds it", spelled(str(2**53), str(2**53 + 1), doubled), "malformed")
    yield case("door: fu 1e400", spelled('"fu":0', '"fu":1e400'), "malformed")
    yield case("door: fu 1e-400 for 0", spelled('"fu":0', '"fu":1e-400'), "malformed")
    yield case("door: half a surrogate pair", spelled("no_forward", "\\ud800"), "malformed")
    yield case("door: a noncharacter", spelled("no_forward", "\\uffff"), "malformed")
    yield case(
        "door: 65 containers, before the unknown member that holds them", spelled('"v":1', '"v":1,"x":' + "[" * 64 + "]" * 64), "malformed"
    )
    yield case(
        "door: 64 containers are let in, the unknown member is not", spelled('"v":1', '"v":1,"x":' + "[" * 63 + "]" * 63), "unknown_member"
    )
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
    yield case(
        "order: the hash before the signature", {**sealed(FIRST, STRANGER, MAIN.header(RECEIPT_TYP)), "cid": NO_CID}, "hash_mismatch"
    )
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
