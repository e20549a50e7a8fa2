"""Verifies receipts, chains and bundles of Countersign, offline.

from countersign_verify import parse_jwks, verify
verdict = verify(bundle_bytes, parse_jwks(jwks_bytes))
verdict.verdict == "ok"
"""

from .canonical import canonical, digest, exchange_id
from .keys import UnusableKeys, parse_jwks
from .strict_json import Refused, parse
from .verify import Verdict, verify

__all__ = ["Refused", "UnusableKeys", "Verdict", "canonical", "digest", "exchange_id", "parse", "parse_jwks", "verify"]
