"""Bundles. What concerns one of the receipts has its index; what concerns the bundle as a whole has none."""

import json

from cases import NO_CID, last_bits_changed, x_written
from cases import case as receipt_case
from chain_cases import LATER_CHAIN, OTHER_TENANT, OTHER_TRACE, THREE
from sealing import (
    BUNDLES, CID_A, MAIN, NBF, NEXT, PAYLOAD_A, RECEIPT_TYP, STRANGER, base64url, bundle, bundle_sealed, bundle_signed, canonical, chain, changed, digest,
    relinked, resealed, unix, with_signature, without,
)  # fmt: skip
from worked_example import worked_example

BUNDLE = bundle(THREE)
STRANGERS = bundle(chain(2, key=STRANGER), keys=[STRANGER], key=STRANGER)


def case(name, document, verdict, **more):
    return receipt_case(name, document, verdict, **{"index": None, **more})


def good():
    yield case("ok: the worked example", worked_example()["bundle"], "ok")
    yield case("ok: three hops, the bundle signed by a key of its own", BUNDLE, "ok")
    yield case("ok: one hop", bundle(THREE[:1]), "ok")
    yield case("ok: signed by the key of its receipts", bundle(THREE, keys=[MAIN], key=MAIN), "ok")
    yield case("ok: members in another order, white space", json.dumps(dict(reversed(BUNDLE.items())), indent=2), "ok")
    yield case("ok: its keys trusted, nothing else", STRANGERS, "ok", keys={"keys": []}, trust_embedded_keys=True)
    yield case(
        "ok: its keys trusted beside those that were given", bundle(chain(2, key=STRANGER), keys=[STRANGER]), "ok", trust_embedded_keys=True
    )
    yield case("ok: no keys in it, all of them given", bundle(THREE, keys=[]), "ok")
    yield case("ok: payloads", BUNDLE, "ok", payloads=[PAYLOAD_A, PAYLOAD_A, PAYLOAD_A])
    at = unix("2026-11-21T11:00:00.000Z")
    yield case("ok: exported at nbf of its key", BUNDLE, "ok", keys={"keys": [MAIN.jwk(), BUNDLES.jwk(nbf=at)]})


def trust():
    yield case("trust: its own keys without being told to", STRANGERS, "unknown_key", index=0)
    yield case("trust: its own keys, nothing given", BUNDLE, "unknown_key", index=0, keys={"keys": []})
    yield case(
        "trust: told to, but the signer of the receipts is not in it",
        bundle(THREE, keys=[BUNDLES]),
        "unknown_key",
        index=0,
        keys={"keys": []},
        trust_embedded_keys=True,
    )
    yield case(
        "trust: told to, but its own signer is not in it",
        bundle(THREE, keys=[MAIN]),
        "unknown_key",
        keys={"keys": []},
        trust_embedded_keys=True,
    )
    wide = bundle(THREE, keys=[MAIN, BUNDLES])
    yield case(
        "trust: a key that was given has ended, the bundle says it has not",
        wide,
        "key_expired",
        index=0,
        keys={"keys": [MAIN.jwk(exp=NBF + 1), BUNDLES.jwk()]},
        trust_embedded_keys=True,
    )
    narrow = bundle(THREE, keys=[MAIN.jwk(exp=NBF + 1), BUNDLES])
    yield case("trust: the bundle says a key has ended, the one that was given has not", narrow, "ok", trust_embedded_keys=True)
    yield case("trust: the same bundle by its own keys", narrow, "key_expired", index=0, keys={"keys": []}, trust_embedded_keys=True)


