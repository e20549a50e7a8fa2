"""Compares `countersign eval` with implementations in Python and JavaScript on random documents.

    differential.py --countersign PATH --node-modules DIR --seed N --documents N

Canonical forms must equal those of rfc8785 and jcs (PyPI) and canonicalize (npm). What may not enter is decided here by
the rules of the contract, over Python's own JSON reader. Hashes of older systems must equal those that CPython makes.
"""

import argparse
import base64
import decimal
import hashlib
import json
import math
import queue
import random
import struct
import subprocess
import sys
import threading
import time

import jcs
import rfc8785

import compat_vectors

SAFE = 2**53 - 1
DEPTH_MAX = 64
CANONICAL_BYTES_MAX = 256 * 1024
NUMBERS_IN_A_DOCUMENT = 50
CHUNK = 4_000


class Refused(Exception):
    """A document that may not enter, by its code."""


# --- What may enter (the rules, not the program) ------------------------------------------------------------------------

def is_integer(text, value):
    """Written as an integer, or with a canonical form that is one."""
    return not set(text) & set(".eE") or (value == int(value) and abs(value) < 1e21)


def read_number(text):
    value = float(text)
    if math.isinf(value):
        raise Refused("number_overflow")
    if value == 0 and set(text.lower().split("e")[0]) & set("123456789"):
        raise Refused("number_underflow")
    if is_integer(text, value):
        exact = int(text) if not set(text) & set(".eE") else int(value)
        if abs(exact) > SAFE:
            raise Refused("unsafe_integer")
        return exact if value != 0 else 0
    return value


def check_text(text):
    for character in text:
        code = ord(character)
        if 0xD800 <= code <= 0xDFFF:
            raise Refused("lone_surrogate")
        if code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
            raise Refused("noncharacter")
    return text


def read_members(pairs):
    members = {}
    for name, value in pairs:
        if check_text(name) in members:
            raise Refused("duplicate_name")
        members[name] = value
    return members


def no_constant(_):
    raise Refused("malformed_json")


def check_values(value, depth):
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, (list, dict)):
        if depth == DEPTH_MAX:
            raise Refused("too_deep")
        for inside in value.values() if isinstance(value, dict) else value:
            check_values(inside, depth + 1)


