"""Random evidence: vectors with something changed. Some is sealed again after the change, so that it is judged beyond its hash."""

import copy
import json
import random
import sys

from vectors import EVIDENCE, VECTORS, named_keys, read

sys.path.insert(0, str(VECTORS / "generator"))

from sealing import bundle, hashed, sealed, signed  # noqa: E402

VALUES = [
    None, True, False, 0, 1, -1, 2, 1.5, 2**53 - 1, "", "0", "1", "acme", "Acme", "trace-1", [], {}, [1], {"a": 1}, "sha256:" + "0" * 64, "ex_" + "0" * 26,
    "2026-11-21T10:00:00.123Z", "2026-11-21T10:00:60.123Z", "9999-12-31T23:59:59.999Z", "RFC8785", {"payload": "a", "target": "b"}, "EUR", "A" * 86,
]  # fmt: skip
PIECES = ['"', ",", "}", "]", "{", "0", "1", ".5", "e9", "\\u0041", "\\ud800", "\ufffe", '"v":1,', "null", " ", "\n", "..", "=", "A", "é"]


class Evidence:
    def __init__(self, seed):
        self._random = random.Random(seed)
        self._vectors = [vector for file in EVIDENCE for vector in read(file)]
        self._readable = [vector for vector in self._vectors if vector["verdict"] != "malformed" and not vector["name"].startswith("door")]

    def next(self):
        """One request to verify."""
        chance = self._random.random()
        if chance < 0.5:
            return self._request(self._random.choice(self._vectors), self._cut)
        if chance < 0.9:
            return self._request(self._random.choice(self._readable), self._changed)
        return {"op": "verify", "text": json.dumps(self._sealed_again()), "keys": named_keys("standing")}

    def _request(self, vector, change):
        request = {"op": "verify", "text": vector["text"], "keys": named_keys(vector["keys"])}
        for name in ("payloads", "trust_embedded_keys"):
            if name in vector:
                request[name] = vector[name]
        what = "keys" if self._random.random() < 0.15 else "text"
        request[what] = change(request[what])
        return request

    def _cut(self, text):
        """Pieces taken out, put in, or copied to another place."""
        for _ in range(self._random.randrange(1, 3)):
            at, end = sorted(self._random.randrange(len(text) + 1) for _ in range(2))
            kind = self._random.random()
            if kind < 0.3:
                text = text[:at] + text[at + self._random.randrange(1, 4) :]
            elif kind < 0.7:
                text = text[:at] + self._random.choice(PIECES) + text[at + self._random.randrange(2) :]
            else:
                text = text[:at] + text[end : end + self._random.randrange(1, 40)] + text[at:]
        return text

    def _changed(self, text):
        """The document with another value somewhere, a member more or less, or items in another order."""
        document = json.loads(text)
        holders = list(containers(document))
        if not holders:
            return text
        holder = self._random.choice(holders)
        places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        kind = self._random.random()
        if kind < 0.15 and places:
            del holder[self._random.choice(places)]
        elif kind < 0.25 and isinstance(holder, list):
            self._random.shuffle(holder)
        elif kind < 0.35 and isinstance(holder, dict):
            holder[self._random.choice(("x", "V", "", "receipts", "keys", "jws", "d", "exp"))] = self._random.choice(VALUES)
        elif places:
            holder[self._random.choice(places)] = copy.deepcopy(self._random.choice(VALUES + [self._another(document)]))
        return json.dumps(document)

    def _another(self, document):
        holder = self._random.choice(list(containers(document)))
        return self._random.choice(list(holder.values() if isinstance(holder, dict) else holder) or [None])

    def _sealed_again(self):
        """A receipt, chain or bundle with one member changed, hashed and signed as if it were right."""
        chain = json.loads(next(vector["text"] for vector in self._vectors if vector["name"] == "ok: three hops"))
        at = self._random.randrange(len(chain))
        chain[at][self._random.choice(list(chain[at]))] = self._random.choice([value for value in VALUES if value != 1.5])
        chain[at] = self._random.choice((sealed, signed, hashed_only))(chain[at])
        kind = self._random.random()
        return chain[at] if kind < 0.5 else chain if kind < 0.8 else bundle(chain)


def hashed_only(receipt):
    return {**hashed(receipt), "jws": receipt.get("jws")}


def containers(value):
    if isinstance(value, (dict, list)) and value:
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)
