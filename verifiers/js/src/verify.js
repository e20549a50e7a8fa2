// Receipts, chains and bundles: the checks of docs/contracts/receipt.md, in its order, and the verdict on the first that fails.
//
// Receipts are judged one after the other: all that concerns the first, its place in the chain included, before the second is looked at.
// What concerns a bundle as a whole has the index null: its own members come before its receipts, its digest and signature after them.

import { fromBase64url, toBase64url } from "./base64url.js";
import { canonical, digest } from "./canonical.js";
import { assertSupported, ed25519Verifies } from "./ed25519.js";
import { UnusableKeys, readEntries } from "./keys.js";
import { BUNDLE, Failed, RECEIPT, checkMembers, isObject, splitJws, unixMs } from "./members.js";
import { Refused, TrailingContent, parse } from "./strict-json.js";

const RECEIPT_TYP = "countersign-receipt+jws";
const BUNDLE_TYP = "countersign-bundle+jws";
const BUNDLE_ONLY = [...BUNDLE.keys()].filter((name) => !RECEIPT.has(name));
const LINE_END = 0x0a;

// The verdict on one document: a receipt, a chain (an array, or a receipt a line) or a bundle.
//
// `keys` is what `parseJwks` gives; `payloads` are the normalised payloads (bytes) of the receipts in their order, null where one is not
// at hand. `document` of the answer is what was read, for who wants to show it.
export async function verify(bytes, keys, { payloads = [], trustEmbeddedKeys = false } = {}) {
  await assertSupported();
  let document;
  let trusted = "given";
  try {
    document = read(bytes);
    if (isBundle(document)) {
      if (trustEmbeddedKeys) trusted = keys.size > 0 ? "given+embedded" : "embedded";
      await verifyBundle(document, { keys, payloads, trustEmbeddedKeys });
    } else if (Array.isArray(document)) {
      await verifyChain(document, keys, payloads, null);
    } else {
      await at(0, () => verifySingle(document, keys, payloads[0] ?? null));
    }
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    const { verdict, index, check, message } = error;
    return { verdict, index, check, detail: message, receipts: count(document), trusted, document };
  }
  return { verdict: "ok", index: null, check: null, detail: null, receipts: count(document), trusted, document };
}

// 0 ok, 1 a check failed, 2 the input is no JSON, or no receipt, chain or bundle.
export function exitCode({ verdict, check }) {
  if (verdict === "ok") return 0;
  return check === "syntax" || check === "shape" ? 2 : 1;
}

function isBundle(document) {
  return isObject(document) && BUNDLE_ONLY.some((name) => name in document);
}

function count(document) {
  const receipts = isBundle(document) ? document.receipts : document;
  if (Array.isArray(receipts)) return receipts.length;
  return document === undefined || isBundle(document) ? 0 : 1;
}

// Notes the receipt's place on a check that fails in `work`.
async function at(index, work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failed) error.index = index;
    throw error;
  }
}

// --- What the document is --------------------------------------------------------------------------------------------------------

function read(bytes) {
  let document;
  try {
    document = parse(bytes);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    document = error instanceof TrailingContent ? readLines(bytes) : null;
    if (document === null) throw atTheDoor(error, indexOf(error));
  }
  if (isObject(document) || (Array.isArray(document) && document.length > 0)) return document;
  throw new Failed("malformed", "shape", "the document is no receipt, no chain and no bundle");
}

// A receipt a line, or null if not even the first line is a value.
function readLines(bytes) {
  const receipts = [];
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(LINE_END, start);
    const line = bytes.subarray(start, end < 0 ? bytes.length : end);
    start += line.length + 1;
    if (line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)) continue;
    try {
      receipts.push(parse(line));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (receipts.length === 0) return null;
      throw atTheDoor(error, receipts.length);
    }
  }
  return receipts;
}

function atTheDoor(refused, index) {
  const failed = new Failed("malformed", refused.code === "malformed_json" ? "syntax" : "door", refused.message);
  failed.index = index;
  return failed;
}

function indexOf({ code, path, rootNames }) {
  if (code === "malformed_json") return null;
  if (typeof path[0] === "number") return path[0];
  if (path[0] === "receipts" && path.length > 1) return path[1];
  return rootNames.some((name) => BUNDLE_ONLY.includes(name)) ? null : 0;
}

// --- Receipts --------------------------------------------------------------------------------------------------------------------

async function verifySingle(receipt, keys, payload) {
  await verifyReceipt(receipt, keys, payload);
  verifyFirstOfChain(receipt);
  if ((receipt.hop === 1) !== (receipt.prev_receipt_hash === null)) {
    throw new Failed("broken_link", "prev_receipt_hash", "prev_receipt_hash is null at hop 1 and only there");
  }
}

