"""Keys: their time, those that are not trusted, and key documents that nobody should rely on."""

from cases import FIRST, case, keyed, keyed_time, last_bits_changed, x_written
from sealing import MAIN, NBF, NEXT, STRANGER, base64url, sealed, unix, without


def keys_and_times():
    at = unix("2026-11-21T10:00:00.000Z")
    whole = keyed_time("2026-11-21T10:00:00.000Z")
    before = keyed_time("2026-11-21T09:59:59.999Z")
    after = keyed_time("2026-11-21T10:00:00.001Z")
    rsa = {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r"}
    yield keyed("time: ts is nbf", whole, "ok", MAIN.jwk(nbf=at))
    yield keyed("time: a millisecond before nbf", before, "key_expired", MAIN.jwk(nbf=at))
    yield keyed("time: a millisecond before exp", before, "ok", MAIN.jwk(exp=at))
    yield keyed("time: ts is exp", whole, "key_expired", MAIN.jwk(exp=at))
    yield keyed("time: a millisecond after exp", after, "key_expired", MAIN.jwk(exp=at))
    yield keyed("time: within exp's last second", after, "ok", MAIN.jwk(exp=at + 1))
    yield keyed("time: nbf is exp, nothing lies between", whole, "key_expired", MAIN.jwk(nbf=at, exp=at))
    yield keyed("time: before 1970", keyed_time("1969-12-31T23:59:59.999Z"), "key_expired", MAIN.jwk(nbf=0))
    yield keyed("time: before 1970, allowed", keyed_time("1969-12-31T23:59:59.999Z"), "ok", MAIN.jwk(nbf=-1))
    yield keyed("time: the year 0", keyed_time("0000-03-01T00:00:00.000Z"), "key_expired", MAIN.jwk())
    yield keyed("unknown key: none is trusted", FIRST, "unknown_key")
    yield keyed("unknown key: another is trusted", FIRST, "unknown_key", NEXT.jwk())
    yield case("unknown key: a stranger's", sealed(FIRST, STRANGER), "unknown_key")
    yield keyed("unknown key: kty EC", FIRST, "unknown_key", MAIN.jwk(kty="EC"))
    yield keyed("unknown key: crv X25519", FIRST, "unknown_key", MAIN.jwk(crv="X25519"))
    yield keyed("unknown key: crv Ed448", FIRST, "unknown_key", MAIN.jwk(crv="Ed448"))
    yield keyed("ok: keys of other kinds beside", FIRST, "ok", rsa, MAIN.jwk(), {"kty": "oct", "k": "AA"})
    yield keyed("ok: further members of a JWK", FIRST, "ok", MAIN.jwk(key_ops=["verify"], x5t="AA"))
    yield keyed("ok: the same entry twice", FIRST, "ok", MAIN.jwk(), MAIN.jwk())
    yield keyed("ok: exp absent, a rotated key beside", FIRST, "ok", MAIN.jwk(), NEXT.jwk(exp=NBF + 1))
    yield unusable_keys("kid of another key", MAIN.jwk(kid=NEXT.kid))
    yield unusable_keys("kid that is a name", MAIN.jwk(kid="main"))
    yield unusable_keys("kid absent", without(MAIN.jwk(), "kid"))
    yield unusable_keys("a lying entry beside a good one", MAIN.jwk(), NEXT.jwk(kid=STRANGER.kid))
    yield unusable_keys("use enc", MAIN.jwk(use="enc"))
    yield unusable_keys("alg ES256", MAIN.jwk(alg="ES256"))
    yield unusable_keys("use absent", without(MAIN.jwk(), "use"))
    yield unusable_keys("alg absent", without(MAIN.jwk(), "alg"))
    yield unusable_keys("nbf absent", without(MAIN.jwk(), "nbf"))
    yield unusable_keys("nbf a string", MAIN.jwk(nbf=str(NBF)))
    yield unusable_keys("nbf with a fraction", MAIN.jwk(nbf=NBF + 0.5))
    yield unusable_keys("exp null", MAIN.jwk(exp=None))
    yield unusable_keys("exp a string", MAIN.jwk(exp="9999999999"))
    yield unusable_keys("x absent", without(MAIN.jwk(), "x"))
    yield unusable_keys("x padded", x_written(MAIN.x + "="))
    yield unusable_keys("x with stray bits at its end", x_written(last_bits_changed(MAIN.x)))
    yield unusable_keys("x of 31 bytes", x_written(base64url(MAIN.public[:31])))
    yield unusable_keys("x of 33 bytes", x_written(base64url(MAIN.public + b"\0")))
    yield unusable_keys("a private key", MAIN.jwk(d=base64url(bytes([7]) * 32)))
    yield unusable_keys("the same kid twice with other times", MAIN.jwk(), MAIN.jwk(exp=NBF + 1))
    yield unusable_keys("an entry that is no object", 1, MAIN.jwk())
    yield unusable_keys("an entry without kty", without(MAIN.jwk(), "kty"))


def unusable_keys(name, *entries):
    """No verdict: what was named as keys cannot be relied on."""
    return keyed(f"keys: {name}", FIRST, None, *entries, exit=2)
