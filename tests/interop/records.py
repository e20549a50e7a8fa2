"""Records as any Kafka program sees them: the Confluent wire format and the schemas that the repository ships."""

import base64
import hashlib
import hmac
import io
import json
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
MAGIC = 0


class Schemas:
    """schemas/ids.json, which says where the schema of each id lies."""

    def __init__(self, folder=SCHEMAS):
        paths = json.loads((folder / "ids.json").read_text())
        self._by_id = {
            int(number): fastavro.parse_schema(json.loads((folder / path).read_text())) for number, path in paths.items()
        }
        self._newest = {}
        for number, path in sorted(paths.items(), key=lambda entry: int(entry[0])):
            self._newest[path.rsplit("/", 1)[0]] = int(number)

    def decode(self, value):
        magic, number = struct.unpack(">bI", value[:5])
        assert magic == MAGIC, f"magic byte {magic}"
        body = io.BytesIO(value[5:])
        record = fastavro.schemaless_reader(body, self._by_id[number])
        assert body.read() == b"", "bytes are left after the record"
        return record

    def encode(self, topic, record):
        number = self._newest[topic]
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._by_id[number], record, strict=True)
        return struct.pack(">bI", MAGIC, number) + body.getvalue()


@dataclass(frozen=True)
class Read:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict
    content: dict | None


class Reader:
    """Reads whole topics with read_committed, without a group's memory: what a billing consumer sees.

    Values of the topics in `opaque` are left as they are."""

    def __init__(self, brokers, schemas, topics, opaque=()):
        self._schemas = schemas
        self._opaque = opaque
        topics = [*topics, *opaque]
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "interop",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.queue.backoff.ms": 10,
            }
        )
        metadata = self._consumer.list_topics(timeout=10).topics
        absent = [topic for topic in topics if topic not in metadata]
        assert not absent, f"no topic {absent}"
        partitions = [(topic, partition) for topic in topics for partition in metadata[topic].partitions]
        self._consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in partitions])
        self._behind = set(partitions)
        self.records = {topic: [] for topic in topics}

    def read_until(self, satisfied, what, seconds=60):
        """Reads until `satisfied(records)` holds and every partition has been read to its last stable offset."""
        deadline = time.monotonic() + seconds
        while True:
            if not self._behind and satisfied(self.records):
                return
            assert time.monotonic() < deadline, f"not seen within {seconds} s: {what}"
            message = self._consumer.poll(0.2)
            if message is None:
                continue
            place = (message.topic(), message.partition())
            if message.error() is None:
                self._behind.add(place)
                self.records[message.topic()].append(self._read(message))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                self._behind.discard(place)
            else:
                raise AssertionError(f"{place}: {message.error()}")

    def _read(self, message):
        opaque = message.topic() in self._opaque
        content = None if opaque else self._schemas.decode(message.value())
        headers = dict(message.headers() or [])
        return Read(message.topic(), message.partition(), message.offset(), message.key(), message.value(), headers, content)

    def settle(self, seconds=3):
        """Goes on reading for a while, for what must not come."""
        until = time.monotonic() + seconds
        self.read_until(lambda _: time.monotonic() >= until, "the end of the topics", seconds + 30)

    def close(self):
        self._consumer.close()


def signature(secret, topic, key, value):
    """`countersign-signature`: an HMAC over topic, record key and value, each after its length."""
    mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)
    for part in (topic.encode(), key, value):
        mac.update(struct.pack(">I", len(part)))
        mac.update(part)
    return "v1," + base64.b64encode(mac.digest()).decode()


class ForeignProducer:
    """A tenant's own producer. Like Java's client it takes murmur2 for the partition."""

    def __init__(self, brokers):
        self._producer = Producer(
            {"bootstrap.servers": brokers, "enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 1}
        )

    def partitions(self, topic):
        return len(self._producer.list_topics(topic, timeout=10).topics[topic].partitions)

    def send(self, topic, key, value, headers, partition=None):
        """Returns (partition, offset) once the broker has it."""
        outcome = []
        where = {} if partition is None else {"partition": partition}
        self._producer.produce(
            topic,
            key=key,
            value=value,
            headers=headers,
            on_delivery=lambda error, message: outcome.append((error, message)),
            **where,
        )
        assert self._producer.flush(30) == 0, "the broker did not take the record"
        error, message = outcome[0]
        assert error is None, error
        return message.partition(), message.offset()
