// A headless Chromium, driven over its debugging pipe: file descriptors 3 and 4, a NUL after each message. No port, no library.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ANSWER_WAIT_MS = 60_000;

export class Browser {
  #process;
  #profile;
  #next = 0;
  #waiting = new Map();
  #listeners = [];
  #rest = "";

  static async start(binary) {
    const browser = new Browser();
    browser.#profile = await mkdtemp(join(tmpdir(), "countersign-page."));
    // The sandbox needs privileges that a container does not give; the page under test is our own.
    const needed = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];
    const options = [...needed, "--remote-debugging-pipe", "--window-size=1200,900", `--user-data-dir=${browser.#profile}`];
    browser.#process = spawn(binary, [...options, "about:blank"], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    browser.#process.once("exit", () => browser.#fail(new Error("the browser ended")));
    browser.#process.once("error", (error) => browser.#fail(error));
    browser.#process.stdio[3].on("error", (error) => browser.#fail(error));
    browser.#process.stdio[4].setEncoding("utf8").on("data", (chunk) => browser.#receive(chunk));
    return browser;
  }

  // Opens a page and attaches to it. `onEvent` sees whatever the page reports.
  async open(url, onEvent) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    this.#listeners.push((message) => message.sessionId === sessionId && onEvent(message));
    const send = (method, params) => this.send(method, params, sessionId);
    for (const domain of ["Runtime", "Log", "Network", "Page"]) await send(`${domain}.enable`);
    const loaded = new Promise((resolve) => {
      this.#listeners.push((message) => message.sessionId === sessionId && message.method === "Page.loadEventFired" && resolve());
    });
    await send("Page.navigate", { url });
    await loaded;
    return new Page(send);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.#next;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${method}`)), ANSWER_WAIT_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  async end() {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    await this.send("Browser.close").catch(() => this.#process.kill("SIGKILL"));
    await ended;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #receive(chunk) {
    const messages = (this.#rest + chunk).split("\0");
    this.#rest = messages.pop();
    for (const message of messages.map((text) => JSON.parse(text))) {
      if (message.id === undefined) this.#listeners.forEach((listener) => listener(message));
      else this.#answer(message);
    }
  }

  #answer({ id, result, error }) {
    const { resolve, reject, timer } = this.#waiting.get(id);
    this.#waiting.delete(id);
    clearTimeout(timer);
    if (error) reject(new Error(error.message));
    else resolve(result);
  }

  #fail(error) {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
  }
}

class Page {
  constructor(send) {
    this.send = send;
  }

  // Calls a function inside the page, with arguments that are JSON, and gives what it answers.
  async call(work, ...args) {
    const expression = `(${work})(...${JSON.stringify(args)})`;
    const answer = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (answer.exceptionDetails) throw new Error(answer.exceptionDetails.exception?.description ?? answer.exceptionDetails.text);
    return answer.result.value;
  }
}
