// The page in a headless Chromium, opened from its file: files are dropped on it, and what it then says is compared.
//
//   vectors.py's requests on stdin | node page.mjs CHROMIUM [--pictures DIR] [--taken DIR]
//
// --taken names a folder with a bundle.json of a running pipeline, its jwks.json and the payloads. --pictures keeps screenshots.
// A line of stdin is [name, request, wanted]. Every vector is dropped on the page, but those with payloads, which the page takes in any
// order and not by place; some stories of their own follow. Exit code 1 if anything differed, was logged, or was sent anywhere.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

import { Browser } from "./browser.mjs";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { pictures: { type: "string" }, taken: { type: "string" } } });
const { pictures, taken } = values;
const [chromium] = positionals;
const PAGE = new URL("../js/index.html", import.meta.url).href;

// --- Inside the page -------------------------------------------------------------------------------------------------------------

// Puts `tester` into the page: it drops files and clicks as a person does, waits for the page's answer, and tells what is to be seen.
function installTester() {
  const element = (id) => document.getElementById(id);
  const text = (id) => element(id).textContent;

  async function answered(act) {
    const { dataset } = element("result");
    const before = dataset.run;
    const next = new Promise((resolve) => {
      const observer = new MutationObserver(() => {
        if (dataset.run !== before) resolve(observer.disconnect());
      });
      observer.observe(element("result"), { attributeFilter: ["data-run"] });
    });
    act();
    await next;
  }

  const click = (id) => answered(() => element(id).click());
  const drop = (zone, files) =>
    answered(() => {
      const transfer = new DataTransfer();
      for (const { name, text: content } of files) transfer.items.add(new File([content], name));
      const target = document.querySelector(`#${zone}-zone .pick`);
      for (const type of ["dragenter", "dragover", "drop"]) {
        target.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
      }
    });
  const seen = () => ({
    verdict: element("result").dataset.verdict,
    tone: element("verdict").dataset.tone,
    word: text("verdict-word"),
    why: text("verdict-why"),
    keys: text("keys-held"),
    answer: element("answer").hidden ? null : JSON.parse(text("answer-text")),
    marks: Array.from(document.querySelectorAll("#receipts .mark"), (mark) => mark.textContent),
  });

  async function ask({ evidence, keys = null, trust = false, payloads = [] }) {
    await click("reset");
    if (trust) await click("trust");
    if (keys !== null) await drop("keys", [{ name: "jwks.json", text: keys }]);
    if (payloads.length > 0) await drop("payloads", payloads.map((content, place) => ({ name: `payload-${place}.json`, text: content })));
    await drop("evidence", [{ name: "evidence.json", text: evidence }]);
    return seen();
  }
  window.tester = { click, drop, seen, ask };
}

// --- The run ---------------------------------------------------------------------------------------------------------------------

const counts = { passed: 0, failed: 0 };
const complaints = [];

async function check(name, work) {
  try {
    await work();
    counts.passed += 1;
  } catch (error) {
    counts.failed += 1;
    console.log(`FAILED - page: ${name}\n  ${error.message.replaceAll("\n", "\n  ")}`);
  }
}

// Whatever a page under test should never do.
function notice({ method, params }) {
  if (method === "Runtime.exceptionThrown") complaints.push(`exception: ${params.exceptionDetails.exception?.description}`);
  if (method === "Log.entryAdded") complaints.push(`${params.entry.level}: ${params.entry.text}`);
  if (method === "Runtime.consoleAPICalled") complaints.push(`console.${params.type}`);
  if (method === "Network.requestWillBeSent" && params.request.url !== PAGE) complaints.push(`request: ${params.request.url}`);
}

async function run(page, vectors) {
  await page.call(installTester);
  const ask = (question) => page.call((asked) => tester.ask(asked), question);

  for (const [name, request, wanted] of vectors) {
    await check(name, async () => {
      const { answer, word } = await ask({ evidence: request.text, keys: request.keys, trust: request.trust_embedded_keys });
      if (wanted.verdict === null) assert.equal(word, "The keys cannot be used");
      else assert.deepEqual({ verdict: answer?.verdict, index: answer?.index }, { verdict: wanted.verdict, index: wanted.index });
    });
  }
  await stories(page, ask, Object.fromEntries(vectors.map(([name, request]) => [name, request])));
}

