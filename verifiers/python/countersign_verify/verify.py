"""Receipts, chains and bundles: the checks of docs/contracts/receipt.md, in its order, and the verdict on the first that fails.

Receipts are judged one after the other: all that concerns the first, its place in the chain included, before the second is looked at.
What concerns a bundle as a whole has the index None: its own members come before its receipts, its digest and signature after them.
"""

from __future__ import annotations

import base64
from typing import NamedTuple, Optional

from . import ed25519, strict_json
from .canonical import canonical, digest
from .keys import Key, UnusableKeys, from_base64url, read_entries
from .members import BUNDLE, RECEIPT, Failed, check_members, split_jws, unix_ms

RECEIPT_TYP = "countersign-receipt+jws"
BUNDLE_TYP = "countersign-bundle+jws"
BUNDLE_ONLY = frozenset(BUNDLE) - frozenset(RECEIPT)


class Verdict(NamedTuple):
    verdict: str
    index: Optional[int]
    check: Optional[str]
    detail: Optional[str]
    receipts: int
    trusted: str

    @property
    def exit_code(self) -> int:
        """0 ok, 1 a check failed, 2 the input is no JSON, or no receipt, chain or bundle."""
        return 0 if self.verdict == "ok" else 2 if self.check in ("syntax", "shape") else 1


class _FailedAt(Exception):
    def __init__(self, index: Optional[int], failed: Failed):
        super().__init__(failed.detail)
        self.index = index
        self.failed = failed


def verify(data: bytes, keys: dict, payloads=(), trust_embedded_keys: bool = False) -> Verdict:
    """The verdict on one document: a receipt, a chain (an array, or a receipt a line) or a bundle.

    `keys` is what `keys.parse_jwks` gives; `payloads` are the normalised payloads of the receipts in their order, None where one is
    not at hand.
    """
    document = None
    trusted = "given"
    try:
        document = _read(data)
        if _is_bundle(document):
            if trust_embedded_keys:
                trusted = "given+embedded" if keys else "embedded"
            _verify_bundle(document, keys, payloads, trust_embedded_keys)
        elif isinstance(document, list):
            _verify_chain(document, keys, payloads, {})
        else:
            _verify_single(document, keys, payloads[0] if payloads else None)
    except _FailedAt as at:
        failed = at.failed
        return Verdict(failed.verdict, at.index, failed.check, failed.detail, _count(document), trusted)
    return Verdict("ok", None, None, None, _count(document), trusted)


def _is_bundle(document) -> bool:
    return isinstance(document, dict) and not BUNDLE_ONLY.isdisjoint(document)


def _count(document) -> int:
    if _is_bundle(document):
        document = document.get("receipts")
    return len(document) if isinstance(document, list) else int(document is not None)


# --- What the document is -----------------------------------------------------------------------------------------------------------


def _read(data: bytes):
    try:
        document = strict_json.parse(data)
    except strict_json.TrailingContent as refused:
        document = _read_lines(data)
        if document is None:
            raise _FailedAt(None, Failed("malformed", "syntax", str(refused))) from None
    except strict_json.Refused as refused:
        raise _FailedAt(_index_of(refused), _at_the_door(refused)) from None
    if isinstance(document, dict) or isinstance(document, list) and document:
        return document
    raise _FailedAt(None, Failed("malformed", "shape", "the document is no receipt, no chain and no bundle"))


def _read_lines(data: bytes):
    """A receipt a line, or None if not even the first line is a value."""
    receipts = []
    for line in data.split(b"\n"):
        if not line.strip(b" \t\r"):
            continue
        try:
            receipts.append(strict_json.parse(line))
        except strict_json.Refused as refused:
            if not receipts:
                return None
            raise _FailedAt(len(receipts), _at_the_door(refused)) from None
    return receipts


def _at_the_door(refused: strict_json.Refused) -> Failed:
    return Failed("malformed", "syntax" if refused.code == "malformed_json" else "door", str(refused))


def _index_of(refused: strict_json.Refused) -> Optional[int]:
    path = refused.path
    if refused.code == "malformed_json":
        return None
    if path and isinstance(path[0], int):
        return path[0]
    if path[:1] == ["receipts"] and len(path) > 1:
        return path[1]
    return 0 if BUNDLE_ONLY.isdisjoint(refused.root_names) else None


# --- Receipts ---------------------------------------------------------------------------------------------------------------------


def _verify_single(receipt, keys: dict, payload: Optional[bytes]) -> None:
    try:
        _verify_receipt(receipt, keys, payload)
        _verify_first_of_chain(receipt)
        if (receipt["hop"] == 1) != (receipt["prev_receipt_hash"] is None):
            raise Failed("broken_link", "prev_receipt_hash", "prev_receipt_hash is null at hop 1 and only there")
    except Failed as failed:
        raise _FailedAt(0, failed) from None


