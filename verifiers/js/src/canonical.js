// RFC 8785 bytes of what `parse` read, and the digests and ids over them (docs/contracts/receipt.md).

const UTF8 = new TextEncoder();
const SHORT_ESCAPES = new Map([['"', '\\"'], ["\\", "\\\\"], ["\b", "\\b"], ["\f", "\\f"], ["\n", "\\n"], ["\r", "\\r"], ["\t", "\\t"]]);
const CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz";

export function canonical(value) {
  return UTF8.encode(canonicalText(value));
}

// The number form and the order of names are ECMAScript's own: RFC 8785 took them from here.
function canonicalText(value) {
  if (typeof value === "string") return quoted(value);
  if (typeof value === "number") return String(value);
  if (value === null || typeof value === "boolean") return String(value);
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(",")}]`;
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${quoted(name)}:${canonicalText(value[name])}`).join(",")}}`;
}

function quoted(string) {
  const escaped = string.replace(/["\\\x00-\x1f]/g, (sign) => {
    return SHORT_ESCAPES.get(sign) ?? `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
  return `"${escaped}"`;
}

export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

export async function digest(bytes) {
  const hex = Array.from(await sha256(bytes), (byte) => byte.toString(16).padStart(2, "0"));
  return `sha256:${hex.join("")}`;
}

export async function exchangeId(tenant, idempotencyKey) {
  const hash = await sha256(UTF8.encode(`countersign/exchange/v1\0${tenant}\0${idempotencyKey}`));
  const bits = Array.from(hash, (byte) => byte.toString(2).padStart(8, "0")).join("");
  const signs = Array.from({ length: 26 }, (_, place) => CROCKFORD[parseInt(bits.slice(5 * place, 5 * place + 5), 2)]);
  return `ex_${signs.join("")}`;
}
