"""What the JSON door lets in, with its canonical form, and what it refuses, with the code and the pointer (docs/contracts/receipt.md).

Canonical forms are written out here, not computed. The number table is in two columns: a spelling, and what ECMAScript writes.
"""

import base64

from sealing import digest

NUMBERS = [
    ("0", "0"), ("-0", "0"), ("0.0", "0"), ("-0.0", "0"), ("0e999", "0"), ("-0E-999", "0"), ("0.000e5", "0"),
    ("1", "1"), ("-1", "-1"), ("1.0", "1"), ("1e0", "1"), ("1E+2", "100"), ("100e-2", "1"), ("0.1e1", "1"), ("10.00", "10"),
    ("1.5", "1.5"), ("-1.5", "-1.5"), ("0.5", "0.5"), ("5e-1", "0.5"), ("0.1", "0.1"), ("0.30000000000000004", "0.30000000000000004"),
    ("4.35", "4.35"), ("4.349999999999999999999999999", "4.35"), ("0.000001", "0.000001"), ("0.0000001", "1e-7"), ("1.5e-7", "1.5e-7"),
    ("123456789.123", "123456789.123"), ("123e-9", "1.23e-7"), ("1e-6", "0.000001"), ("12e-7", "0.0000012"), ("-1e-7", "-1e-7"),
    ("9007199254740991", "9007199254740991"), ("-9007199254740991", "-9007199254740991"), ("9007199254740991.0", "9007199254740991"),
    ("9.007199254740991e15", "9007199254740991"), ("900719925474099.1e1", "9007199254740991"), ("9007199254740990.6", "9007199254740991"),
    ("2251799813685249.5", "2251799813685249.5"), ("4503599627370497.5", "4503599627370498"), ("4503599627370496.4", "4503599627370496"), ("333333333.33333329", "333333333.3333333"),
    ("1e21", "1e+21"), ("1.0e21", "1e+21"), ("-1E21", "-1e+21"), ("1e+30", "1e+30"), ("1E30", "1e+30"), ("123456789e22", "1.23456789e+30"),
    ("1e23", "1e+23"), ("9.999999999999999e22", "1e+23"), ("9.999999999999997e22", "9.999999999999997e+22"), ("1e22", "1e+22"), ("2.5e25", "2.5e+25"),
    ("999999999999999999999.5", "1e+21"), ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ("1.7976931348623158e308", "1.7976931348623157e+308"), ("-1.7976931348623157E+308", "-1.7976931348623157e+308"),
    ("17976931348623157e292", "1.7976931348623157e+308"), ("5e-324", "5e-324"), ("4.9406564584124654e-324", "5e-324"),
    ("3e-324", "5e-324"), ("-5e-324", "-5e-324"), ("2.2250738585072014e-308", "2.2250738585072014e-308"),
    ("2.2250738585072011e-308", "2.225073858507201e-308"), ("2.225073858507201e-308", "2.225073858507201e-308"),
    ("4.4501477170144023e-308", "4.4501477170144023e-308"), ("1e-323", "1e-323"), ("9007199254740993e10", "9.007199254740994e+25"),
    ("2e-3", "0.002"), ("1.2345678901234567", "1.2345678901234567"), ("1.23456789012345678", "1.2345678901234567"),
    ("0.1000000000000000055511151231257827021181583404541015625", "0.1"), ("6.02214076e23", "6.02214076e+23"),
    ("6.62607015e-34", "6.62607015e-34"), ("1.7800590868057611e-307", "1.7800590868057611e-307"), ("2.98023223876953125e-8", "2.9802322387695312e-8"),
]  # fmt: skip

NO_NUMBERS = [
    "+1", "01", "-01", "00", "1.", ".5", "-.5", "-", "1e", "1e+", "1.e5", "0x10", "0b1", "1_000", "NaN", "Infinity", "-Infinity", "1,5",
    "--1", "1e5.5", "١", "1f", "1 2",
]  # fmt: skip