def wrong_members():
    for name in BUNDLE:
        yield case(f"missing: {name}", without(BUNDLE, name), "missing_member")
    yield case("unknown: a further member", {**BUNDLE, "note": ""}, "unknown_member")
    yield case("unknown: a further member, sealed", bundle_sealed({**BUNDLE, "note": ""}), "unknown_member")
    yield case("unknown: a member of receipts", bundle_sealed({**BUNDLE, "receipt_hash": CID_A}), "unknown_member")
    wrong = {
        "v": [2, "1"],
        "tenant": ["", "Acme", None],
        "trace_id": ["", "a b", None],
        "chain": ["ex_1", None],
        "exported_at": ["2026-11-21T11:00:00Z", "2026-11-21", 0, None],
        "receipts": [[], {}, None, "x"],
        "keys": [{}, None, [1], [{"kty": "RSA"}]],
    }
    for name, values in wrong.items():
        for value in values:
            yield case(f"malformed: {name} {json.dumps(value)[:99]}", bundle_sealed(changed(BUNDLE, **{name: value})), "malformed")
    spoilt = {
        "the kid of another key": MAIN.jwk(kid=NEXT.kid),
        "a private key": MAIN.jwk(d="AA"),
        "no nbf": without(MAIN.jwk(), "nbf"),
        "x with stray bits at its end": x_written(last_bits_changed(MAIN.x)),
        "X25519": MAIN.jwk(crv="X25519"),
    }
    for why, entry in spoilt.items():
        yield case(f"malformed: keys, an entry with {why}", bundle(THREE, keys=[entry, BUNDLES]), "malformed")
    yield case("malformed: bundle_cid in capitals", bundle_signed({**BUNDLE, "bundle_cid": BUNDLE["bundle_cid"].upper()}), "malformed")
    yield case("malformed: bundle_cid null", bundle_signed({**BUNDLE, "bundle_cid": None}), "malformed")
    yield case("malformed: jws null", {**BUNDLE, "jws": None}, "malformed")
    yield case("malformed: jws with the header of a receipt", bundle_sealed(BUNDLE, header=BUNDLES.header(RECEIPT_TYP)), "malformed")
    yield case(
        "malformed: jws with alg none",
        bundle_sealed(BUNDLE, header='{"alg":"none","kid":"%s","typ":"countersign-bundle+jws"}' % BUNDLES.kid),
        "malformed",
    )
    header_part, signature_part = BUNDLE["jws"].split("..")
    yield case(
        "malformed: jws, header with a stray bit at its end",
        {**BUNDLE, "jws": f"{last_bits_changed(header_part)}..{signature_part}"},
        "malformed",
    )
    attached = base64url(canonical(without(BUNDLE, "jws")))
    yield case("malformed: jws with its content", {**BUNDLE, "jws": BUNDLE["jws"].replace("..", f".{attached}.")}, "malformed")
    yield case("malformed: a receipt that is no object", bundle_sealed({**BUNDLE, "receipts": [THREE[0], 5]}), "malformed", index=1)
    text = json.dumps(BUNDLE, separators=(",", ":"))
    yield case("door: v twice, after the receipts", text[:-1] + ',"v":1}', "malformed")
    yield case("door: receipts twice, the first hidden", text.replace('"receipts":[', '"receipts":[],"receipts":[', 1), "malformed")
    yield case("door: a repeated name in receipt 2", text.replace('"hop":3', '"hop":1,"hop":3'), "malformed", index=2)
    yield case("door: an unsafe integer in a key", text.replace(f'"nbf":{NBF}', '"nbf":9007199254740993', 1), "malformed")
    yield case("door: 1e400 in receipt 0", text.replace('"fu":0', '"fu":1e400', 1), "malformed", index=0)
    yield case("syntax: cut short", text[:-1], "malformed", exit=2)
    yield case("syntax: two bundles", f"{text} {text}", "malformed", exit=2)


def wrong_receipts():
    one, two, three = THREE
    yield case("receipt 0: hash", bundle([changed(one, cid=NO_CID), two, three]), "hash_mismatch", index=0)
    yield case(
        "receipt 1: hash, nothing else sealed anew",
        {**BUNDLE, "receipts": [one, changed(two, cid=NO_CID), three]},
        "hash_mismatch",
        index=1,
    )
    yield case("receipt 2: signature", bundle([one, two, with_signature(three, MAIN, bytes(64))]), "bad_signature", index=2)
    yield case("receipt 1: a member missing", bundle([one, without(two, "amount"), three]), "missing_member", index=1)
    yield case("receipt 1: a member too many", bundle([one, {**two, "x": 1}, three]), "unknown_member", index=1)
    yield case(
        "receipt 1: after the key's time",
        bundle(relinked(THREE, 1, ts="2031-01-01T00:00:00.000Z")),
        "key_expired",
        index=1,
        keys={"keys": [MAIN.jwk(exp=1924992000), BUNDLES.jwk()]},
    )
    yield case("receipt 1: another payload", BUNDLE, "cid_mismatch", index=1, payloads=[PAYLOAD_A, "{}"])
    yield case("foreign: a receipt of another trace", bundle([one, two, OTHER_TRACE[2]]), "wrong_trace", index=2)
    yield case("foreign: a receipt of another tenant", bundle([one, OTHER_TENANT[1], three]), "wrong_tenant", index=1)
    yield case("foreign: a receipt of a later chain", bundle([one, LATER_CHAIN[1], three]), "wrong_chain", index=1)
    yield case("foreign: all receipts are another tenant's", bundle(OTHER_TENANT, tenant="acme"), "wrong_tenant", index=0)
    yield case("foreign: all receipts are of another trace", bundle(OTHER_TRACE, trace_id="trace-1"), "wrong_trace", index=0)
    yield case("foreign: all receipts are of another chain", bundle(LATER_CHAIN, chain=THREE[0]["chain"]), "wrong_chain", index=0)
    yield case("chain: shuffled", bundle([one, three, two]), "hop_gap", index=1)
    yield case("chain: one left out", bundle([one, three]), "hop_gap", index=1)
    yield case("chain: one repeated", bundle([one, two, two]), "hop_gap", index=2)
    yield case("chain: the first left out", bundle([two, three]), "hop_gap", index=0)
    yield case("chain: null at hop 2", bundle(relinked(THREE, 1, relink=False, prev_receipt_hash=None)), "broken_link", index=1)
    yield case("chain: the middle sealed anew", bundle([one, resealed(two, usage={"vex": 1, "fu": 9}), three]), "broken_link", index=2)
    yield case("chain: time goes back", bundle(relinked(THREE, 2, ts=one["ts"])), "time_reversed", index=2)


