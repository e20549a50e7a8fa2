"""The `compat` recipes as CPython works them out, with json, hashlib and decimal alone.

    compat_vectors.py write PATH         the vectors that are exported (schemas/vectors/compat/vectors.jsonl)
    compat_vectors.py random SEED COUNT  random ones, one JSON object a line, for the differential run

A row is {"id", "recipe", "input", "hash", "preimage"}, with "cid" for S-43; `input` is the text of a JSON document.
"""

import decimal
import hashlib
import json
import random
import sys


def digest(text, digits=64):
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:digits]


def amount(value):
    return str(decimal.Decimal(value).quantize(decimal.Decimal("0.01")))


def bars(document, *names):
    return "|".join(str(document[name]) for name in names)


def a_26(document):
    taken = {"deal_id": document["deal_id"], "action": document["action"]}
    taken.update({name: str(value) for name, value in document.get("params", {}).items()})
    preimage = json.dumps(taken, sort_keys=True)
    return "idem_" + digest(preimage, 24), preimage


def a_27(document):
    names = ("event_id", "event_type", "deal_id", "actor_id", "timestamp", "payload", "prev_hash")
    preimage = json.dumps({name: document[name] for name in names}, sort_keys=True)
    return digest(preimage), preimage


def a_28(document):
    preimage = bars(document, "vertical", "sku_id", "scope_summary", "estimated_price", "policy_hash", "proof_hash")
    return digest(preimage, 32), preimage


def a_29(document):
    preimage = json.dumps(document, sort_keys=True)
    return digest(preimage, 24), preimage


def a_30(document):
    preimage = bars(document, "deal_id", "proof_hash", "provider", "verified", "confidence")
    return digest(preimage, 24), preimage


def a_31(document):
    preimage = bars(document, "deal_id", "proof_hash", "provider_name", "verified")
    return digest(preimage, 24), preimage


def a_32(document):
    meta = document["meta"]
    entry = {
        "deal_id": meta.get("deal_id", ""),
        "entry_type": document["entry_type"],
        "ref": document["ref"],
        "debit": amount(document["debit"]),
        "credit": amount(document["credit"]),
        "currency": meta.get("currency", "USD"),
        "counterparty": meta.get("from") or meta.get("to") or meta.get("counterparty", ""),
        "event_id": meta.get("event_id") or meta.get("tx_id") or "",
    }
    preimage = json.dumps(entry, sort_keys=True)
    return digest(preimage, 24), preimage


def a_33(document):
    names = ("spec_version", "deal_id", "proofs", "events", "merkle_inclusion")
    preimage = json.dumps({name: document[name] for name in names}, sort_keys=True, separators=(",", ":"))
    return digest(preimage), preimage


def s_43(document):
    # Strings, integers and null only, and names in ASCII: there sorted JSON without spaces is the canonical form.
    hashed = {name: value for name, value in document.items() if name != "receipt_hash"}
    preimage = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + digest(preimage), preimage


RECIPES = {
    "A-26": a_26, "A-27": a_27, "A-28": a_28, "A-29": a_29, "A-30": a_30, "A-31": a_31, "A-32": a_32, "A-33": a_33,
    "S-43": s_43,
}


def row(identity, recipe, text):
    document = json.loads(text)
    hashed, preimage = RECIPES[recipe](document)
    made = {"id": identity, "recipe": recipe, "input": text, "hash": hashed, "preimage": preimage}
    if recipe == "S-43":
        made["cid"] = "sha256:" + digest(document["canon"])
    return made


# --- What is exported ---------------------------------------------------------------------------------------------------

NUMBERS = ("0", "-0", "100", "100.0", "1e2", "0.1", "-0.0", "1e16", "9999999999999998.0", "1e15", "1e-4", "0.00001",
           "1.5e-7", "123456789.123456789", "1e22", "1e300", "5e-324", "-1.7976931348623157e308", "1E5", "1e-400",
           "123456789012345678901234567890", "0.30000000000000004", "2.675", "1e05", "10000000000000000.0", "4.50")

TEXTS = ("", "plain", "it's", 'say "x"', "it's \"both\"", "back\\slash", "tab\tline\nreturn\r", "\b\f", "\x00\x01\x1f",
         "del\x7f", "nbsp\xa0soft\xad", "caf\xe9", "cafe\u0301", "\u2028\u2029", "\u200b\ufeff", "\u5317\u4eac",
         "\ufb33", "\U0001f600", "\U000e0001", "\U0010fffd", "\ue000", "\u0378", "</script>", "a|b", "\u0130\u0131")


