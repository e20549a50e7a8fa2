#!/usr/bin/env python3
"""Writes first inputs for the targets into a folder of each, from the vectors and golden samples of this repository.

    fuzz/seeds.py [CORPUS]

A fuzzer that begins with whole receipts and records gets behind the first check at once.
"""
import base64
import hashlib
import json
import pathlib
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
VECTORS = REPOSITORY / "schemas" / "vectors"
CORPUS = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent / "corpus"
# In the order of fuzz_targets/avro_records.rs.
RECORDS = [
    "exchange.requested.v1", "exchange.admitted.v1", "exchange.rejected.v1", "exchange.sealed.v1", "exchange.answer.v1",
    "exchange.delivered.v1", "usage.recorded.v1", "usage.total.v1", "ledger.command.v1", "settlement.posted.v1",
    "settlement.parked.v1", "audit.checkpoint.v1", "signing_key.v1", "tenant.config.v1", "canonicalise.state.v1",
    "sign.state.v1", "relay.position.v1", "forward.state.v1",
    "meter.tally.state.v1",
]


def write(target, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def documents():
    for name in ("receipts", "chains", "bundles"):
        for vector in lines(VECTORS / f"{name}.jsonl"):
            write("documents", vector["text"].encode())
    write("documents", (VECTORS / "standing.jwks.json").read_bytes())
    for vector in lines(VECTORS / "json.jsonl"):
        text = base64.b64decode(vector["base64"]) if "base64" in vector else vector["text"].encode()
        write("json_door", text)
        write("documents", text)


def records():
    for which, topic in enumerate(RECORDS):
        for golden in sorted((REPOSITORY / "schemas" / topic).glob("*.golden.hex")):
            for line in golden.read_text("utf-8").split():
                framed = bytes.fromhex(line)
                write("avro_records", bytes([which]) + framed[5:])
                write("avro_records", framed)


def requests():
    exchange = {
        "payload_type": "passthrough", "payload": {"order": "1001", "total": 12.5}, "target_type": "passthrough",
        "trace_id": "trace-1", "expected_prev_receipt_hash": "sha256:" + "0" * 64,
        "amount": {"currency": "USD", "minor": "1250", "payee": "agent-7"}, "forward_url": "https://hooks.example.com/in?a=b",
    }
    head = b"Idempotency-Key: order-1001\r\nContent-Type: application/json; charset=utf-8\r\nPrefer: wait=3, respond-async\r\n\r\n"
    write("http_request", head + json.dumps(exchange).encode())
    write("http_request", head + json.dumps({"payload": [1, None, "x"], "expected_prev_receipt_hash": None}).encode())
    write("http_request", head + json.dumps([{"idempotency_key": "k1", "exchange": exchange}, {"exchange": {"payload": 1}}]).encode())
    write("http_request", base64.urlsafe_b64encode(b'["17","ex_1"]').rstrip(b"="))
    write("headers", "\n".join([
        "msg_1", "1767225600", "{}", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whpk_" + "A" * 43 + "=",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "https://bücher.example:8443/a%20b?c#d", "*.example",
        "3:n1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ]).encode())


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def frame(key, value, headers):
    part = lambda text: b"\0" if text is None else varint(len(text) + 1) + text
    body = part(key) + part(value) + varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name + varint(len(content)) + content
    return len(body).to_bytes(4, "little") + body


def stores():
    frames = [frame(b"k", b"value", [(b"a", b"1")]), frame(None, b"", []), frame(b"k", None, [(b"a", b""), (b"b", b"22")])]
    head = lambda flags: bytes([1, flags]) + (3).to_bytes(4, "little") + (7).to_bytes(8, "little") + (9).to_bytes(8, "little")
    deltas = b"".join(delta.to_bytes(4, "little") for delta in (0, 4, 9))
    write("store_format", b"\2" + head(0) + b"".join(frames))
    write("store_format", b"\2" + head(1) + deltas + b"".join(frames))
    topic = (1).to_bytes(4, "big") + (4).to_bytes(4, "big") + b"\1\1" + (86_400_000).to_bytes(8, "big")
    write("store_format", b"\1" + b"ttopic.v1" + topic)
    item = b"\2" + bytes(10) + (1).to_bytes(2, "little") + (5).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"kvalue"
    batch = b"\1" + bytes(12) + item + b"\3" + bytes(12)
    write("store_format", b"\0" + batch * 2)
    write("store_format", b"\0" + batch + b"\4" + bytes(8) + batch[:-3])


documents()
records()
requests()
stores()
