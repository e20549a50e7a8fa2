// A co-process: a JSON string a line, which is the text of a document; back comes the canonical form as a JSON string,
// or null where this implementation has none.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const canonicalize = createRequire(process.argv[2] + "/")("canonicalize");

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  let canonical = null;
  try {
    canonical = canonicalize(JSON.parse(JSON.parse(line)));
  } catch {
    // Refused.
  }
  process.stdout.write(JSON.stringify(canonical ?? null) + "\n");
}
