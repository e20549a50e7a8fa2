"""The verifiers as programs that answer a batch of requests (`answer.py` says what a request is)."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMANDS = {
    "python": [sys.executable, str(HERE / "answer.py")],
    "python, its own Ed25519": [sys.executable, str(HERE / "answer.py"), "--pure"],
    "javascript": ["node", str(HERE / "answer.mjs")],
}
BACKENDS = {"python": "cryptography", "python, its own Ed25519": "python", "javascript": "webcrypto"}


def ask(names, requests):
    """The answers of the verifiers named, each in the order of the requests. They run side by side."""
    text = "".join(json.dumps(request) + "\n" for request in requests).encode()
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: _answers(name, text, len(requests)), names)))


def _answers(name, text, count):
    ended = subprocess.run(COMMANDS[name], input=text, stdout=subprocess.PIPE)
    # Not splitlines: an answer may hold characters that Python takes for line ends.
    lines = ended.stdout.decode().split("\n")[:-1]
    if ended.returncode != 0 or len(lines) != count + 1:
        raise SystemExit(f"{name} ended with {ended.returncode} after {len(lines) - 1} of {count} answers")
    first, *answers = map(json.loads, lines)
    if first != {"ed25519": BACKENDS[name]}:
        raise SystemExit(f"{name} computes Ed25519 by {first}, not by {BACKENDS[name]}")
    return answers
