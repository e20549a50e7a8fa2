#!/usr/bin/env node
// Puts the page into one file: index.html with its style and its modules inside, because a browser does not load modules from file://.
//
//   node build.js            writes index.html
//   node build.js --check    says whether index.html is what would be written
//
// The page's policy names the digests of just this style and this script, and allows nothing else, no connection in particular.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { Script } from "node:vm";

const NAMES = ["strict-json", "base64url", "canonical", "ed25519", "keys", "members", "verify"];
const MODULES = [...NAMES.map((name) => `src/${name}.js`), "page/page.js"];
const OUTPUT = "index.html";
const here = (path) => new URL(path, import.meta.url);
const read = (path) => readFileSync(here(path), "utf8");

function build() {
  const style = `\n${read("page/page.css")}`;
  const script = `\n${MODULES.map((path) => withoutModules(path, read(path))).join("\n")}`;
  // One scope for all: two modules with one name for two things would not compile.
  new Script(`(async () => {${script}})`, { filename: OUTPUT });
  const policy = `default-src 'none'; style-src ${source(style)}; script-src ${source(script)}; base-uri 'none'; form-action 'none'`;
  const parts = { policy, style, script };
  return read("page/page.html").replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name]);
}

function withoutModules(path, text) {
  const imports = /^import \{[^}]*\} from "[^"]+";\n/gm;
  for (const line of text.match(imports) ?? []) {
    if (line.includes(" as ")) throw new Error(`${path} gives an import another name: ${line}`);
  }
  const plain = text.replace(imports, "").replace(/^export (?=(async )?(function|const|class)\b)/gm, "");
  if (/^(import|export)\b/m.test(plain) || plain.includes("</script")) throw new Error(`${path} cannot be put into the page`);
  return `// --- ${path}\n\n${plain}`;
}

function source(text) {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

const page = build();
if (process.argv[2] === "--check") {
  if (page !== read(OUTPUT)) {
    console.error("index.html is not what build.js makes of its parts: run node build.js");
    process.exitCode = 1;
  } else {
    console.log("ok - index.html is what build.js makes of its parts");
  }
} else {
  writeFileSync(here(OUTPUT), page);
}
