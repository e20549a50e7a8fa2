"""Records as any Kafka program sees them: the Confluent wire format, and the schemas that the repository ships."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path

import fastavro

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"

REQUESTED = "exchange.requested.v1"
ADMITTED = "exchange.admitted.v1"
REJECTED = "exchange.rejected.v1"
SEALED = "exchange.sealed.v1"
ANSWER = "exchange.answer.v1"
DELIVERED = "exchange.delivered.v1"
USAGE = "usage.recorded.v1"
TOTAL = "usage.total.v1"
COMMAND = "ledger.command.v1"
POSTED = "settlement.posted.v1"
PARKED = "settlement.parked.v1"

STEPS = ("canonicalise", "sign", "meter", "meter.tally", "settle", "forward")
DEAD = {step: f"{step}.dead.v1" for step in STEPS}
#: What each step reads.
INPUT = {"canonicalise": REQUESTED, "sign": ADMITTED, "meter": SEALED, "meter.tally": USAGE, "settle": COMMAND, "forward": SEALED}
#: Topics whose values we read.
READ = (REQUESTED, ADMITTED, REJECTED, SEALED, ANSWER, DELIVERED, USAGE, TOTAL, COMMAND, POSTED, PARKED)
#: Topics whose records are looked at from outside only.
OPAQUE = tuple(DEAD.values()) + tuple(f"{step}.redo.v1" for step in STEPS)


class Unreadable(Exception):
    pass


@dataclass
class Record:
    """A record where it lies. `content` is None where the value is not ours to read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str
    headers: dict
    content: dict | None
    #: Of key, value and headers.
    fingerprint: str = ""

    @property
    def place(self):
        return (self.topic, self.partition, self.offset)

    @property
    def cause(self):
        """(topic of the cause or None for the step's own input, partition, offset, index), or None."""
        text = self.headers.get("cause")
        if text is None:
            return None
        partition, offset, index = (int(part) for part in text.split(":"))
        return (self.headers.get("cause-topic"), partition, offset, index)

    def __str__(self):
        return f"{self.topic}:{self.partition}:{self.offset}"


class Schemas:
    """schemas/ids.json, which says where the schema of each id lies."""

    def __init__(self, folder=SCHEMAS):
        paths = json.loads((folder / "ids.json").read_text())
        self._by_id = {int(number): fastavro.parse_schema(json.loads((folder / path).read_text())) for number, path in paths.items()}
        self._newest = {}
        for number, path in sorted(paths.items(), key=lambda entry: int(entry[0])):
            self._newest[path.rsplit("/", 1)[0]] = int(number)

    def decode(self, value):
        magic, number = struct.unpack(">bI", value[:5])
        if magic != 0 or number not in self._by_id:
            raise Unreadable(f"magic byte {magic}, schema {number}")
        body = io.BytesIO(value[5:])
        record = fastavro.schemaless_reader(body, self._by_id[number], None)
        if body.read():
            raise Unreadable("bytes are left after the record")
        return record

    def encode(self, topic, record):
        number = self._newest[topic]
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._by_id[number], record, strict=True)
        return struct.pack(">bI", 0, number) + body.getvalue()
