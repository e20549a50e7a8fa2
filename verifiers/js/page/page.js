// The page: takes files, asks `verify`, shows the answer. It decides nothing about evidence itself.
//
// Whatever comes from a file is put on the page as text, never as markup.

import { canonical, digest } from "../src/canonical.js";
import { UnusableKeys, parseJwks } from "../src/keys.js";
import { isObject } from "../src/members.js";
import { Refused, parse } from "../src/strict-json.js";
import { verify } from "../src/verify.js";

const RECEIPTS_SHOWN_MAX = 500;
const MEANINGS = new Map([
  ["ok", "Every check held."],
  ["malformed", "The file is no strict JSON, or a member is not what the contract has there."],
  ["unknown_member", "There is a member that the contract does not know."],
  ["missing_member", "A member is missing."],
  ["hash_mismatch", "The content is not what was hashed: it was changed."],
  ["bad_signature", "The signature does not belong to this content and key."],
  ["unknown_key", "It is signed by a key that is not among those you trust."],
  ["key_expired", "It is dated outside the time in which its key signs."],
  ["cid_mismatch", "The payload is not the one that the receipt is about."],
  ["wrong_trace", "A receipt belongs to another trace."],
  ["wrong_tenant", "A receipt belongs to another tenant."],
  ["wrong_chain", "A receipt belongs to another chain."],
  ["hop_gap", "A receipt is missing, repeated, or out of order."],
  ["broken_link", "A receipt does not follow from the one before it."],
  ["time_reversed", "A receipt is dated before the one before it."],
]);
// Checks of a bundle as a whole that come after its receipts: with these all receipts have passed.
const AFTER_RECEIPTS = new Set(["bundle_cid", "signature", "key_time"]);

const element = (id) => document.getElementById(id);
const nothing = () => ({ evidence: null, keys: new Map(), keysFile: null, keysError: null, payloads: [] });

let held = nothing();
let asked = 0;

// --- Taking files ----------------------------------------------------------------------------------------------------------------

const TAKERS = {
  async evidence([file]) {
    held.evidence = { name: file.name, bytes: await bytesOf(file) };
  },
  async keys([file]) {
    held.keysFile = file.name;
    held.keysError = null;
    held.keys = new Map();
    try {
      held.keys = await parseJwks(await bytesOf(file));
    } catch (error) {
      if (!(error instanceof UnusableKeys)) throw error;
      held.keysError = error.message;
    }
  },
  async payloads(files) {
    held.payloads = await Promise.all(Array.from(files, readPayload));
  },
};

async function bytesOf(file) {
  return new Uint8Array(await file.arrayBuffer());
}

async function readPayload(file) {
  const bytes = await bytesOf(file);
  try {
    return { name: file.name, bytes, cid: await digest(canonical(parse(bytes))), refusal: null };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { name: file.name, bytes, cid: null, refusal: error.message };
  }
}

async function take(kind, files) {
  if (files.length > 0) await TAKERS[kind](files);
  await show();
}

function listen() {
  for (const kind of Object.keys(TAKERS)) {
    const zone = element(`${kind}-zone`);
    const input = element(`${kind}-input`);
    input.addEventListener("change", () => guarded(() => take(kind, [...input.files])));
    zone.addEventListener("dragover", () => (zone.dataset.over = ""));
    zone.addEventListener("dragleave", () => delete zone.dataset.over);
    zone.addEventListener("drop", (event) => {
      delete zone.dataset.over;
      const files = [...event.dataTransfer.files];
      guarded(() => take(kind, files));
    });
  }
  // Without this a file that misses its zone would be opened in place of the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
  element("trust").addEventListener("change", () => guarded(show));
  element("reset").addEventListener("click", () => {
    held = nothing();
    for (const input of document.querySelectorAll("input")) {
      input.value = "";
      input.checked = false;
    }
    guarded(show);
  });
}

// A fault of the page or of the browser is said as such: it is no verdict on the evidence.
async function guarded(work) {
  try {
    await work();
  } catch (error) {
    showVerdict("bad", "Could not be verified here", error.message);
    finished("");
  }
}

// --- Showing what is held and the verdict ----------------------------------------------------------------------------------------

async function show() {
  const mine = ++asked;
  showHeld();
  const trustEmbeddedKeys = element("trust").checked;
  if (held.evidence === null) {
    clear("Nothing to verify yet", "Give the evidence and the keys above.");
    return;
  }
  if (held.keysError !== null) {
    clear("The keys cannot be used", `${held.keysFile}: ${held.keysError}`, "bad");
    return;
  }
  const answer = await verdictOf(trustEmbeddedKeys);
  // Files may have changed while this was computed: the last question gives the answer.
  if (mine === asked) showAnswer(answer);
}

// Asks twice where there are payloads: which receipt each belongs to is known only when the receipts have been read.
async function verdictOf(trustEmbeddedKeys) {
  const { evidence, keys, payloads } = held;
  const answer = await verify(evidence.bytes, keys, { trustEmbeddedKeys });
  if (payloads.length === 0 || answer.verdict !== "ok") return answer;
  const receipts = receiptsOf(answer.document);
  const ordered = receipts.map(({ cid }) => payloads.find((payload) => payload.cid === cid)?.bytes ?? null);
  const stray = payloads.find((payload) => !receipts.some(({ cid }) => cid === payload.cid));
  if (stray === undefined) return verify(evidence.bytes, keys, { trustEmbeddedKeys, payloads: ordered });
  const why = stray.refusal ?? `its digest is ${stray.cid}, which is the cid of none of the receipts`;
  const verdict = stray.refusal === null ? "cid_mismatch" : "malformed";
  return { ...answer, verdict, check: "payload", detail: `${stray.name}: ${why}` };
}

