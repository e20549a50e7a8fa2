"""Chains: arrays of receipts. Every receipt in them is right by itself unless the case says otherwise."""

import json

from cases import NO_CID, case
from sealing import CID_A, MAIN, NEXT, PAYLOAD_A, STRANGER, chain, changed, exchange_id, relinked, resealed, sealed, with_signature, without

THREE = chain(3)
OTHER_TRACE = chain(3, trace_id="trace-2", first_key=10)
OTHER_TENANT = chain(3, tenant="zurich-7")
LATER_CHAIN = chain(3, first_key=20)
EARLY = "2026-11-21T09:59:59.999Z"


def good():
    yield case("ok: one hop", THREE[:1], "ok")
    yield case("ok: three hops", THREE, "ok")
    yield case("ok: twelve hops", chain(12), "ok")
    yield case("ok: hops at the same time", relinked(THREE, 1, ts=THREE[0]["ts"]), "ok")
    rotated = sealed(changed(THREE[2], prev_receipt_hash=THREE[1]["receipt_hash"]), NEXT)
    yield case("ok: the key is rotated between two hops", [*THREE[:2], rotated], "ok")
    yield case("ok: payloads", THREE, "ok", payloads=[PAYLOAD_A, PAYLOAD_A, PAYLOAD_A])
    yield case("ok: a payload that is not at hand", THREE, "ok", payloads=[PAYLOAD_A, None, PAYLOAD_A])
    yield case("ok: the beginning of a chain", THREE[:2], "ok")
    yield case("ok: with white space", json.dumps(THREE, indent=1), "ok")


def mixed():
    yield case("tenant: the second is another's", [THREE[0], OTHER_TENANT[1]], "wrong_tenant", index=1)
    yield case("tenant: relinked under another tenant", relinked(THREE, 2, tenant="zurich-7"), "wrong_tenant", index=2)
    yield case("tenant: all right but the last", [*THREE, OTHER_TENANT[2]], "wrong_tenant", index=3)
    yield case("trace: two traces mixed", [THREE[0], OTHER_TRACE[1], THREE[2]], "wrong_trace", index=1)
    yield case("trace: relinked on another trace", relinked(THREE, 1, trace_id="trace-2"), "wrong_trace", index=1)
    yield case("trace: a name in another case", relinked(THREE, 2, trace_id="Trace-1"), "wrong_trace", index=2)
    yield case("chain: two chains of one trace mixed", [THREE[0], LATER_CHAIN[1], THREE[2]], "wrong_chain", index=1)
    yield case("chain: a later chain's beginning appended", [*THREE, LATER_CHAIN[0]], "wrong_chain", index=3)
    yield case("chain: relinked under another chain", relinked(THREE, 1, chain=LATER_CHAIN[0]["chain"]), "wrong_chain", index=1)
    foreign = [resealed(receipt, chain=exchange_id("acme", "key-9")) for receipt in THREE]
    yield case("chain: none of its receipts is the chain's first", foreign, "wrong_chain")
    yield case("chain: hop 2 names itself", relinked(THREE, 1, chain=THREE[1]["exchange_id"]), "wrong_chain", index=1)


def gaps():
    one, two, three = THREE
    yield case("hop: shuffled", [one, three, two], "hop_gap", index=1)
    yield case("hop: reversed", [three, two, one], "hop_gap")
    yield case("hop: one left out", [one, three], "hop_gap", index=1)
    yield case("hop: the first left out", [two, three], "hop_gap")
    yield case("hop: one repeated", [one, two, two, three], "hop_gap", index=2)
    yield case("hop: the first repeated", [one, one, two], "hop_gap", index=1)
    yield case("hop: counted on by two and linked", relinked(THREE, 1, hop=3), "hop_gap", index=1)
    yield case("hop: not counted on", relinked(THREE, 2, hop=2), "hop_gap", index=2)
    yield case("hop: the first is hop 2", relinked(THREE, 0, hop=2), "hop_gap")


def links():
    yield case("link: null at hop 2", relinked(THREE, 1, relink=False, prev_receipt_hash=None), "broken_link", index=1)
    yield case(
        "link: the hash of another receipt",
        relinked(THREE, 1, relink=False, prev_receipt_hash=LATER_CHAIN[0]["receipt_hash"]),
        "broken_link",
        index=1,
    )
    yield case(
        "link: the hash of the hop before the one before",
        relinked(THREE, 2, relink=False, prev_receipt_hash=THREE[0]["receipt_hash"]),
        "broken_link",
        index=2,
    )
    yield case("link: its own predecessor's cid", relinked(THREE, 1, relink=False, prev_receipt_hash=CID_A), "broken_link", index=1)
    yield case("link: a hash before hop 1", relinked(THREE, 0, prev_receipt_hash=CID_A), "broken_link")
    rewritten = resealed(THREE[1], amount={"currency": "EUR", "minor": "1", "payee": "agent-7"})
    yield case("link: the middle sealed anew with another amount", [THREE[0], rewritten, THREE[2]], "broken_link", index=2)
    first = resealed(THREE[0], ts="2026-11-21T10:00:00.000Z")
    yield case("link: the first sealed anew", [first, *THREE[1:]], "broken_link", index=1)