def wrong_seals():
    yield case("seal: bundle_cid of other content, signed", bundle_signed({**BUNDLE, "bundle_cid": NO_CID}), "hash_mismatch")
    yield case("seal: exported_at changed", {**BUNDLE, "exported_at": "2026-11-21T12:00:00.000Z"}, "hash_mismatch")
    yield case("seal: a key added", {**BUNDLE, "keys": [*BUNDLE["keys"], STRANGER.jwk()]}, "hash_mismatch")
    yield case("seal: the last receipt taken out", {**BUNDLE, "receipts": BUNDLE["receipts"][:2]}, "hash_mismatch")
    with_jws = digest(canonical(without(BUNDLE, "bundle_cid")))
    yield case("seal: bundle_cid taken over jws too", bundle_signed({**BUNDLE, "bundle_cid": with_jws}), "hash_mismatch")
    yield case("seal: by a stranger", bundle(THREE, key=STRANGER), "unknown_key")
    yield case("seal: by a key that is not given", BUNDLE, "unknown_key", keys={"keys": [MAIN.jwk()]})
    yield case(
        "seal: by another key under this kid", bundle_sealed(BUNDLE, MAIN, BUNDLES.header("countersign-bundle+jws")), "bad_signature"
    )
    yield case("seal: of another bundle", {**BUNDLE, "jws": bundle(THREE[:2])["jws"]}, "bad_signature")
    yield case(
        "seal: bundle_cid left out of the content", {**BUNDLE, "jws": bundle_signed(without(BUNDLE, "bundle_cid"))["jws"]}, "bad_signature"
    )
    header_part, signature_part = BUNDLE["jws"].split("..")
    yield case(
        "seal: stray bits at the end of the signature",
        {**BUNDLE, "jws": f"{header_part}..{last_bits_changed(signature_part)}"},
        "bad_signature",
    )
    at = unix("2026-11-21T11:00:00.000Z")
    yield case("seal: exported at exp of its key", BUNDLE, "key_expired", keys={"keys": [MAIN.jwk(), BUNDLES.jwk(exp=at)]})
    yield case("seal: exported before nbf of its key", BUNDLE, "key_expired", keys={"keys": [MAIN.jwk(), BUNDLES.jwk(nbf=at + 1)]})


def precedence():
    """The bundle's members, then the receipts, then its digest, its signature and its key's time."""
    one, two, three = THREE
    bad = [one, changed(two, cid=NO_CID), three]
    yield case("order: the bundle's members before a receipt's hash", {**bundle(bad), "x": 1}, "unknown_member")
    yield case("order: the bundle's jws header before a receipt's hash", {**bundle(bad), "jws": "x"}, "malformed")
    yield case("order: a receipt's hash before bundle_cid", {**bundle(bad), "bundle_cid": NO_CID}, "hash_mismatch", index=1)
    yield case("order: the place of receipt 0 before the hash of receipt 1", bundle(bad, tenant="zurich-7"), "wrong_tenant", index=0)
    yield case(
        "order: the hash of receipt 0 before its tenant",
        bundle([changed(one, cid=NO_CID), two, three], tenant="zurich-7"),
        "hash_mismatch",
        index=0,
    )
    yield case("order: bundle_cid before the unknown key", {**bundle(THREE, key=STRANGER), "bundle_cid": NO_CID}, "hash_mismatch")
    late = bundle_sealed({**BUNDLE, "exported_at": "2020-01-01T00:00:00.000Z"}, MAIN, BUNDLES.header("countersign-bundle+jws"))
    yield case("order: the bundle's signature before its key's time", late, "bad_signature")


def bundle_vectors():
    for part in (good, trust, wrong_members, wrong_receipts, wrong_seals, precedence):
        yield from part()
