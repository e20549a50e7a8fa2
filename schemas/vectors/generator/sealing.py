"""Keys, receipts and bundles that are right, and the handles by which the cases break them.

The documents made here hold ASCII and safe integers only, for which sorted compact JSON is RFC 8785; `canonical` refuses anything else.
"""

import base64
import copy
import datetime
import hashlib
import json

import curve

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
RECEIPT_TYP = "countersign-receipt+jws"
BUNDLE_TYP = "countersign-bundle+jws"
NBF = 1767225600  # 2026-01-01T00:00:00Z


def canonical(document):
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text.isascii() and "\x7f" not in text, "canonical() here knows ASCII only"
    return text.encode()


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def exchange_id(tenant, idempotency_key):
    hashed = hashlib.sha256(f"countersign/exchange/v1\0{tenant}\0{idempotency_key}".encode()).digest()
    bits = "".join(f"{byte:08b}" for byte in hashed)
    return "ex_" + "".join(CROCKFORD[int(bits[at : at + 5], 2)] for at in range(0, 130, 5))


def unix(ts):
    return int(datetime.datetime.strptime(ts, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp())


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def changed(document, **members):
    return {**copy.deepcopy(document), **members}


class Key:
    """A signing key with the JWK that lists it."""

    def __init__(self, seed_byte=None, public=None):
        self.secret = None if seed_byte is None else curve.Secret(bytes([seed_byte]) * 32)
        self.public = public or self.secret.public
        self.x = base64url(self.public)
        self.kid = base64url(hashlib.sha256(canonical({"crv": "Ed25519", "kty": "OKP", "x": self.x})).digest())

    def sign(self, message):
        return self.secret.sign(message)

    def jwk(self, nbf=NBF, **members):
        return {"kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.kid, "use": "sig", "alg": "EdDSA", "nbf": nbf, **members}

    def header(self, typ):
        return f'{{"alg":"EdDSA","kid":"{self.kid}","typ":"{typ}"}}'


MAIN = Key(7)
"""Signs receipts. The key of the worked example."""
NEXT = Key(8)
"""The key that follows MAIN in a rotation."""
BUNDLES = Key(9)
"""Signs bundles and nothing else."""
STRANGER = Key(10)
"""In no JWKS that a verifier is given."""


def jws(key, content, header):
    """A detached JWS (RFC 7515, appendix F) with the given header text."""
    protected = base64url(header.encode())
    signature = key.sign(protected.encode() + b"." + base64url(content).encode())
    return f"{protected}..{base64url(signature)}"


def signing_input(receipt, key):
    return f"{base64url(key.header(RECEIPT_TYP).encode())}.{base64url(canonical(without(receipt, 'jws')))}".encode()


def with_signature(receipt, key, signature):
    """The receipt with these 64 bytes (or any others) for its signature, under the right header."""
    return {**receipt, "jws": f"{base64url(key.header(RECEIPT_TYP).encode())}..{base64url(signature)}"}


def hashed(receipt):
    """The receipt with its true receipt_hash, before `jws`."""
    plain = without(receipt, "receipt_hash", "jws")
    return {**plain, "receipt_hash": digest(canonical(plain))}


def signed(receipt, key=MAIN, header=None):
    """The receipt as it stands, right or wrong, with a signature over it."""
    return {**without(receipt, "jws"), "jws": jws(key, canonical(without(receipt, "jws")), header or key.header(RECEIPT_TYP))}


def sealed(receipt, key=MAIN, header=None):
    return signed(hashed(receipt), key, header)


def resealed(receipt, key=MAIN, **members):
    """A receipt with other members that its signer has signed: only the contract's own rules can refuse it."""
    return sealed(changed(receipt, **members), key)


CID_A = digest(canonical({"amount": "12.50", "currency": "EUR", "invoice_id": "INV-1"}))
PAYLOAD_A = '{"invoice_id": "INV-1", "amount": "12.50", "currency": "EUR"}'


def open_receipt(tenant="acme", trace_id="trace-1", key_number=0, hop=1, ts="2026-11-21T10:00:00.123Z", chain=None):
    """A receipt without its hash and signature."""
    name = exchange_id(tenant, f"key-{key_number}")
    return {
        "v": 1,
        "tenant": tenant,
        "exchange_id": name,
        "trace_id": trace_id,
        "chain": chain or name,
        "hop": hop,
        "ts": ts,
        "type": {"payload": "passthrough", "target": "passthrough"},
        "request_cid": CID_A,
        "cid": CID_A,
        "canon": "RFC8785",
        "algo": "sha256",
        "policy": {"allowed": True, "reason": "no_forward", "host": None},
        "usage": {"vex": 1, "fu": 0},
        "amount": None,
        "prev_receipt_hash": None,
    }


def chain(length, tenant="acme", trace_id="trace-1", first_key=0, key=MAIN):
    """A right chain, a second from hop to hop."""
    receipts = []
    for hop in range(1, length + 1):
        receipt = open_receipt(tenant, trace_id, first_key + hop - 1, hop, f"2026-11-21T10:00:{hop - 1:02}.123Z")
        if receipts:
            receipt["chain"] = receipts[0]["chain"]
            receipt["prev_receipt_hash"] = receipts[-1]["receipt_hash"]
        receipts.append(sealed(receipt, key))
    return receipts


def relinked(receipts, at, key=MAIN, relink=True, **members):
    """The chain with members of one receipt changed, everything sealed anew, and linked anew behind it if wished."""
    made = []
    for index, receipt in enumerate(copy.deepcopy(receipts)):
        if index == at:
            receipt.update(members)
        if index > at and relink:
            receipt["prev_receipt_hash"] = made[-1]["receipt_hash"]
        made.append(sealed(receipt, key))
    return made


def bundle(receipts, keys=(MAIN, BUNDLES), key=BUNDLES, **members):
    """A sealed bundle of these receipts, whatever they are. `keys` may be Key or ready JWKs."""
    made = {
        "v": 1,
        "tenant": receipts[0]["tenant"] if receipts else "acme",
        "trace_id": receipts[0]["trace_id"] if receipts else "trace-1",
        "chain": receipts[0]["chain"] if receipts else exchange_id("acme", "key-0"),
        "exported_at": "2026-11-21T11:00:00.000Z",
        "receipts": copy.deepcopy(receipts),
        "keys": [entry.jwk() if isinstance(entry, Key) else entry for entry in keys],
        **members,
    }
    return bundle_sealed(made, key)


def bundle_sealed(made, key=BUNDLES, header=None):
    plain = without(made, "bundle_cid", "jws")
    return bundle_signed({**plain, "bundle_cid": digest(canonical(plain))}, key, header)


def bundle_signed(made, key=BUNDLES, header=None):
    return {**without(made, "jws"), "jws": jws(key, canonical(without(made, "jws")), header or key.header(BUNDLE_TYP))}
