"""The command lines of the verifiers: the same options, output and exit codes for both, as a person or a script meets them."""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from vectors import VECTORS, read

HERE = Path(__file__).resolve().parent
COMMANDS = {
    "python": [sys.executable, "-m", "countersign_verify"],
    "javascript": ["node", str(HERE.parent / "js" / "cli.js")],
}
TEXTS = {f"{file}: {vector['name']}": vector["text"] for file in ("receipts", "chains", "bundles") for vector in read(f"{file}.jsonl")}
RECEIPT = TEXTS["receipts: ok: hop 1"]
CHAIN = json.loads(TEXTS["chains: ok: three hops"])
BUNDLE = TEXTS["bundles: ok: three hops, the bundle signed by a key of its own"]
BROKEN = TEXTS["bundles: receipt 1: hash, nothing else sealed anew"]
PAYLOAD = '{"currency":"EUR","amount":"12.50","invoice_id":"INV-1"}'


def write_files(folder):
    lines = [json.dumps(receipt) for receipt in CHAIN]
    files = {
        "receipt.json": RECEIPT,
        "bundle.json": BUNDLE,
        "broken.json": BROKEN,
        "lines.jsonl": "\n".join(lines) + "\n",
        "lines-crlf.jsonl": "\r\n".join(lines) + "\r\n\r\n",
        "lines-repeated-name.jsonl": lines[0] + '\n{"v":1,"v":1}\n',
        "lines-no-json.jsonl": lines[0] + "\nhello\n",
        "lines-of-one-and-a-half.jsonl": lines[0] + "\n" + lines[1][:-1] + "\n",
        "no-json.txt": "hello",
        "bell.json": '{"\\u0007\\u001b[2J":1}',
        "keys.json": (VECTORS / "standing.jwks.json").read_text("utf-8"),
        "no-keys.json": '{"keys":{}}',
        "payload.json": PAYLOAD,
        "other.json": "{}",
        "folder/a.json": RECEIPT,
        "folder/b.json": BUNDLE,
        "folder/c.txt": "not read",
        "folder-with-broken/a.json": BROKEN,
        "folder-with-broken/b.json": "hello",
        "empty/c.txt": "not read",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode())


def ok(receipts, trusted="given"):
    return {"verdict": "ok", "index": None, "check": None, "receipts": receipts, "trusted": trusted}


def failed(verdict, index, check, receipts, trusted="given"):
    return {"verdict": verdict, "index": index, "check": check, "receipts": receipts, "trusted": trusted}


def cases(url):
    """(arguments, stdin, exit code, what --json answers); `detail` is each verifier's own."""
    keys = ["--keys", "keys.json"]
    mismatch = failed("hash_mismatch", 1, "receipt_hash", 3)
    yield ["receipt.json", *keys], None, 0, [ok(1)]
    yield ["bundle.json", *keys], None, 0, [ok(3)]
    yield ["broken.json", *keys], None, 1, [mismatch]
    yield ["-", *keys], BUNDLE, 0, [ok(3)]
    yield ["-", *keys], "", 2, [failed("malformed", None, "syntax", 0)]
    yield ["lines.jsonl", *keys], None, 0, [ok(3)]
    yield ["lines-crlf.jsonl", *keys], None, 0, [ok(3)]
    yield ["lines-repeated-name.jsonl", *keys], None, 1, [failed("malformed", 1, "door", 0)]
    yield ["lines-no-json.jsonl", *keys], None, 2, [failed("malformed", 1, "syntax", 0)]
    yield ["lines-of-one-and-a-half.jsonl", *keys], None, 2, [failed("malformed", 1, "syntax", 0)]
    yield ["no-json.txt", *keys], None, 2, [failed("malformed", None, "syntax", 0)]
    yield ["bundle.json", "--trust-embedded-keys"], None, 0, [ok(3, "embedded")]
    yield ["bundle.json", "--trust-embedded-keys", *keys], None, 0, [ok(3, "given+embedded")]
    yield ["bundle.json"], None, 1, [failed("unknown_key", 0, "signature", 3)]
    yield ["receipt.json", "--trust-embedded-keys"], None, 1, [failed("unknown_key", 0, "signature", 1)]
    yield ["receipt.json", "bundle.json", *keys], None, 0, [{"file": "receipt.json", **ok(1)}, {"file": "bundle.json", **ok(3)}]
    yield ["receipt.json", "broken.json", *keys], None, 1, [{"file": "receipt.json", **ok(1)}, {"file": "broken.json", **mismatch}]
    yield ["no-such.json", "receipt.json", *keys], None, 2, [{"file": "receipt.json", **ok(1)}]
    yield ["folder", *keys], None, 0, [{"file": "folder/a.json", **ok(1)}, {"file": "folder/b.json", **ok(3)}]
    broken = [
        {"file": "folder-with-broken/a.json", **mismatch},
        {"file": "folder-with-broken/b.json", **failed("malformed", None, "syntax", 0)},
    ]
    yield ["folder-with-broken", *keys], None, 2, broken
    yield ["empty", *keys], None, 2, []
    yield ["receipt.json", *keys, "--payload", "payload.json"], None, 0, [ok(1)]
    yield ["receipt.json", *keys, "--payload", "other.json"], None, 1, [failed("cid_mismatch", 0, "payload", 1)]
    yield ["bundle.json", *keys, "--payload", "payload.json", "--payload", "other.json"], None, 1, [failed("cid_mismatch", 1, "payload", 3)]
    yield ["receipt.json", *keys, "--payload", "payload.json", "--payload", "other.json"], None, 2, []
    yield ["receipt.json", *keys, "--payload", "no-such.json"], None, 2, []
    yield ["receipt.json", "--keys", f"{url}/keys.json"], None, 0, [ok(1)]
    yield ["receipt.json", "--keys", f"{url}/no-such.json"], None, 2, []
    yield ["receipt.json", "--keys", "http://127.0.0.1:1/keys.json"], None, 2, []
    yield ["receipt.json", "--keys", "no-such.json"], None, 2, []
    yield ["receipt.json", "--keys", "no-keys.json"], None, 2, []
    yield ["receipt.json", "--no-such-option"], None, 2, []
    yield [], None, 2, []