UNSAFE = {
    "the first integer that is not safe": "9007199254740992",
    "an integer that a double cannot hold": "9007199254740993",
    "the same below zero": "-9007199254740992",
    "twenty-one nines": "999999999999999999999",
    "2^63 - 1": "9223372036854775807",
    "2^64": "18446744073709551616",
    "written with an exponent, canonically an integer": "1e20",
    "written with a fraction, canonically an integer": "9007199254740992.0",
    "a fraction that rounds up to an unsafe integer": "9007199254740991.5",
    "the largest double whose canonical form has no exponent": "999999999999999900000.0",
    "1e21 written out: an integer as written, though its canonical form has an exponent": "1" + "0" * 21,
    "three hundred digits": "1" * 300,
}

STRINGS = [
    ("short escapes", r'"\b\f\n\r\t\"\\\/"', r'"\b\f\n\r\t\"\\/"'),
    ("the same as \\u escapes", r'"\u0008\u000c\u000A\u000d\u0009\u0022\u005C\u002f"', r'"\b\f\n\r\t\"\\/"'),
    ("control characters keep a lower-case \\u escape", r'"\u0000\u001F\u000B\u000e"', '"\\u0000\\u001f\\u000b\\u000e"'),
    ("DEL and C1 are written as they are", r'"\u007f\u0080\u009f"', '"\x7f\x80\x9f"'),
    ("escaped letters become letters", r'"\u0041\u00e9\u20AC"', '"Aé€"'),
    ("line separators are not escaped", r'"\u2028\u2029"', '"\u2028\u2029"'),
    ("a surrogate pair becomes its character", r'"\uD83D\uDE00"', '"😀"'),
    ("the last character of plane 16 that is one", r'"\uDBFF\uDFFD"', '"\U0010fffd"'),
    ("characters next to noncharacters", '"\ufdcf\ufdf0\ufffd\U0001fffd\U00020000"', '"\ufdcf\ufdf0\ufffd\U0001fffd\U00020000"'),
    ("a byte order mark inside a string is a character", '"\ufeffa"', '"\ufeffa"'),
    ("private use, all planes", '"\ue000\U000f0000\U00100000"', '"\ue000\U000f0000\U00100000"'),
    ("no Unicode normalisation: composed", '"\u00c5"', '"\u00c5"'),
    ("no Unicode normalisation: decomposed", '"A\u030a"', '"A\u030a"'),
    ("white space inside a string stays", '"  a\u00a0 "', '"  a\u00a0 "'),
    ("a backslash before a backslash is no escape of what follows", r'"\\u0041"', r'"\\u0041"'),
    ("the empty string", '""', '""'),
]

STRUCTURES = [
    ("null", "null", "null"), ("true", " true ", "true"), ("false", "\r\n\tfalse", "false"),
    ("an empty object", "{ }", "{}"), ("an empty array", "[\n]", "[]"), ("an empty name", '{"":1}', '{"":1}'),
    ("members are sorted", '{"b":1,"a":2,"":3,"aa":4,"A":5}', '{"":3,"A":5,"a":2,"aa":4,"b":1}'),
    ("array items keep their order", "[3,1,2,[],{}]", "[3,1,2,[],{}]"),
    ("names that look like numbers sort as text", '{"10":1,"9":2,"1":3}', '{"1":3,"10":1,"9":2}'),
    ("names sort by UTF-16 code units, not by code points", '{"\ufb33":1,"\U0001f600":2,"\u20ac":3,"\\r":4,"\u00f6":5,"1":6,"\u0080":7}',
     '{"\\r":4,"1":6,"\u0080":7,"\u00f6":5,"\u20ac":3,"\U0001f600":2,"\ufb33":1}'),
    ("names of several planes", '{"\uffee":1,"\U00010000":2,"\U0010fffd":3,"\ud7ff":4,"\ue000":5}',
     '{"\ud7ff":4,"\U00010000":2,"\U0010fffd":3,"\ue000":5,"\uffee":1}'),
    ("sorting looks at the unescaped name", r'{"\u0062":1,"a":2,"\u0000":3}', '{"\\u0000":3,"a":2,"b":1}'),
    ("prototype names are plain names", '{"toString":1,"constructor":2,"__proto__":3,"hasOwnProperty":4}',
     '{"__proto__":3,"constructor":2,"hasOwnProperty":4,"toString":1}'),
    ("a prototype with members is a plain object", '{"__proto__":{"b":1,"a":2}}', '{"__proto__":{"a":2,"b":1}}'),
    ("the same name in two objects is no duplicate", '{"a":{"a":1},"b":{"a":1}}', '{"a":{"a":1},"b":{"a":1}}'),
    ("names that differ in case only", '{"a":1,"A":2}', '{"A":2,"a":1}'),
    ("names that differ in Unicode normalisation only", '{"\u00e9":1,"e\u0301":2}', '{"e\u0301":2,"\u00e9":1}'),
    ("white space of all four kinds", ' \t\r\n[ \t\r\n1 \t\r\n, \t\r\n2 \t\r\n] \t\r\n', "[1,2]"),
    ("what is named in a comment of JavaScript is text here", '"// /* */"', '"// /* */"'),
]  # fmt: skip

