"""The reader that runs all the while: every topic with read_committed, as a billing consumer reads, and beside it the last stable
offset and the end of every partition, about once a second.

A process of its own: `python -m chaos.watch BROKERS FOLDER`. It goes on until its stdin ends, and then until it has read what is
committed by then."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from pathlib import Path

from .wire import OPAQUE, READ

SAMPLE_EVERY_S = 1.0
#: After stdin has ended: everything must be read within this.
LAST_S = 120.0


def headers_of(message):
    return {name: value.decode(errors="replace") if value is not None else "" for name, value in message.headers() or []}


def fingerprint(message):
    hashed = hashlib.sha256()
    for part in (message.key(), message.value(), *(item for header in message.headers() or [] for item in header)):
        data = b"" if part is None else part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(4, "big") + data)
    return hashed.hexdigest()[:24]


def consumer(brokers):
    """Reads committed records from where it is told, and remembers nothing."""
    from confluent_kafka import Consumer

    return Consumer(
        {
            "bootstrap.servers": brokers, "group.id": "chaos-oracle", "isolation.level": "read_committed", "enable.auto.commit": False,
            "enable.partition.eof": True, "auto.offset.reset": "error", "fetch.queue.backoff.ms": 10, "log_level": 2,
        }
    )  # fmt: skip


def partitions(reader, topics, patience_s=60.0):
    """(topic, partition) of everything, once all topics are there."""
    deadline = time.monotonic() + patience_s
    while True:
        known = reader.list_topics(timeout=30).topics
        absent = [topic for topic in topics if topic not in known or not known[topic].partitions]
        if not absent:
            return [(topic, partition) for topic in topics for partition in sorted(known[topic].partitions)]
        if time.monotonic() > deadline:
            raise TimeoutError(f"no topics {absent}")
        time.sleep(0.2)


class Stable(threading.Thread):
    """Samples the last stable offset and the end of every partition; at last until every partition has been seen once more."""

    def __init__(self, brokers, places, path):
        super().__init__(name="stable", daemon=True)
        self._brokers, self._places, self._path, self.over = brokers, places, path, threading.Event()

    def run(self):
        from confluent_kafka import IsolationLevel
        from confluent_kafka.admin import AdminClient

        admin, deadline = None, None
        with open(self._path, "a", encoding="utf-8") as out:
            while True:
                is_last = self.over.wait(SAMPLE_EVERY_S)
                deadline = deadline or (time.monotonic() + LAST_S if is_last else None)
                # A client that has missed an election keeps asking the old leader: a new one asks everybody.
                admin = admin or AdminClient({"bootstrap.servers": self._brokers, "log_level": 2})
                # The stable offset first: then what it has not reached yet is not taken for more than there was.
                stable = self._offsets(admin, IsolationLevel.READ_COMMITTED)
                ends = self._offsets(admin, IsolationLevel.READ_UNCOMMITTED)
                sample = {place: [stable[place], ends[place]] for place in stable.keys() & ends.keys()}
                out.write(json.dumps([time.time(), sample]) + "\n")
                out.flush()
                if len(sample) < len(self._places):
                    admin = None
                elif is_last:
                    return
                if deadline is not None and time.monotonic() > deadline:
                    return

    def _offsets(self, admin, isolation):
        from confluent_kafka import KafkaException, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        wanted = {TopicPartition(topic, partition): OffsetSpec.latest() for topic, partition in self._places}
        found = {}
        try:
            asked = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=5)
        except KafkaException:
            return found
        for place, future in asked.items():
            try:
                offset = future.result().offset
            except KafkaException:
                continue  # Its leader is away; a later sample shows it again.
            if offset >= 0:
                found[f"{place.topic}:{place.partition}"] = offset
        return found


def main():
    from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

    brokers, folder = sys.argv[1], Path(sys.argv[2])
    reader = consumer(brokers)
    places = partitions(reader, [*READ, *OPAQUE])
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in places])
    stable = Stable(brokers, places, folder / "stable.jsonl")
    stable.start()
    asked_to_end = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), asked_to_end.set()), daemon=True).start()
    print("ready", flush=True)

    behind, deadline = set(places), None
    with open(folder / "seen.jsonl", "a", encoding="utf-8") as out, open(folder / "watch-faults.jsonl", "a", encoding="utf-8") as faults:
        while True:
            if asked_to_end.is_set():
                if deadline is None:
                    deadline, behind = time.monotonic() + LAST_S, set(places)
                    # An end that was reached before says nothing now: each partition tells again.
                    at = reader.position([TopicPartition(*place) for place in places])
                    for one in at:
                        one.offset = one.offset if one.offset >= 0 else OFFSET_BEGINNING
                    reader.assign(at)
                if not behind:
                    break
                if time.monotonic() > deadline:
                    faults.write(json.dumps(f"the reader did not come to the end of {sorted(behind)}") + "\n")
                    break
            message = reader.poll(0.2)
            if message is None:
                continue
            place = (message.topic(), message.partition())
            if message.error() is not None:
                if message.error().code() == KafkaError._PARTITION_EOF:
                    behind.discard(place)
                elif message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                    faults.write(json.dumps(f"the reader's place in {place} is gone: {message.error()}") + "\n")
                continue
            headers = headers_of(message)
            line = [*place, message.offset(), fingerprint(message), time.time(), message.timestamp()[1], headers.get("cause")]
            out.write(json.dumps(line) + "\n")
    reader.close()
    stable.over.set()
    stable.join()


if __name__ == "__main__":
    main()
