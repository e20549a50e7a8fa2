// Answers questions about JSON and evidence with the verifier in JavaScript; `answer.py` says what the questions are.

import { createInterface } from "node:readline";

import { Refused, UnusableKeys, canonical, digest, exchangeId, exitCode, parse, parseJwks, verify } from "../js/src/index.js";

const bytesOf = (text) => new TextEncoder().encode(text);

async function answer(request) {
  if (request.op === "canonical") return canonicalForm("base64" in request ? Buffer.from(request.base64, "base64") : bytesOf(request.text));
  if (request.op === "exchange_id") return { exchange_id: await exchangeId(request.tenant, request.idempotency_key) };
  let keys;
  try {
    keys = await parseJwks(bytesOf(request.keys));
  } catch (error) {
    if (!(error instanceof UnusableKeys)) throw error;
    return { verdict: null, index: null, check: null, exit: 2 };
  }
  const payloads = (request.payloads ?? []).map((payload) => (payload === null ? null : bytesOf(payload)));
  const verdict = await verify(bytesOf(request.text), keys, { payloads, trustEmbeddedKeys: request.trust_embedded_keys ?? false });
  return { verdict: verdict.verdict, index: verdict.index, check: verdict.check, exit: exitCode(verdict) };
}

async function canonicalForm(bytes) {
  try {
    const form = canonical(parse(bytes));
    return { accept: true, canonical: new TextDecoder().decode(form), cid: await digest(form) };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { accept: false, code: error.code, pointer: error.pointer };
  }
}

console.log(JSON.stringify({ ed25519: "webcrypto" }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