function receiptsOf(read) {
  if (Array.isArray(read)) return read;
  if (!isObject(read)) return [];
  return Array.isArray(read.receipts) ? read.receipts : "receipt_hash" in read ? [read] : [];
}

function showHeld() {
  element("evidence-held").textContent = held.evidence === null ? "No file yet." : `${held.evidence.name}, ${held.evidence.bytes.length} bytes`;
  const keys = element("keys-held");
  keys.dataset.tone = held.keysError === null ? "none" : "bad";
  if (held.keysFile === null) keys.textContent = "No keys yet.";
  else if (held.keysError !== null) keys.textContent = `${held.keysFile} cannot be used: ${held.keysError}`;
  else keys.textContent = [`${held.keysFile}: ${counted(held.keys.size, "key")}`, ...held.keys.keys()].join("\n");
  const payloads = held.payloads.map(({ name, cid, refusal }) => `${name}: ${cid ?? refusal}`);
  element("payloads-held").textContent = payloads.join("\n") || "No payloads.";
}

function showAnswer(answer) {
  const { document: read, ...shown } = answer;
  const where = answer.index === null ? "" : `Receipt ${answer.index} (hop ${answer.index + 1}): `;
  if (answer.verdict !== "ok") {
    showVerdict("bad", answer.verdict, `${where}${MEANINGS.get(answer.verdict)} (${answer.check}: ${answer.detail})`);
  } else if (answer.trusted === "given") {
    showVerdict("good", "ok", `${counted(answer.receipts, "receipt")}: unchanged, complete as far as shown, and signed by the keys you gave.`);
  } else {
    const whose = answer.trusted === "embedded" ? "by its own keys" : "by the keys you gave or by its own";
    const shown = `${counted(answer.receipts, "receipt")}: unchanged and signed ${whose}.`;
    showVerdict("warn", "ok, but whole only", `${shown} Who made it is not shown: for that, give the signer's JWKS and trust no others.`);
  }
  showReceipts(answer, receiptsOf(read));
  element("answer").hidden = false;
  element("answer-text").textContent = JSON.stringify(shown, null, 2);
  finished(answer.verdict);
}

function clear(word, why, tone = "none") {
  showVerdict(tone, word, why);
  element("receipts").replaceChildren();
  element("answer").hidden = true;
  finished("");
}

function showVerdict(tone, word, why) {
  element("verdict").dataset.tone = tone;
  element("verdict-word").textContent = word;
  element("verdict-why").textContent = why;
}

// For whoever drives the page: how many answers there have been, and the last one.
function finished(verdict) {
  const result = element("result");
  result.dataset.verdict = verdict;
  result.dataset.run = String(Number(result.dataset.run) + 1);
}

function showReceipts(answer, receipts) {
  const items = receipts.slice(0, RECEIPTS_SHOWN_MAX).map((receipt, index) => receiptItem(receipt, stateOf(answer, index)));
  if (receipts.length > RECEIPTS_SHOWN_MAX) items.push(node("li", {}, `and ${receipts.length - RECEIPTS_SHOWN_MAX} more, judged like these`));
  element("receipts").replaceChildren(...items);
}

// Judging ends at the first check that fails: the receipts behind it have not been looked at.
function stateOf(answer, index) {
  const goodTone = answer.trusted === "given" ? "good" : "warn";
  if (answer.verdict === "ok") return { tone: goodTone, mark: "✓ ok" };
  if (answer.index === index) return { tone: "bad", mark: `✗ ${answer.verdict}`, why: answer.detail };
  const allPassed = answer.index === null && (AFTER_RECEIPTS.has(answer.check) || answer.check === "payload");
  if (allPassed || index < answer.index) return { tone: goodTone, mark: "✓ ok" };
  return { tone: "none", mark: "– not judged", why: "A check before it failed." };
}

function receiptItem(receipt, { tone, mark, why }) {
  const item = node("li", { tone }, node("span", { className: "mark" }, mark));
  const facts = node("dl", { className: "facts" });
  for (const [name, value] of isObject(receipt) ? factsOf(receipt) : []) {
    facts.append(node("dt", {}, name), node("dd", {}, typeof value === "string" ? value : JSON.stringify(value ?? null)));
  }
  item.append(facts);
  if (why) item.append(node("p", { className: "why" }, why));
  return item;
}

function factsOf({ hop, ts, exchange_id, tenant, type, amount, policy, cid }) {
  const paid = isObject(amount) ? `${amount.minor} minor units of ${amount.currency} to ${amount.payee}` : "none";
  const types = isObject(type) ? `${type.payload} → ${type.target}` : type;
  return [
    ["hop", hop], ["time", ts], ["exchange", exchange_id], ["tenant", tenant], ["type", types], ["amount", paid],
    ["destination", (isObject(policy) ? policy.host : policy) ?? "none"], ["cid", cid],
  ];
}

function node(tag, { className, tone }, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (tone) made.dataset.tone = tone;
  made.append(...children);
  return made;
}

function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

element("codes").append(...[...MEANINGS].flatMap(([code, meaning]) => [node("dt", {}, code), node("dd", {}, meaning)]));
listen();