DUPLICATES = [
    ("a repeated name", '{"a":1,"a":1}', "/a"),
    ("a repeated name that hides another value", '{"amount":"1.00","x":0,"amount":"9.00"}', "/amount"),
    ("a repeated name behind an escape", r'{"amount":1,"\u0061mount":2}', "/amount"),
    ("an escaped slash in a repeated name", r'{"a/b":1,"a\/b":2}', "/a~1b"),
    ("a tilde in a repeated name", '{"~":1,"~":2}', "/~0"),
    ("a repeated name inside an array", '[0,{"a":{"b":1,"c":2,"b":1}}]', "/1/a/b"),
    ("a repeated empty name", '{"":1,"":2}', "/"),
    ("a repeated name outside the first plane", '{"😀":1,"\\ud83d\\ude00":2}', "/😀"),
    ("__proto__ twice", '{"__proto__":1,"__proto__":2}', "/__proto__"),
    ("repeated, far apart", '{"a":1,' + "".join(f'"n{n}":0,' for n in range(100)) + '"a":2}', "/a"),
    ("null and value", '{"a":null,"a":1}', "/a"),
]

SURROGATES = [
    ("a high surrogate at the end", r'"\ud800"', ""), ("a low surrogate alone", r'{"a":"\udc00"}', "/a"),
    ("two high surrogates", r'["\ud83d\ud83d"]', "/0"), ("a pair the wrong way round", r'"\ude00\ud83d"', ""),
    ("a high surrogate before a letter", r'"\ud83dx"', ""), ("a high surrogate before another escape", r'"\ud83d\n"', ""),
    ("a high surrogate before an escaped letter", r'"\ud83d\u0041"', ""), ("in a name: the pointer is the object's", r'{"x":{"\ud800":1}}', "/x"),
    ("a high surrogate before an escaped backslash", r'"\udbff\\udfff"', ""),
]  # fmt: skip

NONCHARACTERS = [
    ("U+FFFE escaped", r'"\ufffe"', ""), ("U+FFFF escaped", r'["a","\uffff"]', "/1"), ("U+FFFF as bytes", '"\uffff"', ""),
    ("U+FDD0 as bytes", '{"a":"\ufdd0"}', "/a"), ("U+FDEF escaped", r'"\ufdef"', ""), ("U+1FFFE as bytes", '"\U0001fffe"', ""),
    ("U+10FFFF as a pair", r'"\udbff\udfff"', ""), ("U+5FFFF as bytes", '"\U0005ffff"', ""),
    ("in a name: the pointer is the object's", '{"a":[{"\ufffe":1}]}', "/a/0"),
]  # fmt: skip

