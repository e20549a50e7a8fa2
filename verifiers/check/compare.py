"""Runs the verifiers over the vectors and over random input, and holds their answers against what is right and against each other.

    python compare.py [--seed N] [--documents N] [--evidence N] [--countersign BINARY]

With --countersign the binary answers the vectors of evidence as well. COUNTERSIGN_TEST_DATA may name a folder of published documents.
"""

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import answerers
from random_documents import Documents, same_value
from random_evidence import Evidence
from vectors import requests

BATCH = 10_000
SHOWN_MAX = 20
PAIR = ("python", "javascript")
PUBLISHED = os.environ.get("COUNTERSIGN_TEST_DATA")


class Report:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, name, holds, told):
        """`told` is called for the details of a failure only."""
        if holds:
            self.passed += 1
            return
        self.failed += 1
        if self.failed <= SHOWN_MAX:
            print(f"FAILED - {name}\n{told()}")


def by_vectors(report):
    wanted = list(requests())
    answers = answerers.ask(answerers.COMMANDS, [request for _, request, _ in wanted])
    for name, given in answers.items():
        for (vector, _, right), answer in zip(wanted, given):
            seen = {member: answer.get(member, "nothing") for member in right}
            report.check(f"{name}: {vector}", seen == right, lambda: f"  wanted {right}\n  got    {seen}")
    for (vector, _, _), *given in zip(wanted, *answers.values()):
        report.check(
            f"all alike: {vector}", all(answer == given[0] for answer in given), lambda: "".join(f"  {answer}\n" for answer in given)
        )
    print(f"ok - {len(wanted)} vectors, {len(answers)} verifiers" if not report.failed else f"{len(wanted)} vectors")


def by_documents(report, seed, count):
    documents = Documents(seed)
    seen = Counter()
    for start in range(0, count, BATCH):
        batch = [documents.next() for _ in range(min(BATCH, count - start))]
        pairs = list(alike(report, "document", [{"op": "canonical", "base64": base64.b64encode(data).decode()} for data in batch]))
        seen.update("accepted" if answer["accept"] else answer["code"] for _, answer in pairs)
        accepted = [(data, answer) for data, (_, answer) in zip(batch, pairs) if answer["accept"]]
        for data, answer in accepted:
            report.check("it reads as the same value", same_value(data, answer["canonical"]), lambda: f"  {data!r}\n  {answer}")
        again = [{"op": "canonical", "text": answer["canonical"]} for _, answer in accepted]
        for (_, before), (_, answer) in zip(accepted, alike(report, "canonical form", again)):
            report.check("the canonical form is its own", answer == before, lambda: f"  {before}\n  {answer}")
    tell("documents", count, seen)


def by_evidence(report, seed, count):
    evidence = Evidence(seed)
    seen = Counter()
    for start in range(0, count, BATCH):
        batch = [evidence.next() for _ in range(min(BATCH, count - start))]
        seen.update(str(answer["verdict"]) for _, answer in alike(report, "evidence", batch))
    tell("pieces of evidence", count, seen)


def alike(report, what, batch):
    """The requests with the answer that both gave; where they differ it is the first one's."""
    answers = answerers.ask(PAIR, batch)
    for request, one, other in zip(batch, *(answers[name] for name in PAIR)):
        report.check(
            f"random {what}: alike", one == other, lambda: f"  {json.dumps(request)[:3000]}\n  {PAIR[0]}: {one}\n  {PAIR[1]}: {other}"
        )
        yield request, one


def tell(what, count, seen):
    print(f"ok - {count} random {what}: {', '.join(f'{number} {name}' for name, number in seen.most_common())}")


def by_published(report, folder):
    """Documents whose canonical form others have computed: real payloads with their cid, and the vectors of RFC 8785's author."""
    wanted = []
    lines = (folder / "payloads.jsonl").read_bytes().split(b"\n")[:-1]
    rows = (folder / "payloads.index.tsv").read_text("utf-8").split("\n")[:-1]
    cid_column = rows[0].split("\t").index("cid")
    for line, row in zip(lines, rows[1:]):
        wanted.append((line, "cid", row.split("\t")[cid_column]))
    assert len(rows) == len(lines) + 1, "a row for each payload, and one for the names"
    for source in sorted((folder / "jcs-author" / "input").glob("*.json")):
        form = (folder / "jcs-author" / "outhex" / f"{source.stem}.txt").read_text("ascii")
        wanted.append((source.read_bytes(), "canonical", bytes.fromhex(form).decode("utf-8")))
    answers = answerers.ask(PAIR, [{"op": "canonical", "base64": base64.b64encode(data).decode()} for data, _, _ in wanted])
    for name, given in answers.items():
        for (data, member, right), answer in zip(wanted, given):
            report.check(
                f"{name}: published", answer.get(member) == right, lambda: f"  {data[:300]!r}\n  wanted {right}\n  got    {answer}"
            )
    print(f"ok - {len(wanted)} published documents" if not report.failed else f"{len(wanted)} published documents")


def by_binary(report, binary):
    """The same vectors through `countersign verify`. A null among payloads has no form on a command line."""
    wanted = [vector for vector in requests() if vector[1]["op"] == "verify" and None not in vector[1].get("payloads", [])]
    with tempfile.TemporaryDirectory() as folder:
        for name, request, right in wanted:
            seen = ask_binary(binary, Path(folder), request)
            report.check(f"countersign: {name}", seen == right, lambda: f"  wanted {right}\n  got    {seen}")
    print(f"{len(wanted)} vectors by {binary}")


def ask_binary(binary, folder, request):
    files = {"document": request["text"], "keys": request["keys"]}
    files.update((f"payload-{place}", payload) for place, payload in enumerate(request.get("payloads", [])))
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    command = [binary, "verify", str(folder / "document"), "--keys", str(folder / "keys"), "--json"]
    command += [word for name in files if name.startswith("payload") for word in ("--payload", str(folder / name))]
    command += ["--trust-embedded-keys"] * request.get("trust_embedded_keys", False)
    ended = subprocess.run(command, capture_output=True)
    # Without a usable key document there is no verdict, only the exit code.
    answer = json.loads(ended.stdout) if ended.stdout else {"verdict": None, "index": None}
    return {"verdict": answer["verdict"], "index": answer["index"], "exit": ended.returncode}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--evidence", type=int, default=4_000)
    parser.add_argument("--countersign")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    report = Report()
    by_vectors(report)
    if PUBLISHED:
        by_published(report, Path(PUBLISHED))
    by_documents(report, options.seed, options.documents)
    by_evidence(report, options.seed, options.evidence)
    if options.countersign:
        by_binary(report, options.countersign)
    print(f"compare: {report.passed} passed, {report.failed} failed")
    sys.exit(1 if report.failed or not report.passed else 0)


main()