async function stories(page, ask, requests) {
  const bundle = requests["bundles.jsonl: ok: three hops, the bundle signed by a key of its own"];
  const { text: evidence, keys } = bundle;
  const broken = requests["bundles.jsonl: receipt 1: hash, nothing else sealed anew"].text;
  const payload = '{"amount":"12.50","currency":"EUR","invoice_id":"INV-1"}';
  const picture = async (name) => {
    if (!pictures) return;
    const { data } = await page.send("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
    await writeFile(join(pictures, `${name}.png`), Buffer.from(data, "base64"));
  };

  await check("it is opened from a file, and is a secure context", async () => {
    assert.deepEqual(await page.call(() => [location.protocol, isSecureContext]), ["file:", true]);
  });
  await check("it has nothing to say before it is asked", async () => {
    const { verdict, answer, word } = await page.call(() => tester.click("reset").then(tester.seen));
    assert.deepEqual([verdict, answer, word], ["", null, "Nothing to verify yet"]);
    await picture("empty");
  });
  await check("without keys nobody is believed", async () => {
    const { verdict, tone } = await ask({ evidence });
    assert.deepEqual([verdict, tone], ["unknown_key", "bad"]);
    await picture("without-keys");
  });
  await check("with the signer's keys the bundle is good, and every receipt says so", async () => {
    const { verdict, tone, marks, keys: held } = await ask({ evidence, keys });
    assert.deepEqual([verdict, tone, marks], ["ok", "good", Array(3).fill("✓ ok")]);
    assert.match(held, /^jwks\.json: 3 keys\n/);
    await picture("good");
  });
  await check("its own keys show that it is whole, and the page says what they do not show", async () => {
    const { tone, word, why } = await ask({ evidence, trust: true });
    assert.deepEqual([tone, word], ["warn", "ok, but whole only"]);
    assert.match(why, /Who made it is not shown/);
    await picture("embedded");
  });
  await check("a stranger's bundle looks no better by its own keys than ours", async () => {
    const { tone } = await ask({ evidence: requests["bundles.jsonl: trust: its own keys without being told to"].text, trust: true });
    assert.equal(tone, "warn");
  });
  await check("the receipt that fails is named, those behind it are not judged", async () => {
    const { verdict, tone, marks, why } = await ask({ evidence: broken, keys });
    assert.deepEqual([verdict, tone, marks], ["hash_mismatch", "bad", ["✓ ok", "✗ hash_mismatch", "– not judged"]]);
    assert.match(why, /^Receipt 1 \(hop 2\): /);
    await picture("broken");
  });
  await check("a payload is found by its digest", async () => {
    assert.equal((await ask({ evidence, keys, payloads: [` ${payload} `] })).verdict, "ok");
  });
  await check("a payload that belongs to no receipt is a failure", async () => {
    const { verdict, why, marks } = await ask({ evidence, keys, payloads: [payload, "{}"] });
    assert.deepEqual([verdict, marks], ["cid_mismatch", Array(3).fill("✓ ok")]);
    assert.match(why, /payload-1\.json/);
  });
  await check("a payload that is no strict JSON is a failure", async () => {
    assert.equal((await ask({ evidence, keys, payloads: ['{"a":1,"a":1}'] })).verdict, "malformed");
  });
  await check("keys that come later change the verdict", async () => {
    await ask({ evidence });
    const after = await page.call((text) => tester.drop("keys", [{ name: "jwks.json", text }]).then(tester.seen), keys);
    assert.equal(after.verdict, "ok");
  });
  await check("markup in a file stays text", async () => {
    const hostile = JSON.stringify({ ...JSON.parse(evidence), "<img src=x onerror=alert(1)>": 1 });
    const { verdict, why } = await ask({ evidence: hostile, keys });
    assert.equal(verdict, "unknown_member");
    assert.match(why, /<img src=x/);
    assert.equal(await page.call(() => document.querySelectorAll("main img").length), 0);
  });
  await check("a file dropped beside the zones does not replace the page", async () => {
    const prevented = await page.call(() => {
      const event = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: new DataTransfer() });
      document.querySelector("h1").dispatchEvent(event);
      return event.defaultPrevented;
    });
    assert.equal(prevented, true);
  });
  await check("every control has a name, and the verdict is announced", async () => {
    const { unnamed, live } = await page.call(() => {
      const names = Array.from(document.querySelectorAll("input, button"), (control) => (control.labels?.[0] ?? control).textContent.trim());
      return { unnamed: names.filter((name) => name === "").length, live: document.getElementById("verdict").getAttribute("role") };
    });
    assert.deepEqual({ unnamed, live }, { unnamed: 0, live: "status" });
  });
  if (taken) {
    await check("the bundle of a running pipeline is good, with its payloads", async () => {
      const file = (name) => readFile(join(taken, name), "utf8");
      const bundle = await file("bundle.json");
      const { receipts } = JSON.parse(bundle);
      const all = await Promise.all(receipts.map((_, number) => file(`payload-${number}.json`)));
      const { verdict, tone, marks, why } = await ask({ evidence: bundle, keys: await file("jwks.json"), payloads: all });
      assert.deepEqual([verdict, tone, marks], ["ok", "good", receipts.map(() => "✓ ok")], why);
    });
  }
  await check("it threw nothing, logged nothing and asked nobody", async () => assert.deepEqual(complaints, []));
  await check("its policy stops a request", async () => {
    const stopped = await page.call(() => fetch("data:,x").then(() => false, () => true));
    assert.equal(stopped, true);
  });
}

const vectors = [];
for await (const line of createInterface({ input: process.stdin })) {
  const vector = JSON.parse(line);
  if (vector[1].op === "verify" && !vector[1].payloads) vectors.push(vector);
}
const browser = await Browser.start(chromium);
try {
  await run(await browser.open(PAGE, notice), vectors);
} finally {
  await browser.end();
}
console.log(`page: ${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