NO_JSON = {
    "nothing": b"",
    "white space only": b" \n",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-16 without a mark": "[1]".encode("utf-16-le"),
    "a trailing comma in an array": b"[1,]",
    "a trailing comma in an object": b'{"a":1,}',
    "a leading comma": b"[,1]",
    "two values": b"1 2",
    "two objects": b"{}{}",
    "a closed array that is not open": b"[]]",
    "an array that is not closed": b"[1",
    "an object that is not closed": b'{"a":1',
    "a string that is not closed": b'"abc',
    "a name without quotes": b"{a:1}",
    "a name that is a number": b"{1:1}",
    "a name without value": b'{"a"}',
    "a name without colon": b'{"a" 1}',
    "single quotes": b"{'a':1}",
    "a comment": b"[1/*2*/]",
    "a line comment": b"1 // one",
    "a capital literal": b"True",
    "a literal cut short": b"tru",
    "a literal that goes on": b"nulls",
    "undefined": b"undefined",
    "mismatched brackets": b'{"a":[1}]',
    "an unknown escape": b'"\\x41"',
    "an escape of a quote that JSON does not know": b'"\\\'"',
    "\\u with three digits": b'"\\u041"',
    "\\u with a sign": b'"\\u+041"',
    "\\u with a space": b'"\\u 041"',
    "\\u with an upper-case U": b'"\\U0041"',
    "\\u{…}": b'"\\u{41}"',
    "a raw line end in a string": b'"a\nb"',
    "a raw tab in a string": b'"a\tb"',
    "a raw NUL in a string": b'"a\x00b"',
    "a raw unit separator in a name": b'{"a\x1f":1}',
    "NUL after the value": b"{}\x00",
    "a no-break space between tokens": b"[1,\xc2\xa02]",
    "a form feed between tokens": b"[1,\x0c2]",
    "a line separator between tokens": "[1,\u20282]".encode(),
    "a byte that is no UTF-8": b'"\xff"',
    "a continuation byte alone": b'"\x80"',
    "a sequence cut short": b'"\xe2\x82"',
    "an overlong slash": b'"\xc0\xaf"',
    "an overlong NUL": b'"\xc0\x80"',
    "an overlong three-byte form": b'"\xe0\x80\xaf"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "a surrogate pair in UTF-8 (CESU-8)": b'"\xed\xa0\xbd\xed\xb8\x80"',
    "beyond U+10FFFF": b'"\xf4\x90\x80\x80"',
    "Latin-1": '"é"'.encode("latin-1"),
}


def accepted(name, text, canonical):
    return {"name": name, **document(text), "accept": True, "canonical": canonical, "cid": digest(canonical.encode())}


def refused(name, text, code, pointer=None):
    made = {"name": name, **document(text), "accept": False, "code": code}
    return made if pointer is None else {**made, "pointer": pointer}


def document(text):
    """`text` where JSON can hold it, otherwise the bytes."""
    if isinstance(text, bytes):
        return {"base64": base64.b64encode(text).decode()}
    return {"text": text}


def nested(depth):
    return "[" * depth + "]" * depth


def json_vectors():
    yield from (accepted(f"number {spelling}", f"[{spelling}]", f"[{form}]") for spelling, form in NUMBERS)
    yield from (refused(f"no number: {text}", f"[{text}]", "malformed_json") for text in NO_NUMBERS if text != "1,5")
    yield from (refused(f"unsafe integer: {why}", f'{{"n":[0,{text}]}}', "unsafe_integer", "/n/1") for why, text in UNSAFE.items())
    for text in ("1e309", "1e400", "-1e400", "1.7976931348623159e308", "1" * 310, "0.1e1000000000000", "1e99999999999999999999"):
        yield refused(f"overflow: {text[:24]}", f'{{"a":{text}}}', "number_overflow", "/a")
    for text in ("1e-400", "-1e-400", "2e-324", "2.4703282292062327e-324", "1e-99999999999999999999", "0." + "0" * 400 + "1"):
        yield refused(f"underflow: {text[:24]}", f'{{"a":{text}}}', "number_underflow", "/a")
    yield from (accepted(f"string: {why}", text, form) for why, text, form in STRINGS)
    yield from (accepted(f"structure: {why}", text, form) for why, text, form in STRUCTURES)
    yield from (refused(f"duplicate: {why}", text, "duplicate_name", pointer) for why, text, pointer in DUPLICATES)
    yield from (refused(f"surrogate: {why}", text, "lone_surrogate", pointer) for why, text, pointer in SURROGATES)
    yield from (refused(f"noncharacter: {why}", text, "noncharacter", pointer) for why, text, pointer in NONCHARACTERS)
    yield from (refused(f"no JSON: {why}", data, "malformed_json") for why, data in NO_JSON.items())
    yield accepted("depth: 64 containers", nested(64), nested(64))
    yield refused("depth: 65 containers", nested(65), "too_deep", "/0" * 64)
    yield refused("depth: 65 containers, the last an object", "[" * 64 + "{}" + "]" * 64, "too_deep", "/0" * 64)
    objects = '{"a":' * 64 + "1" + "}" * 64
    yield accepted("depth: 64 objects", objects, objects)
    yield refused("depth: 65 objects", '{"a":' * 65 + "1" + "}" * 65, "too_deep", "/a" * 64)
    yield refused("depth: ten thousand", nested(10_000), "too_deep", "/0" * 64)