def told():
    """(arguments, exit code, the line for people) without --json."""
    yield ["bundle.json", "--keys", "keys.json"], 0, "bundle.json: ok (3 receipts, keys given)"
    yield ["receipt.json", "--keys", "keys.json"], 0, "receipt.json: ok (1 receipt, keys given)"
    line = (
        "broken.json: hash_mismatch, receipt 1, check receipt_hash: receipt_hash is not the digest of the receipt (3 receipts, keys given)"
    )
    yield ["broken.json", "--keys", "keys.json"], 1, line


@contextlib.contextmanager
def served(folder):
    """The folder by HTTP, on a free port of this machine."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def run(name, arguments, folder, stdin=None):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*COMMANDS[name], *arguments]
    return subprocess.run(command, cwd=folder, input=(stdin or "").encode(), capture_output=True, env=environment)


def main():
    passed, faults = 0, []

    def check(what, wanted, got):
        nonlocal passed
        if wanted == got:
            passed += 1
        else:
            faults.append(f"FAILED - {what}\n  wanted {wanted}\n  got    {got}")

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_files(folder)
        with served(folder) as url:
            for name in COMMANDS:
                for arguments, stdin, code, answers in cases(url):
                    ended = run(name, [*arguments, "--json"], folder, stdin)
                    seen = [json.loads(line) for line in ended.stdout.decode().split("\n")[:-1]]
                    details = [answer.pop("detail", "absent") for answer in seen]
                    what = f"{name} {' '.join(arguments)}"
                    check(what, (code, answers), (ended.returncode, seen))
                    check(
                        f"{what}: a detail where it is not ok",
                        [answer["verdict"] == "ok" for answer in seen],
                        [detail is None for detail in details],
                    )
                    # Who gets no answer is told why; who gets one is not bothered, but for the hint on missing keys.
                    silent = len(answers) > 0 and "--keys" in arguments and "no-such.json" not in arguments
                    if silent or not answers:
                        check(f"{what}: stderr", silent, ended.stderr == b"")
                    check(f"{what}: no traceback", False, b"Traceback" in ended.stderr or b"    at " in ended.stderr)
                for arguments, code, line in told():
                    ended = run(name, arguments, folder)
                    check(f"{name} {' '.join(arguments)}", (code, line + "\n"), (ended.returncode, ended.stdout.decode()))
                ended = run(name, ["bell.json", "--keys", "keys.json"], folder)
                check(
                    f"{name}: a document does not drive the terminal",
                    (1, False),
                    (ended.returncode, b"\x07" in ended.stdout or b"\x1b" in ended.stdout),
                )
    print("\n".join(faults) + "\n" * bool(faults), end="")
    print(f"command lines: {passed} passed, {len(faults)} failed")
    sys.exit(1 if faults or not passed else 0)


if __name__ == "__main__":
    main()
