"""Answers questions about JSON and evidence with the Python verifier: a request a line in, an answer a line out.

    {"op": "canonical", "text": …} or {"op": "canonical", "base64": …}
    {"op": "exchange_id", "tenant": …, "idempotency_key": …}
    {"op": "verify", "text": …, "keys": "<JWKS text>", "payloads": […], "trust_embedded_keys": …}

`answer.mjs` does the same with the verifier in JavaScript. With `--pure` the arithmetic of Ed25519 is our own, not the library's.
"""

import base64
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

import countersign_verify
from countersign_verify import ed25519


def answer(request):
    if request["op"] == "canonical":
        return canonical(base64.b64decode(request["base64"]) if "base64" in request else request["text"].encode("utf-8"))
    if request["op"] == "exchange_id":
        return {"exchange_id": countersign_verify.exchange_id(request["tenant"], request["idempotency_key"])}
    try:
        keys = countersign_verify.parse_jwks(request["keys"].encode("utf-8"))
    except countersign_verify.UnusableKeys:
        return {"verdict": None, "index": None, "check": None, "exit": 2}
    payloads = [None if payload is None else payload.encode("utf-8") for payload in request.get("payloads", [])]
    verdict = countersign_verify.verify(request["text"].encode("utf-8"), keys, payloads, request.get("trust_embedded_keys", False))
    return {"verdict": verdict.verdict, "index": verdict.index, "check": verdict.check, "exit": verdict.exit_code}


def canonical(data):
    try:
        form = countersign_verify.canonical(countersign_verify.parse(data))
    except countersign_verify.Refused as refused:
        return {"accept": False, "code": refused.code, "pointer": refused.pointer}
    return {"accept": True, "canonical": form.decode("utf-8"), "cid": countersign_verify.digest(form)}


def main():
    if "--pure" in sys.argv[1:]:
        ed25519.Ed25519PublicKey = None
    print(json.dumps({"ed25519": ed25519.backend()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