def read(document):
    """The value of a document, or Refused; of several faults any may be told."""
    if document.startswith(b"\xef\xbb\xbf"):
        raise Refused("malformed_json")
    try:
        value = json.loads(document.decode("utf-8"), object_pairs_hook=read_members, parse_int=read_number,
                           parse_float=read_number, parse_constant=no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise Refused("malformed_json") from None
    except RecursionError:
        raise Refused("too_deep") from None
    check_values(value, 0)
    return value


# --- Documents ----------------------------------------------------------------------------------------------------------

def double(bits):
    return struct.unpack("<d", bits.to_bytes(8, "little"))[0]


def some_double(chance):
    kind = chance.randrange(8)
    if kind < 3:
        return double(chance.getrandbits(64))
    if kind == 3:
        # Near the bounds where the form changes, and near powers of ten.
        near = float("1e%d" % chance.choice((-7, -6, -5, 0, 15, 16, 17, 20, 21, 22, 308, -308, chance.randrange(-300, 300))))
        return double(max(0, struct.unpack("<Q", struct.pack("<d", near))[0] + chance.randrange(-3, 4)))
    if kind == 4:
        return double(chance.getrandbits(chance.randrange(1, 53)))
    if kind == 5:
        return float(chance.randrange(-SAFE - 5, SAFE + 5))
    if kind == 6:
        return 2.0 ** chance.randrange(-1074, 1024) * chance.choice((1, -1))
    return round(chance.uniform(-1e6, 1e6), chance.randrange(8))


def spelling(chance, value):
    kind = chance.randrange(8)
    if kind < 2:
        return repr(value)
    if kind == 2:
        return "%.17g" % value
    if kind == 3:
        return "%.*e" % (chance.randrange(25), value)
    if kind == 4 and abs(value) < 1e60:
        return "%.*f" % (chance.randrange(30), value)
    if kind == 5:
        # Half way to the next one, or a hair beside it: what must round to even, and what must not.
        other = double(struct.unpack("<Q", struct.pack("<d", abs(value)))[0] + 1) if abs(value) < 1e308 else abs(value)
        with decimal.localcontext() as context:
            context.prec = 1100
            middle = (decimal.Decimal(abs(value)) + decimal.Decimal(other)) / 2
            middle += middle * decimal.Decimal(chance.choice((0, 0, 1, -1))).scaleb(-chance.randrange(20, 60))
            return "{:e}".format(middle)
    if kind == 6:
        text = "%.17e" % value
        mantissa, exponent = text.split("e")
        shift = chance.randrange(1, 30)
        sign = "-" if mantissa.startswith("-") else ""
        return "%s0.%s%se%d" % (sign, "0" * shift, mantissa.strip("-").replace(".", ""), int(exponent) + shift + 1)
    return repr(value).replace("e", "E").replace("E+", chance.choice(("E", "E+", "e")))


def is_json_number(text):
    try:
        read(text.encode())
        return True
    except Refused:
        return False


def some_number(chance):
    """A spelling that is JSON, whether or not it may enter."""
    while True:
        value = some_double(chance)
        if math.isinf(value) or math.isnan(value):
            continue
        text = spelling(chance, value)
        try:
            json.loads(text)
            return text
        except ValueError:
            continue


POOLS = ((0x20, 0x7F), (0x00, 0x20), (0x7F, 0x800), (0x800, 0xD800), (0xE000, 0xFDD0), (0xFDF0, 0xFFFE), (0x10000, 0x1FFFE),
         (0x20000, 0x2FFFE), (0x30000, 0xDFFFE), (0xE0000, 0xEFFFE), (0xF0000, 0xFFFFE), (0x100000, 0x10FFFE))
# Where the order of UTF-16 and that of UTF-8 part.
EDGES = "a\x7f\x80\u07ff\u0800\ud7ff\ue000\uf000\ufb33\ufffd\U00010000\U0001f600\U0010fffd"


def some_character(chance):
    if chance.random() < 0.3:
        return chance.choice(EDGES)
    while True:
        code = chance.randrange(*chance.choice(POOLS))
        if code & 0xFFFE != 0xFFFE:
            return chr(code)


def some_text(chance, length=12):
    return "".join(some_character(chance) for _ in range(chance.randrange(length)))


SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "/": "\\/"}


def quoted(chance, text):
    """A JSON string of this text, with escapes where they must be and where they need not be."""
    rate = chance.choice((0, 0, 0.2, 1))
    out = ['"']
    for character in text:
        must = character in '"\\' or character < " "
        if not must and chance.random() >= rate:
            out.append(character)
        elif character in SHORT and chance.random() < 0.6:
            out.append(SHORT[character])
        else:
            units = character.encode("utf-16-be")
            form = "%04x" if chance.random() < 0.5 else "%04X"
            out.extend("\\u" + form % struct.unpack(">H", units[at:at + 2]) for at in range(0, len(units), 2))
    out.append('"')
    return "".join(out)


def gap(chance):
    return "".join(chance.choice(" \t\r\n") for _ in range(chance.randrange(3))) if chance.random() < 0.2 else ""


def some_value(chance, depth):
    kind = chance.randrange(10 if depth else 6)
    if kind == 0:
        return chance.choice(("null", "true", "false"))
    if kind < 3:
        return some_number(chance)
    if kind < 6:
        return quoted(chance, some_text(chance))
    parts = []
    names = set()
    for _ in range(chance.randrange(6)):
        inside = gap(chance) + some_value(chance, depth - 1) + gap(chance)
        if kind < 8:
            parts.append(inside)
            continue
        name = some_text(chance, 5)
        if name in names and chance.random() < 0.95:
            continue
        names.add(name)
        parts.append(gap(chance) + quoted(chance, name) + gap(chance) + ":" + inside)
    return ("[%s]" if kind < 8 else "{%s}") % ",".join(parts)


