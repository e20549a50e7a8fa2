// The JSON door: bytes become a value only if they are I-JSON as the contract has it (docs/contracts/receipt.md).
//
// `JSON.parse` forgives repeated names and rounds large integers, so it is not used. Objects come out without a prototype: `__proto__`
// is a name like any other. Nothing is repaired: the first fault is thrown.

export const DEPTH_MAX = 64; // containers inside one another

// A document that may not enter. `code` is stable, `pointer` (RFC 6901) says where; `path` is the pointer in steps, and `rootNames` are
// the outermost member names read so far: enough to say which receipt it was.
export class Refused extends Error {
  constructor(code, detail, path = [], rootNames = []) {
    const pointer = path.map((step) => "/" + String(step).replaceAll("~", "~0").replaceAll("/", "~1")).join("");
    super(`${code} at "${pointer}": ${detail}`);
    this.code = code;
    this.pointer = pointer;
    this.path = [...path];
    this.rootNames = [...rootNames];
  }
}

// The text goes on after a whole value: it may still be a value a line.
export class TrailingContent extends Refused {}

export function parse(bytes) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused("malformed_json", "the document is not UTF-8");
  }
  return new Reader(text).document();
}

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\x00-\x1f]*/y;
const HEX4 = /[0-9a-fA-F]{4}/y;
// U+FDD0 to U+FDEF, and the last two of every plane.
const LAST_TWO = Array.from({ length: 17 }, (_, plane) => [0xfffe, 0xffff].map((low) => String.fromCodePoint((plane << 16) | low))).flat();
const NONCHARACTER = new RegExp(`[\\ufdd0-\\ufdef${LAST_TWO.join("")}]`, "u");
const ESCAPES = new Map([['"', '"'], ["\\", "\\"], ["/", "/"], ["b", "\b"], ["f", "\f"], ["n", "\n"], ["r", "\r"], ["t", "\t"]]);
const LITERALS = new Map([["t", ["true", true]], ["f", ["false", false]], ["n", ["null", null]]]);

class Reader {
  #text;
  #at = 0;
  #path = [];
  #rootNames = [];

  constructor(text) {
    this.#text = text;
  }

  document() {
    const value = this.#value();
    this.#take(SPACE);
    if (this.#at !== this.#text.length) {
      throw new TrailingContent("malformed_json", `something follows the value (character ${this.#at})`);
    }
    return value;
  }

  #refused(code, detail) {
    return new Refused(code, `${detail} (character ${this.#at})`, this.#path, this.#rootNames);
  }

  // Moves past what the pattern finds here, and gives the match or null.
  #take(pattern) {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found) this.#at = pattern.lastIndex;
    return found;
  }

  #peek() {
    return this.#text[this.#at];
  }

  #expect(wanted) {
    if (this.#peek() !== wanted) throw this.#refused("malformed_json", `expected ${wanted}`);
    this.#at += 1;
  }

  #value() {
    this.#take(SPACE);
    const first = this.#peek();
    if (first === "{") return this.#inside(() => this.#object());
    if (first === "[") return this.#inside(() => this.#array());
    if (first === '"') return this.#string();
    const literal = LITERALS.get(first);
    if (literal === undefined) return this.#number();
    const [word, value] = literal;
    if (!this.#text.startsWith(word, this.#at)) throw this.#refused("malformed_json", "expected a value");
    this.#at += word.length;
    return value;
  }

  #inside(read) {
    // The path has one step for each container around this one.
    if (this.#path.length >= DEPTH_MAX) throw this.#refused("too_deep", `more than ${DEPTH_MAX} containers inside one another`);
    this.#at += 1;
    this.#take(SPACE);
    return read();
  }

  #object() {
    const members = Object.create(null);
    if (this.#peek() === "}") {
      this.#at += 1;
      return members;
    }
    for (;;) {
      this.#take(SPACE);
      if (this.#peek() !== '"') throw this.#refused("malformed_json", "expected a member name");
      const name = this.#string();
      if (this.#path.length === 0) this.#rootNames.push(name);
      this.#path.push(name);
      if (name in members) throw this.#refused("duplicate_name", "a member name occurs twice in one object");
      this.#take(SPACE);
      this.#expect(":");
      members[name] = this.#value();
      this.#path.pop();
      this.#take(SPACE);
      if (this.#peek() === "}") {
        this.#at += 1;
        return members;
      }
      this.#expect(",");
    }
  }

  #array() {
    const items = [];
    if (this.#peek() === "]") {
      this.#at += 1;
      return items;
    }
    for (;;) {
      this.#path.push(items.length);
      items.push(this.#value());
      this.#path.pop();
      this.#take(SPACE);
      if (this.#peek() === "]") {
        this.#at += 1;
        return items;
      }
      this.#expect(",");
    }
  }

  #string() {
    this.#at += 1;
    let string = "";
    for (;;) {
      string += this.#take(PLAIN)[0];
      const end = this.#peek();
      if (end === '"') break;
      if (end !== "\\") throw this.#refused("malformed_json", "a string is not ended, or holds a raw control character");
      string += this.#escape();
    }
    this.#at += 1;
    if (NONCHARACTER.test(string)) throw this.#refused("noncharacter", "a string holds a noncharacter");
    return string;
  }

  #escape() {
    const letter = this.#text[this.#at + 1];
    if (ESCAPES.has(letter)) {
      this.#at += 2;
      return ESCAPES.get(letter);
    }
    if (letter !== "u") throw this.#refused("malformed_json", "unknown escape");
    const unit = this.#codeUnit();
    if (unit < 0xd800 || unit > 0xdfff) return String.fromCharCode(unit);
    if (unit >= 0xdc00 || !this.#text.startsWith("\\u", this.#at)) throw this.#refused("lone_surrogate", "half of a surrogate pair");
    const low = this.#codeUnit();
    if (low < 0xdc00 || low > 0xdfff) throw this.#refused("lone_surrogate", "half of a surrogate pair");
    return String.fromCharCode(unit, low);
  }

  #codeUnit() {
    this.#at += 2;
    const digits = this.#take(HEX4);
    if (digits === null) throw this.#refused("malformed_json", "\\u wants four hex digits");
    return parseInt(digits[0], 16);
  }

  #number() {
    const lexeme = this.#take(NUMBER);
    if (lexeme === null) throw this.#refused("malformed_json", "expected a value");
    const [text, fraction, exponent] = lexeme;
    const value = Number(text);
    if (!Number.isFinite(value)) throw this.#refused("number_overflow", "a number is too large for binary64");
    if (value === 0 && /[1-9]/.test(text.split(/[eE]/)[0])) {
      throw this.#refused("number_underflow", "a number that is not zero becomes zero");
    }
    const writtenAsInteger = fraction === undefined && exponent === undefined;
    const canonicalAsInteger = !/[.e]/.test(String(value));
    if ((writtenAsInteger || canonicalAsInteger) && !Number.isSafeInteger(value)) {
      throw this.#refused("unsafe_integer", "an integer outside ±(2^53-1)");
    }
    return value;
  }
}
