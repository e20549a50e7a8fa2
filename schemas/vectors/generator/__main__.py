"""Writes the vectors beside this folder, or with --check says whether they are what would be written.

    python3 schemas/vectors/generator [--check]

It shares no code with any verifier, and needs nothing but Python 3.9: it signs by hand (`curve.py`), with keys that are for these
vectors only.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from bundle_cases import bundle_vectors
from chain_cases import chain_vectors
from json_cases import accepted, json_vectors
from receipt_cases import receipt_vectors
from sealing import BUNDLES, MAIN, NEXT
from worked_example import PAYLOADS, exchange_id_vectors, worked_example

VERDICTS = (
    "ok", "malformed", "unknown_member", "missing_member", "hash_mismatch", "bad_signature", "unknown_key", "key_expired", "cid_mismatch",
    "wrong_trace", "wrong_tenant", "wrong_chain", "hop_gap", "broken_link", "time_reversed",
)  # fmt: skip
HERE = Path(__file__).resolve().parent.parent


def finished(vectors):
    """Fills in what is not said: the exit code follows from the verdict."""
    for vector in vectors:
        vector.setdefault("exit", 0 if vector["verdict"] == "ok" else 1)
        yield vector


def lines(vectors):
    vectors = list(vectors)
    names = Counter(vector.get("name", str(vector)) for vector in vectors)
    twice = [name for name, count in names.items() if count > 1]
    assert not twice, f"two vectors have one name: {twice}"
    return "".join(json.dumps(vector, separators=(",", ":"), ensure_ascii=True) + "\n" for vector in vectors)


def files():
    receipts, chains, bundles = (list(finished(make())) for make in (receipt_vectors, chain_vectors, bundle_vectors))
    count = Counter(vector["verdict"] for vector in receipts + chains + bundles)
    rare = [verdict for verdict in VERDICTS if count[verdict] < 2]
    assert not rare, f"less than two vectors for {rare}"
    assert not set(count) - set(VERDICTS) - {None}
    worked = (accepted(f"the worked example's payload {place}", *payload) for place, payload in enumerate(PAYLOADS, 1))
    standing = {"keys": [MAIN.jwk(), NEXT.jwk(), BUNDLES.jwk()]}
    return {
        "json.jsonl": lines([*json_vectors(), *worked]),
        "exchange-ids.jsonl": lines(exchange_id_vectors()),
        "receipts.jsonl": lines(receipts),
        "chains.jsonl": lines(chains),
        "bundles.jsonl": lines(bundles),
        "standing.jwks.json": json.dumps(standing, indent=1) + "\n",
        "worked-example.json": json.dumps(worked_example(), indent=1) + "\n",
    }


def main():
    made = files()
    if sys.argv[1:] == ["--check"]:
        stale = [name for name, text in made.items() if not (HERE / name).exists() or (HERE / name).read_text("utf-8") != text]
        if stale:
            sys.exit(f"not what the generator writes: {', '.join(stale)}; run it without --check and look at the difference")
        print(f"ok - {len(made)} files are what the generator writes")
    elif not sys.argv[1:]:
        for name, text in made.items():
            (HERE / name).write_text(text, "utf-8")
            print(f"{name}: {text.count(chr(10))} lines")
    else:
        sys.exit(__doc__)


main()