def exported():
    for index, number in enumerate(NUMBERS):
        yield "A-26", '{"deal_id":"d","action":"settle","params":{"amount":%s}}' % number
        yield "A-28", ('{"vertical":"v","sku_id":"s","scope_summary":"x","estimated_price":%s,"policy_hash":"p",'
                       '"proof_hash":"h"}' % number)
        yield "A-29", '[{"field":"amount","op":">=","value":%s}]' % number
        yield "A-30", ('{"deal_id":"d","proof_hash":"h","provider":"p","verified":%s,"confidence":%s}'
                       % (("true", "false")[index % 2], number))
    for text in TEXTS:
        quoted = json.dumps(text)
        yield "A-26", '{"deal_id":%s,"action":"go","params":{"note":%s,"list":[%s,{%s:null}]}}' % ((quoted,) * 4)
        yield "A-27", ('{"event_id":"e","event_type":"SETTLED","deal_id":"d","actor_id":"a","timestamp":"t","payload":'
                       '{%s:%s,"z":{"b":[],"a":{}}},"prev_hash":"","amount":1}' % (quoted, quoted))
        yield "A-31", '{"deal_id":%s,"proof_hash":"h","provider_name":"p","verified":true}' % quoted
        yield "A-33", '{"spec_version":"2.0.0","deal_id":%s,"proofs":[{%s:1.0}],"events":[],"merkle_inclusion":null}' % (
            quoted, quoted)
    yield "A-26", '{"deal_id":"deal_0123456789ab","action":"go"}'
    yield "A-26", '{"deal_id":null,"action":7,"params":{}}'
    yield "A-26", '{"deal_id":"d","action":"a","params":{"z":true,"a":false,"m":null,"\\u00e9":[1.0,[],{},"x"],"\\ud83d\\ude00":1}}'
    yield "A-27", ('{"prev_hash":"p","payload":{"\\ufb33":1,"\\ud83d\\ude00":2,"\\u00e9":3,"Z":4,"a":5},"timestamp":"t",'
                   '"actor_id":"a","deal_id":"d","event_type":"T","event_id":"e"}')
    yield "A-28", '{"vertical":null,"sku_id":[],"scope_summary":{"a":"b"},"estimated_price":true,"policy_hash":"","proof_hash":["x"]}'
    yield "A-29", "[]"
    yield "A-29", '[{"b":1,"a":2},{"a":2,"b":1}]'
    amounts = ('"0"', '"-0"', '"96.92"', '"96.920"', '"0.005"', '"0.015"', '"1e3"', '".5"', '"5."', '" 7 "', '"1_000"', "0",
               "0.125", "2.675", "1.005", "100", "true", '"+12.345"', '"99999999999999999999999999.99"', "1e20", "-12.345")
    for index, debit in enumerate(amounts):
        yield "A-32", '{"entry_type":"payout","ref":"r","debit":%s,"credit":%s,"meta":{"deal_id":"d"}}' % (
            debit, amounts[-1 - index])
    metas = ('{}', '{"from":"a","to":"b","counterparty":"c"}', '{"from":"","to":"b"}', '{"from":null,"counterparty":"c"}',
             '{"counterparty":0}', '{"to":0,"counterparty":"c"}', '{"event_id":"e","tx_id":"t"}', '{"event_id":"","tx_id":"t"}',
             '{"event_id":0,"tx_id":false}', '{"currency":null,"deal_id":null}', '{"currency":"JPY","from":{"id":1.0}}')
    for meta in metas:
        yield "A-32", '{"entry_type":"fee","ref":"\\u00dc","debit":"1","credit":"2","meta":%s,"time":"ignored"}' % meta
    yield "A-33", '{"merkle_inclusion":{"leaf_index":0,"proof":[]},"events":[{"b":1,"a":1.0}],"proofs":[],"deal_id":"d","spec_version":"1.0.0"}'
    receipt = ('{"trace_id":"t-1","hop":1,"ts":"2026-01-01T00:00:00Z","cid":"sha256:00","canon":%s,"algo":"sha256",'
               '"prev_receipt_hash":null,"policy":{"engine":"HEL","allowed":true,"reason":"ok"},"tenant":"test"}')
    for canon in ('{"a":1}', "", "\xfc\n"):
        yield "S-43", receipt % json.dumps(canon)


