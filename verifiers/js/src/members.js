// What the members of a receipt and of a bundle must be (docs/contracts/receipt.md), before anything is computed.

import { fromBase64url } from "./base64url.js";

// A check that failed: the verdict, the check's name, and a sentence for people. `index` is set by who knows the receipt's place.
export class Failed extends Error {
  constructor(verdict, check, detail) {
    super(detail);
    this.verdict = verdict;
    this.check = check;
    this.index = null;
  }
}

const MINOR_MAX = 2n ** 63n - 1n;
const HEADER_CHARACTERS_MAX = 1000; // the right one has some 140

const like = (pattern) => (value) => typeof value === "string" && pattern.test(value);
const exactly = (wanted) => (value) => value === wanted;
const orNull = (check) => (value) => value === null || check(value);
const wholeNumber = (least) => (value) => Number.isSafeInteger(value) && value >= least;
const anyText = (value) => typeof value === "string";
const isMinor = (value) => like(/^(?:0|[1-9][0-9]{0,18})$/)(value) && BigInt(value) <= MINOR_MAX;
const isTime = (value) => unixMs(value) !== null;

const isDigest = like(/^sha256:[0-9a-f]{64}$/);
const isExchangeId = like(/^ex_[0-9a-hjkmnp-tv-z]{26}$/);
const isTenant = like(/^[a-z0-9][a-z0-9-]{0,62}$/);
const isTraceId = like(/^[A-Za-z0-9._:-]{1,128}$/);

export const RECEIPT = new Map([
  ["v", exactly(1)],
  ["tenant", isTenant],
  ["exchange_id", isExchangeId],
  ["trace_id", isTraceId],
  ["chain", isExchangeId],
  ["hop", wholeNumber(1)],
  ["ts", isTime],
  ["type", new Map([["payload", anyText], ["target", anyText]])],
  ["request_cid", isDigest],
  ["cid", isDigest],
  ["canon", exactly("RFC8785")],
  ["algo", exactly("sha256")],
  ["policy", new Map([["allowed", exactly(true)], ["reason", anyText], ["host", orNull(anyText)]])],
  ["usage", new Map([["vex", exactly(1)], ["fu", wholeNumber(0)]])],
  ["amount", new Map([["currency", like(/^[A-Z]{3}$/)], ["minor", isMinor], ["payee", like(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)]])],
  ["prev_receipt_hash", orNull(isDigest)],
  ["receipt_hash", isDigest],
  ["jws", anyText],
]);

export const BUNDLE = new Map([
  ["v", exactly(1)],
  ["tenant", isTenant],
  ["trace_id", isTraceId],
  ["chain", isExchangeId],
  ["exported_at", isTime],
  ["receipts", (value) => Array.isArray(value) && value.length > 0],
  ["keys", Array.isArray],
  ["bundle_cid", isDigest],
  ["jws", anyText],
]);

const NULLABLE = new Set(["amount"]);

export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

// Shape before values: the outer names and those inside, unknown ones before missing ones, and only then what stands there.
export function checkMembers(what, value, members) {
  checkNames(what, value, members);
  checkValues(what, value, members);
}

function checkNames(what, value, members) {
  if (!isObject(value)) throw new Failed("malformed", "members", `${what} is not an object`);
  for (const name of Object.keys(value)) {
    if (!members.has(name)) {
      throw new Failed("unknown_member", "members", `${what} has a member ${JSON.stringify(name)} that version 1 does not have`);
    }
  }
  for (const name of members.keys()) {
    if (!(name in value)) throw new Failed("missing_member", "members", `${what} lacks the member ${name}`);
  }
  for (const [name, check] of members) {
    if (check instanceof Map && !isAllowedNull(name, value)) checkNames(name, value[name], check);
  }
}

function checkValues(what, value, members) {
  for (const [name, check] of members) {
    if (isAllowedNull(name, value)) continue;
    if (check instanceof Map) checkValues(name, value[name], check);
    else if (!check(value[name])) {
      throw new Failed("malformed", "members", `${name} of ${what} is not what version 1 has there`);
    }
  }
}

function isAllowedNull(name, value) {
  return NULLABLE.has(name) && value[name] === null;
}

// Milliseconds since 1970 of `2026-11-21T10:00:00.123Z`, or null if it is not that form or no time. There is no second 60.
export function unixMs(value) {
  if (typeof value !== "string" || !/^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$/.test(value)) return null;
  const ms = Date.parse(value);
  // A day that does not exist is moved to one that does, if it is read at all: written again it differs.
  return Number.isNaN(ms) || new Date(ms).toISOString() !== value ? null : ms;
}

// The header part, the kid and the signature part of a detached JWS. The header must be, byte for byte, the contract's.
export function splitJws(token, typ) {
  const dots = token.indexOf("..");
  const headerPart = token.slice(0, Math.max(dots, 0));
  const header = headerPart.length > HEADER_CHARACTERS_MAX ? "" : String.fromCharCode(...(fromBase64url(headerPart) ?? []));
  const kid = /^\{"alg":"EdDSA","kid":"([A-Za-z0-9_-]{43})","typ":"/.exec(header)?.[1];
  if (dots < 0 || kid === undefined || header !== `{"alg":"EdDSA","kid":"${kid}","typ":"${typ}"}`) {
    throw new Failed("malformed", "members", "the jws is not detached, or its header is not the one that version 1 has");
  }
  return { headerPart, kid, signaturePart: token.slice(dots + 2) };
}