def times():
    yield case("time: a millisecond back", relinked(THREE, 1, ts="2026-11-21T10:00:00.122Z"), "time_reversed", index=1)
    yield case("time: back to before the first", relinked(THREE, 2, ts=EARLY), "time_reversed", index=2)
    yield case(
        "time: the first lies in the future of the others", relinked(THREE, 0, ts="2026-11-21T10:00:09.000Z"), "time_reversed", index=1
    )


def single_faults():
    one, two, three = THREE
    yield case("receipt 0: hash", [changed(one, cid=NO_CID), two, three], "hash_mismatch")
    yield case("receipt 1: hash", [one, changed(two, cid=NO_CID), three], "hash_mismatch", index=1)
    yield case("receipt 2: signature", [one, two, with_signature(three, MAIN, bytes(64))], "bad_signature", index=2)
    yield case("receipt 1: a stranger's key", relinked_by_stranger(), "unknown_key", index=1)
    yield case(
        "receipt 1: after the key's time",
        relinked(THREE, 1, ts="2031-01-01T00:00:00.000Z"),
        "key_expired",
        index=1,
        keys={"keys": [MAIN.jwk(exp=1924992000)]},
    )
    yield case("receipt 2: another payload", THREE, "cid_mismatch", index=2, payloads=[PAYLOAD_A, PAYLOAD_A, "{}"])
    yield case("receipt 1: another payload, the first not at hand", THREE, "cid_mismatch", index=1, payloads=[None, "[]"])
    yield case("receipt 1: a member missing", [one, without(two, "usage"), three], "missing_member", index=1)
    yield case("receipt 2: a member too many", [one, two, {**three, "x": 1}], "unknown_member", index=2)
    yield case("receipt 1: jws of the hop before", [one, {**two, "jws": one["jws"]}, three], "bad_signature", index=1)
    yield case("receipt 1: null", [one, None, three], "malformed", index=1)
    yield case("receipt 0: a number", [1], "malformed")
    yield case("receipt 0: a chain inside a chain", [THREE], "malformed")
    text = json.dumps(THREE, separators=(",", ":"))
    yield case("receipt 1: a repeated name", text.replace('"hop":2', '"hop":9,"hop":2'), "malformed", index=1)
    yield case("receipt 2: an unsafe integer", text.replace('"hop":3', '"hop":90071992547409931'), "malformed", index=2)
    yield case("no receipts", [], "malformed", index=None, exit=2)
    yield case("the array is not closed", text[:-1], "malformed", index=None, exit=2)


def relinked_by_stranger():
    one, two, three = THREE
    two = sealed(two, STRANGER)
    return [one, two, resealed(three, prev_receipt_hash=two["receipt_hash"])]


def precedence():
    """By receipt first, by check second."""
    one, _, three = THREE
    wrong_hop = relinked(THREE, 1, hop=5)[1]
    yield case(
        "order: the place of receipt 1 before the hash of receipt 2", [one, wrong_hop, changed(three, cid=NO_CID)], "hop_gap", index=1
    )
    yield case("order: the hash of receipt 0 before the place of receipt 1", [changed(one, cid=NO_CID), wrong_hop, three], "hash_mismatch")
    yield case("order: the hash of receipt 1 before its place", [one, changed(wrong_hop, cid=NO_CID), three], "hash_mismatch", index=1)
    everything = {
        "tenant": "zurich-7",
        "trace_id": "trace-2",
        "chain": LATER_CHAIN[0]["chain"],
        "hop": 7,
        "prev_receipt_hash": CID_A,
        "ts": EARLY,
    }
    for verdict in ("wrong_tenant", "wrong_trace", "wrong_chain", "hop_gap", "broken_link", "time_reversed"):
        left = ", ".join(everything)
        yield case(f"order: {verdict} first of {left}", relinked(THREE, 1, relink=False, **everything), verdict, index=1)
        del everything[next(iter(everything))]


def chain_vectors():
    for part in (good, mixed, gaps, links, times, single_faults, precedence):
        yield from part()