def spoilt(chance, document):
    """The document with a few bytes changed, lost or doubled."""
    spoilt = bytearray(document)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(spoilt)) if spoilt else 0
        kind = chance.randrange(4)
        if kind == 0 and spoilt:
            spoilt[at] = chance.choice(b'{}[]",:\\u0d8eE+-.1 \xff\xef\xbf\xbe\xed\xa0')
        elif kind == 1:
            del spoilt[at:at + chance.randrange(1, 4)]
        elif kind == 2:
            spoilt[at:at] = chance.choice((b"\\ud800", b"\\udc00", b"\\uffff", b"\\ufdd0", b"0", b"1e999", b"1e-999", b",", b'"a":1,',
                                           b"\xef\xbb\xbf", b"9007199254740993", b"\x00", b"[" * 70))
        else:
            other = chance.randrange(len(spoilt)) if spoilt else 0
            spoilt[at:at] = spoilt[other:other + chance.randrange(20)]
    return bytes(spoilt)


def documents(chance, count):
    for _ in range(count):
        kind = chance.randrange(10)
        if kind < 5:
            numbers = [text for text in (some_number(chance) for _ in range(NUMBERS_IN_A_DOCUMENT)) if is_json_number(text)]
            yield ("[%s]" % ",".join(numbers)).encode(), len(numbers)
        elif kind == 5:
            yield some_number(chance).encode(), 1
        elif kind < 9:
            yield (gap(chance) + some_value(chance, 5) + gap(chance)).encode("utf-8", "surrogatepass"), 0
        else:
            yield spoilt(chance, some_value(chance, 4).encode("utf-8", "surrogatepass")), 0


# --- The programs compared ----------------------------------------------------------------------------------------------

class Process:
    """A program that answers each line with a line."""

    def __init__(self, *command):
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.waiting = queue.Queue(2)
        threading.Thread(target=self._write, daemon=True).start()

    def _write(self):
        while (lines := self.waiting.get()) is not None:
            self.process.stdin.write(lines)
            self.process.stdin.flush()
        self.process.stdin.close()

    def ask(self, requests):
        self.waiting.put(b"".join(request + b"\n" for request in requests))

    def answers(self, count):
        for _ in range(count):
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit("%s ended early" % (self.command,))
            yield json.loads(line)

    def close(self):
        self.waiting.put(None)
        if self.process.stdout.read() or self.process.wait():
            raise SystemExit("%s did not end well" % (self.command,))


def request(chance, document):
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is None or chance.random() < 0.1:
        return json.dumps({"base64": base64.b64encode(document).decode()}).encode()
    return json.dumps({"text": text}, ensure_ascii=chance.random() < 0.5).encode()


def expected(document):
    """The canonical form by two implementations, or the code of the refusal."""
    try:
        value = read(document)
    except Refused as refused:
        return None, str(refused)
    canonical = rfc8785.dumps(value)
    other = jcs.canonicalize(value)
    if canonical != other:
        raise SystemExit("rfc8785 and jcs differ on %r: %r, %r" % (document, canonical, other))
    if len(canonical) > CANONICAL_BYTES_MAX:
        return None, "too_large"
    return canonical.decode(), None


def compare_canonical(arguments, chance, told):
    ours = Process(arguments.countersign, "eval", "canonicalize")
    node = Process("node", arguments.canonical_mjs, arguments.node_modules)
    source = documents(chance, arguments.documents)
    faults = 0
    while True:
        chunk = [document for _, document in zip(range(CHUNK), source)]
        if not chunk:
            break
        ours.ask([request(chance, document) for document, _ in chunk])
        node.ask([json.dumps(document.decode("utf-8", "replace")).encode() for document, _ in chunk])
        for (document, numbers), answer, javascript in zip(chunk, ours.answers(len(chunk)), node.answers(len(chunk))):
            told["documents"] += 1
            told["numbers"] += numbers
            canonical, code = expected(document)
            found = answer.get("ok", {}).get("canonical")
            fault = None
            if canonical is None:
                told["refused"] += 1
                if "error" not in answer:
                    fault = "accepted, but %s" % code
            elif found != canonical:
                fault = "not the canonical form %r" % canonical
            elif answer["ok"]["cid"] != "sha256:" + hashlib.sha256(canonical.encode()).hexdigest():
                fault = "not the digest"
            elif javascript != canonical:
                fault = "JavaScript has %r" % javascript
            if fault:
                faults += 1
                print("FAULT on %r: %s; countersign says %s" % (document[:2000], fault, json.dumps(answer)[:2000]))
    ours.close()
    node.close()
    return faults


