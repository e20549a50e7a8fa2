"""The published rules, written again from docs/contracts: ids, digests, receipts, fees, partitions, signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import struct
from datetime import datetime, timezone

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
RECEIPT_MEMBERS = frozenset(
    "v tenant exchange_id trace_id chain hop ts type request_cid cid canon algo policy usage amount prev_receipt_hash receipt_hash jws".split()
)
BUNDLE_MEMBERS = frozenset("v tenant trace_id chain exported_at receipts keys bundle_cid jws".split())
RECEIPT_JWS = "countersign-receipt+jws"
BUNDLE_JWS = "countersign-bundle+jws"
FEES = "countersign:fees"


class Broken(Exception):
    """A rule that does not hold, by the code of the receipt's contract or in words."""


def exchange_id(tenant, key):
    hashed = hashlib.sha256(b"\0".join([b"countersign/exchange/v1", tenant.encode(), key.encode()])).digest()
    bits = int.from_bytes(hashed, "big")
    return "ex_" + "".join(CROCKFORD[bits >> (256 - 5 * (place + 1)) & 31] for place in range(26))


def canonical(value):
    return rfc8785.dumps(value)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def loads(text):
    """JSON without what Python forgives: a repeated name is an error."""

    def members(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise Broken("malformed: a member name is repeated")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=members)


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def unix_ms(timestamp):
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp):
        raise Broken(f"malformed: the time {timestamp}")
    moment = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    return round(moment.timestamp() * 1000)


def month_of(ms):
    return datetime.fromtimestamp(ms / 1000, tz=timezone.utc).strftime("%Y-%m")


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# --- Receipts -----------------------------------------------------------------------------------------------------------------------


class Keys:
    """A JWKS document; each key under its thumbprint (RFC 7638), which we compute ourselves."""

    def __init__(self, document):
        self._keys = {}
        for entry in document["keys"]:
            if (entry["kty"], entry["crv"], entry["use"], entry["alg"]) != ("OKP", "Ed25519", "sig", "EdDSA") or "d" in entry:
                raise Broken(f"not a public Ed25519 key: {sorted(entry)}")
            member = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": entry["x"]}, separators=(",", ":"), sort_keys=True)
            thumbprint = base64.urlsafe_b64encode(hashlib.sha256(member.encode()).digest()).rstrip(b"=").decode()
            if thumbprint != entry["kid"]:
                raise Broken(f"{entry['kid']} is not the thumbprint of its key")
            self._keys[thumbprint] = (Ed25519PublicKey.from_public_bytes(unpadded(entry["x"])), entry)

    def check(self, token, content, kind, at_ms):
        """Verifies a detached JWS over `content`, made at `at_ms`."""
        header, middle, signature = token.split(".")
        header_bytes = unpadded(header)
        kid = loads(header_bytes).get("kid", "")
        if middle or header_bytes != f'{{"alg":"EdDSA","kid":"{kid}","typ":"{kind}"}}'.encode():
            raise Broken(f"malformed: the header {header_bytes!r}")
        if kid not in self._keys:
            raise Broken(f"unknown_key: {kid}")
        key, entry = self._keys[kid]
        at = at_ms / 1000
        if at < entry["nbf"] or ("exp" in entry and at >= entry["exp"]):
            raise Broken(f"key_expired: {kid}")
        signed = header.encode() + b"." + base64.urlsafe_b64encode(content).rstrip(b"=")
        try:
            key.verify(unpadded(signature), signed)
        except InvalidSignature:
            raise Broken("bad_signature") from None


def verify_receipt(receipt, keys):
    """evidence of one receipt by itself; raises `Broken`."""
    if set(receipt) != RECEIPT_MEMBERS:
        raise Broken(f"unknown_member or missing_member: {sorted(set(receipt) ^ RECEIPT_MEMBERS)}")
    if (receipt["v"], receipt["canon"], receipt["algo"]) != (1, "RFC8785", "sha256"):
        raise Broken("malformed: v, canon or algo")
    if receipt["receipt_hash"] != digest(canonical(without(receipt, "receipt_hash", "jws"))):
        raise Broken("hash_mismatch")
    keys.check(receipt["jws"], canonical(without(receipt, "jws")), RECEIPT_JWS, unix_ms(receipt["ts"]))