def _verify_chain(receipts: list, keys: dict, payloads, expected: dict) -> None:
    """`expected` names the tenant, trace_id and chain where something outside the chain, a bundle, tells them."""
    before = None
    for index, receipt in enumerate(receipts):
        try:
            _verify_receipt(receipt, keys, payloads[index] if index < len(payloads) else None)
            if not expected:
                expected = {name: receipt[name] for name in ("tenant", "trace_id", "chain")}
            _verify_place(receipt, index + 1, before, expected)
        except Failed as failed:
            raise _FailedAt(index, failed) from None
        before = receipt


def _verify_receipt(receipt, keys: dict, payload: Optional[bytes]) -> None:
    check_members("the receipt", receipt, RECEIPT)
    header_part, kid, signature_part = split_jws(receipt["jws"], RECEIPT_TYP)
    if receipt["receipt_hash"] != digest(_canonical_without(receipt, "receipt_hash", "jws")):
        raise Failed("hash_mismatch", "receipt_hash", "receipt_hash is not the digest of the receipt")
    _verify_signature(header_part, kid, signature_part, _canonical_without(receipt, "jws"), keys)
    _verify_key_time(kid, keys[kid], receipt["ts"])
    if payload is not None:
        _verify_payload(receipt, payload)


def _verify_place(receipt: dict, hop: int, before: Optional[dict], expected: dict) -> None:
    for name, verdict in (("tenant", "wrong_tenant"), ("trace_id", "wrong_trace"), ("chain", "wrong_chain")):
        if receipt[name] != expected[name]:
            raise Failed(verdict, name, f"{name} is {receipt[name]} where the chain has {expected[name]}")
    if before is None:
        _verify_first_of_chain(receipt)
    if receipt["hop"] != hop:
        raise Failed("hop_gap", "hop", f"hop {receipt['hop']} stands where hop {hop} belongs")
    if receipt["prev_receipt_hash"] != (before and before["receipt_hash"]):
        raise Failed("broken_link", "prev_receipt_hash", "prev_receipt_hash is not the receipt_hash of the hop before")
    if before and unix_ms(receipt["ts"]) < unix_ms(before["ts"]):
        raise Failed("time_reversed", "ts", "ts is earlier than that of the hop before")


def _verify_first_of_chain(receipt: dict) -> None:
    if receipt["hop"] == 1 and receipt["chain"] != receipt["exchange_id"]:
        raise Failed("wrong_chain", "chain", "at hop 1 the chain is the receipt's own exchange_id")


def _canonical_without(document: dict, *names: str) -> bytes:
    return canonical({name: value for name, value in document.items() if name not in names})


def _verify_signature(header_part: str, kid: str, signature_part: str, content: bytes, keys: dict) -> None:
    if kid not in keys:
        raise Failed("unknown_key", "signature", f"key {kid} is not among the trusted ones")
    # A signature that is not written as BASE64URL writes it is no signature of anything.
    signature = from_base64url(signature_part) or b""
    signed = header_part.encode() + b"." + base64.urlsafe_b64encode(content).rstrip(b"=")
    if not ed25519.verify(keys[kid].public, signature, signed):
        raise Failed("bad_signature", "signature", "the signature is not of this content and key")


def _verify_key_time(kid: str, key: Key, time: str) -> None:
    at = unix_ms(time)
    if at < key.nbf * 1000 or key.exp is not None and at >= key.exp * 1000:
        raise Failed("key_expired", "key_time", f"{time} lies outside the time in which key {kid} signs")


def _verify_payload(receipt: dict, payload: bytes) -> None:
    try:
        found = digest(canonical(strict_json.parse(payload)))
    except strict_json.Refused as refused:
        raise Failed("malformed", "payload", f"the payload: {refused}") from None
    if receipt["cid"] != found:
        raise Failed("cid_mismatch", "payload", f"the payload's digest is {found}")


# --- Bundles ------------------------------------------------------------------------------------------------------------------------


def _verify_bundle(bundle: dict, keys: dict, payloads, trust_embedded_keys: bool) -> None:
    try:
        check_members("the bundle", bundle, BUNDLE)
        embedded = _embedded_keys(bundle)
        header_part, kid, signature_part = split_jws(bundle["jws"], BUNDLE_TYP)
    except Failed as failed:
        raise _FailedAt(None, failed) from None
    if trust_embedded_keys:
        # A key that was given is known better than the bundle knows it.
        keys = {**embedded, **keys}
    _verify_chain(bundle["receipts"], keys, payloads, {name: bundle[name] for name in ("tenant", "trace_id", "chain")})
    try:
        if bundle["bundle_cid"] != digest(_canonical_without(bundle, "bundle_cid", "jws")):
            raise Failed("hash_mismatch", "bundle_cid", "bundle_cid is not the digest of the bundle")
        _verify_signature(header_part, kid, signature_part, _canonical_without(bundle, "jws"), keys)
        _verify_key_time(kid, keys[kid], bundle["exported_at"])
    except Failed as failed:
        raise _FailedAt(None, failed) from None


def _embedded_keys(bundle: dict) -> dict:
    try:
        return read_entries(bundle["keys"], others_allowed=False)
    except UnusableKeys as unusable:
        raise Failed("malformed", "members", str(unusable)) from None
