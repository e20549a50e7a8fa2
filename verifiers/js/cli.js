#!/usr/bin/env node
// `node cli.js`: the same interface, output and exit codes as `countersign verify`.

import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { UnusableKeys, exitCode, parseJwks, verify } from "./src/index.js";

const JWKS_BYTES_MAX = 1 << 20;
const FETCH_TIMEOUT_MS = 10_000;
const USAGE = `Verifies receipts, chains and bundles offline.

Usage: cli.js [OPTIONS] FILE...

  FILE                   receipts, chains (arrays, or a receipt a line) and bundles; a directory: every *.json in it; "-": stdin
  --keys FILE|URL        the keys that are trusted: a JWKS file, or the URL of one (/.well-known/jwks.json)
  --trust-embedded-keys  trust the keys that a bundle carries itself: this shows that it is whole, not who made it
  --payload FILE         the normalised payload of the receipt; again for each receipt of a chain, in their order
  --json                 one JSON object a document
  --help`;

// What the user asked for cannot be done; the message says what it is.
class Unusable extends Error {}

async function main() {
  const { values: options, positionals } = commandLine();
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  if (positionals.length === 0) throw new Unusable("name a file to verify, or - for stdin; --help says more");
  const keys = options.keys ? await keysFrom(options.keys) : new Map();
  const payloads = await Promise.all(options.payload.map(readInput));
  const files = (await Promise.all(positionals.map(filesOf))).flat();
  const trustEmbeddedKeys = options["trust-embedded-keys"];
  if (!options.keys && !trustEmbeddedKeys) {
    console.error("no keys are trusted: name them with --keys, for instance --keys https://HOST/.well-known/jwks.json");
  }
  let worst = 0;
  for (const file of files) {
    try {
      const verdict = await verify(await readInput(file), keys, { payloads, trustEmbeddedKeys });
      if (payloads.length > Math.max(verdict.receipts, 1)) {
        throw new Unusable(`${payloads.length} payloads for the ${verdict.receipts} receipts of ${file}: one would stay unchecked`);
      }
      console.log(options.json ? asJson(file, verdict, files.length > 1) : asText(file, verdict));
      worst = Math.max(worst, exitCode(verdict));
    } catch (error) {
      worst = Math.max(worst, complain(error));
    }
  }
  return worst;
}

function commandLine() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        keys: { type: "string" },
        "trust-embedded-keys": { type: "boolean", default: false },
        payload: { type: "string", multiple: true, default: [] },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw new Unusable(error.message);
  }
}

function complain(error) {
  if (!(error instanceof Unusable)) throw error;
  console.error(`countersign-verify: ${error.message}`);
  return 2;
}

async function filesOf(name) {
  const isDirectory = name !== "-" && (await stat(name).catch(() => null))?.isDirectory();
  if (!isDirectory) return [name];
  const found = (await readdir(name)).filter((entry) => entry.endsWith(".json")).sort();
  if (found.length === 0) throw new Unusable(`${name} holds no *.json`);
  return found.map((entry) => join(name, entry));
}

async function readInput(name) {
  try {
    return await readFile(name === "-" ? "/dev/stdin" : name);
  } catch (error) {
    throw new Unusable(`${name} cannot be read: ${error.code}`);
  }
}

async function keysFrom(name) {
  try {
    return await parseJwks(/^https?:\/\//.test(name) ? await fetchBytes(name) : await readInput(name));
  } catch (error) {
    if (error instanceof UnusableKeys) throw new Unusable(`${name} holds no usable keys: ${error.message}`);
    throw error;
  }
}

async function fetchBytes(url) {
  let bytes;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    bytes = await boundedBody(response);
  } catch (error) {
    throw new Unusable(`${url} cannot be fetched: ${error.cause?.code ?? error.message}`);
  }
  return bytes;
}

async function boundedBody(response) {
  const chunks = [];
  let length = 0;
  for await (const chunk of response.body) {
    length += chunk.length;
    if (length > JWKS_BYTES_MAX) throw new Error("it is longer than a key document");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function asJson(file, { verdict, index, check, detail, receipts, trusted }, withFile) {
  return JSON.stringify({ ...(withFile && { file }), verdict, index, check, detail, receipts, trusted });
}

function asText(file, { verdict, index, check, detail, receipts, trusted }) {
  const where = index === null ? "" : `, receipt ${index}`;
  const why = verdict === "ok" ? "" : `${where}, check ${check}: ${detail}`;
  const line = `${file}: ${verdict}${why} (${receipts} receipt${receipts === 1 ? "" : "s"}, keys ${trusted})`;
  // A document may name its members as it likes; it may not drive the reader's terminal.
  return line.replace(/[^\x20-\x7e]/gu, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);
}

// Node 20 and 22 call Ed25519 in WebCrypto experimental on stderr; the verdict is the news here.
const emitWarning = process.emitWarning;
process.emitWarning = (warning, ...rest) => {
  if (!String(warning).includes("Ed25519")) emitWarning.call(process, warning, ...rest);
};

process.exitCode = await main().catch(complain);
