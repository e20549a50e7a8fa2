"""Evidence from a pipeline that runs: seals a few exchanges, takes their bundle and the keys by HTTP, and has both verifiers check them.

    python pipeline.py COUNTERSIGN_BINARY OUT_DIR

OUT_DIR keeps the bundle, the keys, the receipts and their payloads, for the page to be asked about them too.
"""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from command_lines import run

READY_WITHIN_S = 60
TRACE = "trip-7"
ARGUMENTS = "{'invoice_id': 'INV-2', 'amount': 99.9, 'currency': 'EUR', 'customer_name': 'Café',}"
EXCHANGES = [
    {"payload": {"invoice_id": "INV-1", "total": 12.5, "note": 'é € 😀 \u2028 \\ " \x7f'}},
    {"payload": {"numbers": [0, -0.0, 1e-7, 1e21, 333333333.33333329, 9007199254740991], "": None, "\ufb33": True, "😀": False}},
    {"payload": ["any", {"JSON": "value"}, 2.5]},
    # What a type makes of a payload: repaired, mapped, and under another digest than what was received.
    {
        "payload_type": "openai.tooluse.invoice.v1",
        "payload": {"tool_calls": [{"type": "function", "function": {"name": "create_invoice", "arguments": ARGUMENTS}}]},
    },
]


@contextlib.contextmanager
def pipeline(binary, folder):
    """A pipeline on free ports, with an API key: (URL, key)."""
    command = [binary, "up", "--data", str(folder / "data"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with open(folder / "ready", "wb") as ready, open(folder / "countersign.log", "wb") as log:
        process = subprocess.Popen(command, stdout=ready, stderr=log)
    try:
        url = await_ready(process, folder / "ready")
        made = subprocess.run(
            [binary, "keys", "create", "--tenant", "acme", "--data", str(folder / "data")], capture_output=True, check=True
        )
        yield url, re.search(r"csk_[0-9A-Za-z]{49}", made.stdout.decode()).group()
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_ready(process, file):
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"^ready .*http=(\S+)", file.read_text("utf-8"), re.MULTILINE)
        if found:
            return found.group(1)
        time.sleep(0.05)
    raise SystemExit(f"{process.args[0]} was not ready within {READY_WITHIN_S} s, or ended")


def ask(url, key, path, body=None, idempotency_key=None):
    headers = {"Authorization": f"Bearer {key}"}
    if body is not None:
        headers.update({"Content-Type": "application/json", "Idempotency-Key": idempotency_key})
    request = urllib.request.Request(url + path, data=body and json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read()


def take(url, key, out):
    """Seals the exchanges and writes what the service answers, as `curl` would."""
    for number, exchange in enumerate(EXCHANGES):
        body = {**exchange, "trace_id": TRACE, "amount": {"currency": "USD", "minor": "1250", "payee": "agent-7"}}
        answer = json.loads(ask(url, key, "/v1/exchanges", body, f"order-{number}"))
        (out / f"payload-{number}.json").write_text(json.dumps(answer["normalized"]), "utf-8")
        (out / f"receipt-{number}.json").write_text(json.dumps(answer["receipt"]), "utf-8")
    # The bundle is served from a view, which may be a moment behind the answers.
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        with contextlib.suppress(urllib.error.HTTPError):
            bundle = ask(url, key, f"/v1/traces/{TRACE}/bundle")
            if len(json.loads(bundle)["receipts"]) == len(EXCHANGES):
                break
        if time.monotonic() > deadline:
            raise SystemExit(f"the bundle did not show {len(EXCHANGES)} receipts within {READY_WITHIN_S} s")
        time.sleep(0.1)
    (out / "bundle.json").write_bytes(bundle)
    (out / "jwks.json").write_bytes(ask(url, key, "/.well-known/jwks.json"))


def main():
    binary, out = sys.argv[1], Path(sys.argv[2])
    passed = failed = 0
    with tempfile.TemporaryDirectory() as made, pipeline(binary, Path(made)) as (url, key):
        take(url, key, out)
        payloads = [word for number in range(len(EXCHANGES)) for word in ("--payload", f"payload-{number}.json")]
        cases = [
            (["bundle.json", "--keys", f"{url}/.well-known/jwks.json"], f"bundle.json: ok ({len(EXCHANGES)} receipts, keys given)"),
            (["bundle.json", "--keys", "jwks.json", *payloads], f"bundle.json: ok ({len(EXCHANGES)} receipts, keys given)"),
            (["bundle.json", "--trust-embedded-keys"], f"bundle.json: ok ({len(EXCHANGES)} receipts, keys embedded)"),
            *(
                ([f"receipt-{number}.json", "--keys", "jwks.json", "--payload", f"payload-{number}.json"], f"receipt-{number}.json: ok (1 receipt, keys given)")
                for number in (1, 3)
            ),
        ]
        for name in ("python", "javascript"):
            for arguments, line in cases:
                ended = run(name, arguments, out)
                if (ended.returncode, ended.stdout.decode()) == (0, line + "\n"):
                    passed += 1
                else:
                    failed += 1
                    print(f"FAILED - {name} {' '.join(arguments)}\n  {ended.stdout.decode()}{ended.stderr.decode()}")
    print(f"pipeline: {passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
