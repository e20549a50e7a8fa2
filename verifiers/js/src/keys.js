// The keys that are trusted: what a JWKS document (RFC 7517, 8037) lists, as the contract writes an entry (docs/contracts/receipt.md).

import { fromBase64url, toBase64url } from "./base64url.js";
import { canonical, sha256 } from "./canonical.js";
import { isPoint } from "./ed25519.js";
import { Refused, parse } from "./strict-json.js";

// A key document that cannot be relied on: one false entry spoils it.
export class UnusableKeys extends Error {}

// The keys of a JWKS document by kid. Keys of other kinds are passed over, as RFC 7517 asks.
export async function parseJwks(bytes) {
  let document;
  try {
    document = parse(bytes);
  } catch (error) {
    if (error instanceof Refused) throw new UnusableKeys(error.message);
    throw error;
  }
  if (document === null || Array.isArray(document) || !Array.isArray(document.keys)) {
    throw new UnusableKeys("it is not a JWKS: an object with the array `keys`");
  }
  return readEntries(document.keys, { othersAllowed: true });
}

export async function readEntries(entries, { othersAllowed }) {
  const keys = new Map();
  for (const [place, entry] of entries.entries()) {
    if (entry === null || typeof entry !== "object" || typeof entry.kty !== "string") {
      throw new UnusableKeys(`keys/${place} is not a JWK`);
    }
    if (entry.kty !== "OKP" || entry.crv !== "Ed25519") {
      if (!othersAllowed) throw new UnusableKeys(`keys/${place} is not an Ed25519 key`);
      continue;
    }
    const key = await readEntry(entry, place);
    const before = keys.get(entry.kid) ?? key;
    if (before.nbf !== key.nbf || before.exp !== key.exp) {
      throw new UnusableKeys(`keys/${place} lists ${entry.kid} a second time, and differently`);
    }
    keys.set(entry.kid, key);
  }
  return keys;
}

async function readEntry(entry, place) {
  const publicBytes = typeof entry.x === "string" ? fromBase64url(entry.x) : null;
  if (publicBytes?.length !== 32 || !isPoint(publicBytes)) throw new UnusableKeys(`keys/${place}: x is not an Ed25519 key in base64url`);
  if (entry.kid !== (await thumbprint(entry.x))) throw new UnusableKeys(`keys/${place}: kid is not the RFC 7638 thumbprint of the key`);
  if (entry.use !== "sig" || entry.alg !== "EdDSA") throw new UnusableKeys(`keys/${place}: use is not sig, or alg is not EdDSA`);
  if (!Number.isSafeInteger(entry.nbf) || ("exp" in entry && !Number.isSafeInteger(entry.exp))) {
    throw new UnusableKeys(`keys/${place}: nbf and exp are whole unix seconds, and only exp may be absent`);
  }
  if ("d" in entry) throw new UnusableKeys(`keys/${place} shows a private key`);
  return { publicBytes, nbf: entry.nbf, exp: entry.exp };
}

// RFC 7638, with the members that RFC 8037 names.
async function thumbprint(x) {
  return toBase64url(await sha256(canonical({ crv: "Ed25519", kty: "OKP", x })));
}