def write(path):
    with open(path, "w", encoding="ascii") as out:
        counts = {}
        for recipe, text in exported():
            counts[recipe] = counts.get(recipe, 0) + 1
            out.write(json.dumps(row("%s-%03d" % (recipe, counts[recipe]), recipe, text)) + "\n")


# --- Random ones --------------------------------------------------------------------------------------------------------

def random_number(chance):
    kind = chance.randrange(4)
    if kind == 0:
        return str(chance.randrange(-10**chance.randrange(1, 40), 10**chance.randrange(1, 40)))
    if kind == 1:
        import struct
        while True:
            value = struct.unpack("<d", chance.getrandbits(64).to_bytes(8, "little"))[0]
            if value == value and abs(value) != float("inf"):
                return repr(value)
    if kind == 2:
        return "%d.%0*d" % (chance.randrange(10**6), chance.randrange(1, 8), chance.randrange(10))
    return "%d%se%s%d" % (chance.randrange(1, 10), chance.choice(("", ".5", ".25")), chance.choice(("", "+", "-")), chance.randrange(25))


def random_text(chance):
    pools = ((0x20, 0x7f), (0, 0x20), (0x7f, 0x250), (0x250, 0xd800), (0xe000, 0xfdd0), (0xfdf0, 0xfffe),
             (0x10000, 0x1fffe), (0x20000, 0x2fffe), (0xe0000, 0xe0200), (0x100000, 0x10fffe))
    made = []
    for _ in range(chance.randrange(6)):
        code = chance.randrange(*chance.choice(pools))
        if code & 0xfffe != 0xfffe:
            made.append(chr(code))
    return "".join(made) + chance.choice(("", "'", '"', "\\"))


def random_json(chance, depth=3):
    kind = chance.randrange(8 if depth else 5)
    if kind == 0:
        return chance.choice(("null", "true", "false"))
    if kind <= 2:
        return random_number(chance)
    if kind <= 4:
        return json.dumps(random_text(chance), ensure_ascii=chance.random() < 0.5)
    items = [random_json(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind <= 6:
        return "[%s]" % ",".join(items)
    return "{%s}" % ",".join("%s:%s" % (json.dumps(str(index) + random_text(chance)), item) for index, item in enumerate(items))


def random_rows(seed, count):
    chance = random.Random(seed)
    names = {
        "A-27": ("event_id", "event_type", "deal_id", "actor_id", "timestamp", "payload", "prev_hash"),
        "A-28": ("vertical", "sku_id", "scope_summary", "estimated_price", "policy_hash", "proof_hash"),
        "A-30": ("deal_id", "proof_hash", "provider", "verified", "confidence"),
        "A-31": ("deal_id", "proof_hash", "provider_name", "verified"),
        "A-33": ("spec_version", "deal_id", "proofs", "events", "merkle_inclusion"),
    }
    for index in range(count):
        recipe = chance.choice(("A-26", "A-27", "A-28", "A-29", "A-30", "A-31", "A-32", "A-33"))
        some = lambda: random_json(chance)
        if recipe == "A-26":
            text = '{"action":%s,"params":{"a":%s,"b":%s},"deal_id":%s}' % (some(), some(), some(), some())
        elif recipe == "A-29":
            text = "[%s,%s]" % (some(), some())
        elif recipe == "A-32":
            amounts = [random_number(chance) if chance.random() < 0.5 else json.dumps(random_number(chance)) for _ in range(2)]
            members = ('"%s":%s' % (name, some()) for name in ("deal_id", "from", "to", "counterparty", "event_id", "tx_id", "currency")
                       if chance.random() < 0.5)
            text = '{"debit":%s,"credit":%s,"entry_type":%s,"ref":%s,"meta":{%s}}' % (*amounts, some(), some(), ",".join(members))
        else:
            text = "{%s}" % ",".join('"%s":%s' % (name, some()) for name in chance.sample(names[recipe], len(names[recipe])))
        try:
            yield row(str(index), recipe, text)
        except (decimal.InvalidOperation, OverflowError):
            yield {"id": str(index), "recipe": recipe, "input": text, "hash": None}


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2])
    else:
        for made in random_rows(int(sys.argv[2]), int(sys.argv[3])):
            print(json.dumps(made))
