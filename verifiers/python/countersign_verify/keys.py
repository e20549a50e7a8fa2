"""The keys that are trusted: what a JWKS document (RFC 7517, 8037) lists, as the contract writes an entry (docs/contracts/receipt.md)."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NamedTuple, Optional

from . import strict_json
from .canonical import canonical
from .ed25519 import is_point

BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class UnusableKeys(ValueError):
    """A key document that cannot be relied on: one false entry spoils it."""


class Key(NamedTuple):
    public: bytes
    nbf: int
    exp: Optional[int]


def from_base64url(text: str) -> Optional[bytes]:
    """The bytes, or None unless `text` is exactly how RFC 7515 writes them: no padding, no stray bits at the end."""
    if BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return data if base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text else None


def thumbprint(x: str) -> str:
    """RFC 7638, with the members that RFC 8037 names."""
    hashed = hashlib.sha256(canonical({"crv": "Ed25519", "kty": "OKP", "x": x})).digest()
    return base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()


def parse_jwks(data: bytes) -> dict:
    """The keys of a JWKS document by kid. Keys of other kinds are passed over, as RFC 7517 asks."""
    try:
        document = strict_json.parse(data)
    except strict_json.Refused as refused:
        raise UnusableKeys(str(refused)) from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UnusableKeys("it is not a JWKS: an object with the array `keys`")
    return read_entries(entries, others_allowed=True)


def read_entries(entries: list, others_allowed: bool) -> dict:
    keys: dict = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("kty"), str):
            raise UnusableKeys(f"keys/{place} is not a JWK")
        if (entry["kty"], entry.get("crv")) != ("OKP", "Ed25519"):
            if not others_allowed:
                raise UnusableKeys(f"keys/{place} is not an Ed25519 key")
            continue
        key = _read_entry(entry, place)
        if keys.setdefault(entry["kid"], key) != key:
            raise UnusableKeys(f"keys/{place} lists {entry['kid']} a second time, and differently")
    return keys


def _read_entry(entry: dict, place: int) -> Key:
    x, kid, nbf = entry.get("x"), entry.get("kid"), entry.get("nbf")
    public = from_base64url(x) if isinstance(x, str) else None
    if public is None or len(public) != 32 or not is_point(public):
        raise UnusableKeys(f"keys/{place}: x is not an Ed25519 key in base64url")
    if kid != thumbprint(x):
        raise UnusableKeys(f"keys/{place}: kid is not the RFC 7638 thumbprint of the key")
    if (entry.get("use"), entry.get("alg")) != ("sig", "EdDSA"):
        raise UnusableKeys(f"keys/{place}: use is not sig, or alg is not EdDSA")
    if type(nbf) is not int or type(entry.get("exp", 0)) is not int:
        raise UnusableKeys(f"keys/{place}: nbf and exp are whole unix seconds, and only exp may be absent")
    if "d" in entry:
        raise UnusableKeys(f"keys/{place} shows a private key")
    return Key(public, nbf, entry.get("exp"))
