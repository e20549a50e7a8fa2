"""The vectors of `schemas/vectors` as requests for `answer.py` and `answer.mjs`, each with the answer that is right."""

import json
from pathlib import Path

VECTORS = Path(__file__).resolve().parent.parent.parent / "schemas" / "vectors"
EVIDENCE = ("receipts.jsonl", "chains.jsonl", "bundles.jsonl")


def read(name):
    with open(VECTORS / name, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def named_keys(keys):
    """A key document is either written in the vector or the name of a file."""
    return (VECTORS / f"{keys}.jwks.json").read_text("utf-8") if isinstance(keys, str) else json.dumps(keys)


def requests():
    """(name, request, wanted); of an answer only the members of `wanted` are compared."""
    for vector in read("json.jsonl"):
        source = {name: vector[name] for name in ("text", "base64") if name in vector}
        wanted = {name: vector[name] for name in ("accept", "canonical", "cid", "code", "pointer") if name in vector}
        yield f"json.jsonl: {vector['name']}", {"op": "canonical", **source}, wanted
    for vector in read("exchange-ids.jsonl"):
        request = {"op": "exchange_id", "tenant": vector["tenant"], "idempotency_key": vector["idempotency_key"]}
        yield f"exchange-ids.jsonl: {vector['exchange_id']}", request, {"exchange_id": vector["exchange_id"]}
    for file in EVIDENCE:
        for vector in read(file):
            request = {"op": "verify", "text": vector["text"], "keys": named_keys(vector["keys"])}
            for name in ("payloads", "trust_embedded_keys"):
                if name in vector:
                    request[name] = vector[name]
            yield f"{file}: {vector['name']}", request, {name: vector[name] for name in ("verdict", "index", "exit")}


if __name__ == "__main__":
    for vector in requests():
        print(json.dumps(vector))
