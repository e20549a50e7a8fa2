"""What a stranger does with a receipt: RFC 8785, SHA-256 and a JOSE library, the JWKS document, and docs/contracts/receipt.md. Nothing else."""

import base64
import hashlib
import json
import re
from datetime import datetime

import rfc8785
from jwcrypto import jwk, jws

RECEIPT_MEMBERS = {
    "v", "tenant", "exchange_id", "trace_id", "chain", "hop", "ts", "type", "request_cid", "cid", "canon", "algo", "policy", "usage",
    "amount", "prev_receipt_hash", "receipt_hash", "jws",
}  # fmt: skip
BUNDLE_MEMBERS = {"v", "tenant", "trace_id", "chain", "exported_at", "receipts", "keys", "bundle_cid", "jws"}
CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def loads(text):
    """JSON without what Python forgives: a repeated name is an error."""

    def members(pairs):
        assert len({name for name, _ in pairs}) == len(pairs), "a member name is repeated"
        return dict(pairs)

    return json.loads(text, object_pairs_hook=members)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def cid_of(value):
    return digest(rfc8785.dumps(value))


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def exchange_id(tenant, idempotency_key):
    hashed = hashlib.sha256(b"\0".join([b"countersign/exchange/v1", tenant.encode(), idempotency_key.encode()])).digest()
    bits = int.from_bytes(hashed, "big")
    return "ex_" + "".join(CROCKFORD[bits >> (256 - 5 * (place + 1)) & 31] for place in range(26))


class Keys:
    """A JWKS document; each key under its thumbprint, which we compute ourselves."""

    def __init__(self, document):
        self._keys = {}
        for entry in document["keys"]:
            assert (entry["kty"], entry["crv"], entry["use"], entry["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA"), entry
            assert "d" not in entry, "the JWKS shows a private key"
            key = jwk.JWK(**without(entry, "nbf", "exp"))
            assert key.thumbprint() == entry["kid"], f"{entry['kid']} is not the thumbprint of its key"
            self._keys[entry["kid"]] = (key, entry)

    def check(self, token, content, kind, at):
        """Verifies a detached JWS over `content`, made at `at` (unix seconds)."""
        header, middle, _ = token.split(".")
        assert middle == "", "the JWS is not detached"
        header_bytes = base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))
        kid = loads(header_bytes)["kid"]
        assert header_bytes == f'{{"alg":"EdDSA","kid":"{kid}","typ":"{kind}"}}'.encode(), f"header {header_bytes}"
        assert kid in self._keys, f"no key {kid} in the JWKS"
        key, entry = self._keys[kid]
        assert entry["nbf"] <= at and ("exp" not in entry or at < entry["exp"]), f"{kid} is not valid at {at}"
        signed = jws.JWS()
        signed.allowed_algs = ["EdDSA"]
        signed.deserialize(token)
        signed.verify(key, detached_payload=content)


def unix(timestamp):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp), timestamp
    return datetime.fromisoformat(timestamp).timestamp()


def verify_receipt(receipt, keys, payload=None):
    """docs/contracts/receipt.md section 4, for one receipt. `payload` is the normalised payload, as a value or as canonical bytes."""
    assert set(receipt) == RECEIPT_MEMBERS, set(receipt) ^ RECEIPT_MEMBERS
    assert (receipt["v"], receipt["canon"], receipt["algo"]) == (1, "RFC8785", "sha256")
    assert receipt["receipt_hash"] == cid_of(without(receipt, "receipt_hash", "jws")), "hash_mismatch"
    content = rfc8785.dumps(without(receipt, "jws"))
    keys.check(receipt["jws"], content, "countersign-receipt+jws", unix(receipt["ts"]))
    if payload is not None:
        assert receipt["cid"] == (digest(payload) if isinstance(payload, bytes) else cid_of(payload)), "cid_mismatch"


def verify_chain(receipts, keys):
    for hop, receipt in enumerate(receipts, 1):
        verify_receipt(receipt, keys)
        assert receipt["hop"] == hop, "hop_gap"
        before = receipts[hop - 2] if hop > 1 else None
        assert receipt["prev_receipt_hash"] == (before and before["receipt_hash"]), "broken_link"
        assert receipt["chain"] == receipts[0]["exchange_id"], "wrong_chain"
        if before:
            for name in ("tenant", "trace_id"):
                assert receipt[name] == before[name], name
            assert unix(before["ts"]) <= unix(receipt["ts"]), "time_reversed"


def verify_bundle(bundle, keys):
    """The keys are those of the JWKS: a bundle does not vouch for itself."""
    assert set(bundle) == BUNDLE_MEMBERS, set(bundle) ^ BUNDLE_MEMBERS
    assert bundle["bundle_cid"] == cid_of(without(bundle, "bundle_cid", "jws")), "hash_mismatch"
    content = rfc8785.dumps(without(bundle, "jws"))
    keys.check(bundle["jws"], content, "countersign-bundle+jws", unix(bundle["exported_at"]))
    assert bundle["receipts"], "the bundle is empty"
    assert (bundle["tenant"], bundle["trace_id"]) == (bundle["receipts"][0]["tenant"], bundle["receipts"][0]["trace_id"])
    assert bundle["chain"] == bundle["receipts"][0]["chain"]
    verify_chain(bundle["receipts"], keys)
