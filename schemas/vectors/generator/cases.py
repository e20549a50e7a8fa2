"""How a vector is made, and the handful of receipts that the cases start from."""

import hashlib
import json

from sealing import MAIN, base64url, canonical, chain, resealed

FIRST, SECOND, THIRD = chain(3)
NO_CID = "sha256:" + "0" * 64
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def case(name, document, verdict, **more):
    """A vector of one receipt; a text is taken as it is. `index` 0 unless nothing failed in it or the case says otherwise."""
    text = document if isinstance(document, str) else json.dumps(document, separators=(",", ":"))
    return {"name": name, "text": text, "keys": "standing", "verdict": verdict, "index": None if verdict in ("ok", None) else 0, **more}


def keyed(name, document, verdict, *entries, **more):
    """A vector with a key document of its own."""
    return case(name, document, verdict, keys={"keys": list(entries)}, **more)


def spelled(old, new, receipt=FIRST):
    """The receipt with a piece of its text written in another way."""
    text = json.dumps(receipt, separators=(",", ":"))
    assert text.count(old) == 1, old
    return text.replace(old, new)


def last_bits_changed(part):
    """Another text for the same bytes: a bit that base64url leaves over is set."""
    changed_part = part[:-1] + ALPHABET[ALPHABET.index(part[-1]) | 1]
    assert changed_part != part and len(part) % 4 in (2, 3), "this length leaves no bits over"
    return changed_part


def keyed_time(ts):
    return resealed(FIRST, ts=ts)


def x_written(x):
    """A JWK with this x and the thumbprint of this spelling."""
    kid = base64url(hashlib.sha256(canonical({"crv": "Ed25519", "kty": "OKP", "x": x})).digest())
    return MAIN.jwk(x=x, kid=kid)