def verify_chain(receipts, keys=None):
    """The links of one chain in hop order; signatures too where `keys` are given. Raises `Broken`."""
    before = None
    for hop, receipt in enumerate(receipts, 1):
        if keys is not None:
            verify_receipt(receipt, keys)
        first = receipts[0]
        if receipt["hop"] != hop:
            raise Broken(f"hop_gap: {receipt['hop']} where {hop} belongs")
        if receipt["prev_receipt_hash"] != (before and before["receipt_hash"]):
            raise Broken(f"broken_link: hop {hop} does not name the hash before")
        if receipt["chain"] != first["exchange_id"]:
            raise Broken(f"wrong_chain: hop {hop}")
        if receipt["tenant"] != first["tenant"]:
            raise Broken(f"wrong_tenant: hop {hop}")
        if receipt["trace_id"] != first["trace_id"]:
            raise Broken(f"wrong_trace: hop {hop}")
        if before is not None and unix_ms(before["ts"]) > unix_ms(receipt["ts"]):
            raise Broken(f"time_reversed: hop {hop}")
        before = receipt


def verify_bundle(bundle, keys):
    if set(bundle) != BUNDLE_MEMBERS or not bundle["receipts"]:
        raise Broken(f"malformed: {sorted(set(bundle) ^ BUNDLE_MEMBERS)}")
    if bundle["bundle_cid"] != digest(canonical(without(bundle, "bundle_cid", "jws"))):
        raise Broken("hash_mismatch")
    keys.check(bundle["jws"], canonical(without(bundle, "jws")), BUNDLE_JWS, unix_ms(bundle["exported_at"]))
    verify_chain(bundle["receipts"], keys)


# --- Money --------------------------------------------------------------------------------------------------------------------------


def fee(gross, volume_before):
    """2.8 % and 28, times the discount of the month's volume before, rounded half up once, never above gross; USD minor units."""
    percent = 100
    for threshold, factor in ((100_000, 95), (1_000_000, 90), (5_000_000, 85)):
        if volume_before >= threshold:
            percent = factor
    exact, whole = (gross * 28 + 28 * 1000) * percent, 1000 * 100
    return min((2 * exact + whole) // (2 * whole), gross)


def has_tariff(currency):
    return currency == "USD"


# --- Kafka --------------------------------------------------------------------------------------------------------------------------


def murmur2(data):
    """The hash by which the Java client chooses a partition."""
    length, mask, mixer = len(data), 0xFFFFFFFF, 0x5BD1E995
    hashed = (0x9747B28C ^ length) & mask
    for start in range(0, length - 3, 4):
        word = struct.unpack_from("<I", data, start)[0] * mixer & mask
        word = (word ^ word >> 24) * mixer & mask
        hashed = (hashed * mixer & mask) ^ word
    rest = data[length & ~3 :]
    for place in reversed(range(len(rest))):
        hashed ^= rest[place] << (8 * place)
    if rest:
        hashed = hashed * mixer & mask
    hashed = (hashed ^ hashed >> 13) * mixer & mask
    return hashed ^ hashed >> 15


def partition_of(key, partitions):
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def producer_signature(secret, topic, key, value):
    """`countersign-signature`: an HMAC over topic, record key and value, each after its length."""
    mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)
    for part in (topic.encode(), key, value):
        mac.update(struct.pack(">I", len(part)))
        mac.update(part)
    return "v1," + base64.b64encode(mac.digest()).decode()


def webhook_signature(secret, message_id, timestamp, body):
    """Standard Webhooks, v1."""
    key = base64.b64decode(secret[len("whsec_") :])
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
