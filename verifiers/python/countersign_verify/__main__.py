"""`python -m countersign_verify`: the same interface, output and exit codes as `countersign verify`."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from .keys import UnusableKeys, parse_jwks
from .verify import Verdict, verify

JWKS_BYTES_MAX = 1 << 20
FETCH_TIMEOUT_S = 10


class Unusable(Exception):
    """What the user named cannot be read; the message says what it is."""


def main() -> int:
    options = _options()
    try:
        keys = parse_jwks(_fetch_or_read(options.keys)) if options.keys else {}
        payloads = [_read(name) for name in options.payload]
        files = [file for name in options.files for file in _files(name)]
    except UnusableKeys as unusable:
        return _complain(f"{options.keys} holds no usable keys: {unusable}")
    except Unusable as unusable:
        return _complain(str(unusable))
    if not options.keys and not options.trust_embedded_keys:
        print("no keys are trusted: name them with --keys, for instance --keys https://HOST/.well-known/jwks.json", file=sys.stderr)
    worst = 0
    for file in files:
        try:
            verdict = verify(_read(file), keys, payloads, options.trust_embedded_keys)
        except Unusable as unusable:
            worst = max(worst, _complain(str(unusable)))
            continue
        if len(payloads) > max(verdict.receipts, 1):
            return _complain(f"{len(payloads)} payloads for the {verdict.receipts} receipts of {file}: one would stay unchecked")
        print(_as_json(file, verdict, len(files) > 1) if options.json else _as_text(file, verdict))
        worst = max(worst, verdict.exit_code)
    return worst


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="countersign_verify", description="Verifies receipts, chains and bundles offline.")
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="receipts, chains (arrays, or a receipt a line) and bundles; a directory: every *.json in it; `-`: stdin",
    )
    parser.add_argument(
        "--keys", metavar="FILE|URL", help="the keys that are trusted: a JWKS file, or the URL of one (/.well-known/jwks.json)"
    )
    parser.add_argument(
        "--trust-embedded-keys",
        action="store_true",
        help="trust the keys that a bundle carries itself: this shows that it is whole, not who made it",
    )
    parser.add_argument(
        "--payload",
        metavar="FILE",
        action="append",
        default=[],
        help="the normalised payload of the receipt; again for each receipt of a chain, in their order",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a document")
    return parser.parse_args()


def _complain(sentence: str) -> int:
    print(f"countersign_verify: {sentence}", file=sys.stderr)
    return 2


def _files(name: str) -> list:
    if name != "-" and Path(name).is_dir():
        found = sorted(str(path) for path in Path(name).glob("*.json"))
        if not found:
            raise Unusable(f"{name} holds no *.json")
        return found
    return [name]


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Unusable(f"{name} cannot be read: {error.strerror}") from None


def _fetch_or_read(name: str) -> bytes:
    if not name.startswith(("http://", "https://")):
        return _read(name)
    try:
        with urllib.request.urlopen(name, timeout=FETCH_TIMEOUT_S) as response:
            data = response.read(JWKS_BYTES_MAX + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Unusable(f"{name} cannot be fetched: {error}") from None
    if len(data) > JWKS_BYTES_MAX:
        raise Unusable(f"{name} is longer than a key document")
    return data


def _as_json(file: str, verdict: Verdict, with_file: bool) -> str:
    answer = {"file": file} if with_file else {}
    answer.update(verdict._asdict())
    return json.dumps(answer, separators=(",", ":"))


def _as_text(file: str, verdict: Verdict) -> str:
    where = "" if verdict.index is None else f", receipt {verdict.index}"
    why = "" if verdict.verdict == "ok" else f"{where}, check {verdict.check}: {verdict.detail}"
    count = f"{verdict.receipts} receipt{'' if verdict.receipts == 1 else 's'}"
    line = f"{file}: {verdict.verdict}{why} ({count}, keys {verdict.trusted})"
    # A document may name its members as it likes; it may not drive the reader's terminal.
    return "".join(sign if sign.isascii() and sign.isprintable() else f"\\u{{{ord(sign):x}}}" for sign in line)


def console() -> None:
    sys.exit(main())


if __name__ == "__main__":
    console()