def compare_single_faults(arguments, chance, told):
    """Documents with one fault in a known place: code and pointer must be those."""
    ours = Process(arguments.countersign, "eval", "canonicalize")
    cases = []
    planted = [("duplicate_name", None), ("lone_surrogate", '"\\ud800"'), ("lone_surrogate", '"x\\udfff\\ud83d"'),
               ("noncharacter", '"\\ufdd0"'), ("noncharacter", '"\U0001ffff"'), ("number_overflow", "1e309"),
               ("number_overflow", "-" + "9" * 310), ("number_underflow", "1e-400"), ("unsafe_integer", "9007199254740993"),
               ("unsafe_integer", "1e20"), ("unsafe_integer", "-9007199254740992.0")]
    for _ in range(arguments.documents // 20):
        code, text = chance.choice(planted)
        pointer = ""
        if text is None:
            name = some_text(chance, 4)
            text = "{%s:1,%s:2}" % (quoted(chance, name), quoted(chance, name))
            pointer = "/" + name.replace("~", "~0").replace("/", "~1")
        for _ in range(chance.randrange(5)):
            if chance.random() < 0.5:
                before = chance.randrange(4)
                items = ["0"] * before + [text] + ["0"] * chance.randrange(3)
                text, pointer = "[%s]" % ",".join(items), "/%d%s" % (before, pointer)
            else:
                name = some_text(chance, 4)
                pointer = "/" + name.replace("~", "~0").replace("/", "~1") + pointer
                text = "{%s:%s%s}" % (quoted(chance, name), text, chance.choice(("", ',"\\u0001other\\u0001":1')))
        cases.append((text, code, pointer))
    ours.ask([json.dumps({"text": text}).encode() for text, _, _ in cases])
    faults = 0
    for (text, code, pointer), answer in zip(cases, ours.answers(len(cases))):
        told["planted faults"] += 1
        error = answer.get("error", {})
        if not error.get("detail", "").startswith(code + ":") or error.get("pointer") != pointer:
            faults += 1
            print("FAULT on %r: expected %s at %r; countersign says %s" % (text, code, pointer, json.dumps(answer)))
    ours.close()
    return faults


def compare_compat(arguments, told):
    ours = Process(arguments.countersign, "eval", "compat-hash")
    source = compat_vectors.random_rows(arguments.seed, arguments.documents // 2)
    faults = 0
    while rows := [row for _, row in zip(range(CHUNK), source)]:
        ours.ask([json.dumps({"recipe": row["recipe"], "input": row["input"]}).encode() for row in rows])
        for row, answer in zip(rows, ours.answers(len(rows))):
            told["hashes"] += 1
            found = answer.get("ok", {})
            if found.get("hash") != row["hash"] or (row["hash"] and found["preimage"] != row["preimage"]):
                faults += 1
                print("FAULT on %s: countersign says %s" % (json.dumps(row), json.dumps(answer)))
    ours.close()
    return faults


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--countersign", required=True)
    parser.add_argument("--node-modules", required=True)
    parser.add_argument("--canonical-mjs", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--documents", type=int, required=True)
    arguments = parser.parse_args()
    sys.set_int_max_str_digits(0)
    print("seed %d, %d documents" % (arguments.seed, arguments.documents), flush=True)
    began = time.monotonic()
    told = dict.fromkeys(("documents", "numbers", "refused", "planted faults", "hashes"), 0)
    chance = random.Random(arguments.seed)
    faults = compare_canonical(arguments, chance, told)
    faults += compare_single_faults(arguments, chance, told)
    faults += compare_compat(arguments, told)
    print(", ".join("%s %d" % pair for pair in told.items()), "in %.0f s:" % (time.monotonic() - began),
          "%d faults" % faults)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
