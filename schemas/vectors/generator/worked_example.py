"""The worked example that comes with the contract, made again from its parts: every byte of it must come out."""

import json

import sealing
from sealing import MAIN, bundle, digest, exchange_id, sealed

IDS = [("acme", "key-0"), ("acme", "key-1"), ("zurich-7", "order/2026-11-21#0001")]
PAYLOADS = [
    (
        '{"z":1e+30,"a":[1,2.5,-0.0,1e-07,333333333.3333333],"\u00e9":"\u20ac\\u0007\\"","\U0001f600":null,"\ufb33":true}',
        '{"a":[1,2.5,0,1e-7,333333333.3333333],"z":1e+30,"\u00e9":"\u20ac\\u0007\\"","\U0001f600":null,"\ufb33":true}',
    ),
    ('{"invoice_id":"INV-1","amount":"12.50","currency":"EUR"}', '{"amount":"12.50","currency":"EUR","invoice_id":"INV-1"}'),
]


def worked_example():
    cids = [digest(canonical.encode()) for _, canonical in PAYLOADS]
    first = sealed({**sealing.open_receipt(), "request_cid": cids[0], "cid": cids[0]})
    second = {
        **sealing.open_receipt(key_number=1, hop=2, ts="2026-11-21T10:00:01.123Z", chain=first["chain"]),
        "request_cid": cids[1],
        "cid": cids[1],
        "amount": {"currency": "EUR", "minor": "1250", "payee": "agent-7"},
        "prev_receipt_hash": first["receipt_hash"],
    }
    return {
        "comment": "Computed from evidence.md by an independent Python program (rfc8785, cryptography). The private key is for these vectors only.",
        "private_key_seed_hex": "07" * 32,
        "exchange_ids": [{"tenant": tenant, "idempotency_key": key, "exchange_id": exchange_id(tenant, key)} for tenant, key in IDS],
        "payloads": [
            {"document": json.loads(text), "canonical_hex": canonical.encode().hex(), "cid": cid}
            for (text, canonical), cid in zip(PAYLOADS, cids)
        ],
        "bundle": bundle([first, sealed(second)], keys=[MAIN], key=MAIN),
    }


def exchange_id_vectors():
    yield from worked_example()["exchange_ids"]
    longest = "~" * 255
    for tenant, key in [("a", "!"), ("acme", longest), ("0" + "a-" * 31, "k"), ("acme", "a:b"), ("acme-eu", "key-0"), ("acme", "KEY-0")]:
        yield {"tenant": tenant, "idempotency_key": key, "exchange_id": exchange_id(tenant, key)}