// `expected` has the tenant, trace_id and chain where something outside the chain, a bundle, tells them; otherwise it is null.
async function verifyChain(receipts, keys, payloads, expected) {
  let before = null;
  for (const [index, receipt] of receipts.entries()) {
    await at(index, async () => {
      await verifyReceipt(receipt, keys, payloads[index] ?? null);
      verifyPlace(receipt, { hop: index + 1, before, expected: expected ?? receipts[0] });
    });
    before = receipt;
  }
}

async function verifyReceipt(receipt, keys, payload) {
  checkMembers("the receipt", receipt, RECEIPT);
  const token = splitJws(receipt.jws, RECEIPT_TYP);
  if (receipt.receipt_hash !== (await digest(canonicalWithout(receipt, "receipt_hash", "jws")))) {
    throw new Failed("hash_mismatch", "receipt_hash", "receipt_hash is not the digest of the receipt");
  }
  await verifySignature(token, canonicalWithout(receipt, "jws"), keys);
  verifyKeyTime(token.kid, keys, receipt.ts);
  if (payload !== null) await verifyPayload(receipt, payload);
}

function verifyPlace(receipt, { hop, before, expected }) {
  for (const [name, verdict] of [["tenant", "wrong_tenant"], ["trace_id", "wrong_trace"], ["chain", "wrong_chain"]]) {
    if (receipt[name] !== expected[name]) {
      throw new Failed(verdict, name, `${name} is ${receipt[name]} where the chain has ${expected[name]}`);
    }
  }
  if (before === null) verifyFirstOfChain(receipt);
  if (receipt.hop !== hop) throw new Failed("hop_gap", "hop", `hop ${receipt.hop} stands where hop ${hop} belongs`);
  if (receipt.prev_receipt_hash !== (before?.receipt_hash ?? null)) {
    throw new Failed("broken_link", "prev_receipt_hash", "prev_receipt_hash is not the receipt_hash of the hop before");
  }
  if (before !== null && unixMs(receipt.ts) < unixMs(before.ts)) {
    throw new Failed("time_reversed", "ts", "ts is earlier than that of the hop before");
  }
}

function verifyFirstOfChain(receipt) {
  if (receipt.hop === 1 && receipt.chain !== receipt.exchange_id) {
    throw new Failed("wrong_chain", "chain", "at hop 1 the chain is the receipt's own exchange_id");
  }
}

function canonicalWithout(document, ...names) {
  const rest = Object.assign(Object.create(null), document);
  for (const name of names) delete rest[name];
  return canonical(rest);
}

async function verifySignature({ headerPart, kid, signaturePart }, content, keys) {
  const key = keys.get(kid);
  if (key === undefined) throw new Failed("unknown_key", "signature", `key ${kid} is not among the trusted ones`);
  // A signature that is not written as BASE64URL writes it is no signature of anything.
  const signature = fromBase64url(signaturePart) ?? new Uint8Array();
  const signed = new TextEncoder().encode(`${headerPart}.${toBase64url(content)}`);
  if (!(await ed25519Verifies(key.publicBytes, signature, signed))) {
    throw new Failed("bad_signature", "signature", "the signature is not of this content and key");
  }
}

function verifyKeyTime(kid, keys, time) {
  const { nbf, exp } = keys.get(kid);
  const ms = unixMs(time);
  if (ms < nbf * 1000 || (exp !== undefined && ms >= exp * 1000)) {
    throw new Failed("key_expired", "key_time", `${time} lies outside the time in which key ${kid} signs`);
  }
}

async function verifyPayload(receipt, payload) {
  let found;
  try {
    found = await digest(canonical(parse(payload)));
  } catch (error) {
    if (error instanceof Refused) throw new Failed("malformed", "payload", `the payload: ${error.message}`);
    throw error;
  }
  if (receipt.cid !== found) throw new Failed("cid_mismatch", "payload", `the payload's digest is ${found}`);
}

// --- Bundles ---------------------------------------------------------------------------------------------------------------------

async function verifyBundle(bundle, { keys, payloads, trustEmbeddedKeys }) {
  checkMembers("the bundle", bundle, BUNDLE);
  const embedded = await embeddedKeys(bundle);
  const token = splitJws(bundle.jws, BUNDLE_TYP);
  // A key that was given is known better than the bundle knows it.
  const all = trustEmbeddedKeys ? new Map([...embedded, ...keys]) : keys;
  await verifyChain(bundle.receipts, all, payloads, bundle);
  if (bundle.bundle_cid !== (await digest(canonicalWithout(bundle, "bundle_cid", "jws")))) {
    throw new Failed("hash_mismatch", "bundle_cid", "bundle_cid is not the digest of the bundle");
  }
  await verifySignature(token, canonicalWithout(bundle, "jws"), all);
  verifyKeyTime(token.kid, all, bundle.exported_at);
}

async function embeddedKeys(bundle) {
  try {
    return await readEntries(bundle.keys, { othersAllowed: false });
  } catch (error) {
    if (error instanceof UnusableKeys) throw new Failed("malformed", "members", error.message);
    throw error;
  }
}
