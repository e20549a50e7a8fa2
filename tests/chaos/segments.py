"""Which transaction a record belongs to, read from the brokers' own files.

A consumer is not told. The files say it without a doubt:

- each record batch names its producer id; a control batch of that producer in the same partition ends its transaction there;
- `__transaction_state` says of every transaction when it was prepared and when its completion was written down, in which partitions
  it took part, and under which transactional id. The markers of a transaction are written between those two moments, and a producer
  id has one transaction at a time, so a marker's time names its transaction. All brokers of a run share one clock. (The time inside
  the entry of a completion is of no use: it is taken before the markers are sent. That of its batch is taken after.)
"""

from __future__ import annotations

import bisect
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

BATCH = struct.Struct(">qiibIhiqqqhii")
IS_TRANSACTIONAL, IS_CONTROL, COMPRESSION = 0x10, 0x20, 0x07
ABORT, COMMIT = 0, 1
PREPARE_COMMIT, PREPARE_ABORT, COMPLETE_COMMIT, COMPLETE_ABORT = 2, 3, 4, 5
STATE_TOPIC = "__transaction_state"
OFFSETS_TOPIC = "__consumer_offsets"
NO_PRODUCER = -1


@dataclass(frozen=True)
class Batch:
    first: int
    last: int
    timestamp: int
    producer: int
    epoch: int
    attributes: int
    body: bytes
    count: int

    @property
    def is_transactional(self):
        return bool(self.attributes & IS_TRANSACTIONAL)

    @property
    def is_control(self):
        return bool(self.attributes & IS_CONTROL)

    def records(self):
        """Key and value of each record of a batch that is not compressed."""
        if self.attributes & COMPRESSION:
            raise ValueError("a compressed batch is not read")
        reader = Reader(self.body)
        for _ in range(self.count):
            reader.varint()  # its length
            reader.take(1)  # attributes
            reader.varint()  # time
            reader.varint()  # offset
            yield reader.sized(reader.varint()), reader.sized(reader.varint())
            for _ in range(reader.varint()):
                reader.sized(reader.varint())
                reader.sized(reader.varint())


class Reader:
    """Kafka's primitive types."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        taken = self.data[self.at : self.at + count]
        if len(taken) != count:
            raise ValueError("the data end too early")
        self.at += count
        return taken

    def sized(self, count):
        return None if count < 0 else self.take(count)

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def unsigned(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7

    def varint(self):
        value = self.unsigned()
        return (value >> 1) ^ -(value & 1)

    def tags(self):
        for _ in range(self.unsigned()):
            self.unsigned()
            self.take(self.unsigned())


def batches(data):
    """The batches of a segment; a torn last one is passed over."""
    at = 0
    while at + BATCH.size <= len(data):
        (first, length, _, magic, _, attributes, delta, _, newest, producer, epoch, _, count) = BATCH.unpack_from(data, at)
        end = at + 12 + length
        if length <= 0 or end > len(data):
            return
        if magic != 2:
            raise ValueError(f"a batch of format {magic}")
        yield Batch(first, first + delta, newest, producer, epoch, attributes, data[at + BATCH.size : end], count)
        at = end


def read_folder(folder):
    """The batches of a partition's folder, in order."""
    found = []
    for segment in sorted(Path(folder).glob("*.log")):
        found.extend(batches(segment.read_bytes()))
    return found


def read_brokers(data_folders, wanted):
    """(topic, partition) -> batches of the copy that reaches furthest, for the topics that `wanted` takes."""
    best = {}
    for data in data_folders:
        for folder in Path(data).iterdir():
            topic, dash, number = folder.name.rpartition("-")
            if not (folder.is_dir() and dash and number.isdigit() and wanted(topic)):
                continue
            found = read_folder(folder)
            place = (topic, int(number))
            if place not in best or (found[-1].last if found else -1) > (best[place][-1].last if best[place] else -1):
                best[place] = found
    return best


# --- __transaction_state ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """One entry: what a transactional id was at, at a moment."""

    transactional_id: str
    producer: int
    status: int
    partitions: frozenset
    #: when it was decided, and when the entry was written
    updated: int
    written: int
    timeout_ms: int


def state_of(key, value, written):
    """Reads a record of `__transaction_state`, written at that time; None for a tombstone."""
    if value is None:
        return None
    name = Reader(key)
    name.number(">h")
    transactional_id = name.take(name.number(">h")).decode()
    body = Reader(value)
    is_compact = body.number(">h") >= 1
    producer, _, timeout, status = body.number(">q"), body.number(">h"), body.number(">i"), body.number(">b")
    partitions = set()
    for _ in range(body.unsigned() - 1 if is_compact else body.number(">i")):
        topic = body.take(body.unsigned() - 1 if is_compact else body.number(">h")).decode()
        for _ in range(body.unsigned() - 1 if is_compact else body.number(">i")):
            partitions.add((topic, body.number(">i")))
        if is_compact:
            body.tags()
    updated = body.number(">q")
    return State(transactional_id, producer, status, frozenset(partitions), updated, written, timeout)


@dataclass
class Transaction:
    """One transaction of one transactional id, from its preparation to its completion."""

    transactional_id: str
    producer: int
    number: int
    is_committed: bool
    partitions: frozenset
    prepared: int
    completed: int | None = None

    def __str__(self):
        return f"{self.transactional_id}#{self.number}"

    def __hash__(self):
        return hash((self.transactional_id, self.producer, self.number))

    @property
    def step(self):
        return self.transactional_id.rsplit("-", 2)[0]


def transactions(states):
    """Transactions by producer id, in order, from the entries of one id in the order of the log."""
    found = defaultdict(list)
    for state in states:
        known = found[state.producer]
        if state.status in (PREPARE_COMMIT, PREPARE_ABORT):
            # A coordinator that takes over may write its preparation again.
            if known and known[-1].completed is None and known[-1].prepared == state.updated:
                continue
            is_committed = state.status == PREPARE_COMMIT
            known.append(
                Transaction(state.transactional_id, state.producer, len(known), is_committed, state.partitions, state.updated)
            )
        elif state.status in (COMPLETE_COMMIT, COMPLETE_ABORT) and known and known[-1].completed is None:
            known[-1].completed = state.written
    return found


# --- Where each record belongs --------------------------------------------------------------------------------------------------------


@dataclass
class Ranges:
    """Of one partition: offsets and what they belong to."""

    firsts: list = field(default_factory=list)
    spans: list = field(default_factory=list)

    def add(self, first, last, owner):
        self.firsts.append(first)
        self.spans.append((last, owner))

    def of(self, offset):
        at = bisect.bisect_right(self.firsts, offset) - 1
        if at < 0 or offset > self.spans[at][0]:
            return None
        return self.spans[at][1]


OUTSIDE = "outside any transaction"


@dataclass
class Ledger:
    """Which transaction each record of a partition is in."""

    by_producer: dict
    ranges: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)
    timeout_ms: int = 0

    def of(self, topic, partition, offset):
        """A `Transaction`, `OUTSIDE`, or None where the files hold no such record."""
        ranges = self.ranges.get((topic, partition))
        return None if ranges is None else ranges.of(offset)

    def all(self):
        return [one for known in self.by_producer.values() for one in known]


def marker_of(batch):
    key, _ = next(batch.records())
    return struct.unpack(">hh", key[:4])[1]


def ledger(partitions):
    """`partitions`: (topic, partition) -> batches, `__transaction_state` among them."""
    states, timeout = [], 0
    for (topic, _), found in sorted(partitions.items()):
        if topic != STATE_TOPIC:
            continue
        for batch in found:
            if batch.is_control:
                continue
            for key, value in batch.records():
                state = state_of(key, value, batch.timestamp)
                if state is not None:
                    states.append(state)
                    timeout = max(timeout, state.timeout_ms)
    made = Ledger(dict(transactions(states)), timeout_ms=timeout)
    for place, found in partitions.items():
        if place[0] != STATE_TOPIC:
            made.ranges[place] = _ranges(place, found, made)
    return made


def _ranges(place, found, made):
    """Attributes the batches of one partition: what a producer wrote belongs to the transaction that its next marker ends."""
    ranges, open_batches, owners = Ranges(), defaultdict(list), {}
    for batch in found:
        if batch.is_control:
            waiting = open_batches.pop(batch.producer, [])
            if not waiting:
                continue  # An empty share, or a marker that a new coordinator wrote again.
            owner = _ended_by(place, batch, made)
            for one in waiting:
                owners[one.first] = owner
        elif batch.is_transactional:
            open_batches[batch.producer].append(batch)
    for batch in found:
        if batch.is_control:
            continue
        owner = owners.get(batch.first) if batch.is_transactional else OUTSIDE
        ranges.add(batch.first, batch.last, owner)
    return ranges


def _ended_by(place, marker, made):
    """The transaction of that producer whose ending covers the marker's time."""
    known = made.by_producer.get(marker.producer, [])
    at = bisect.bisect_right([one.prepared for one in known], marker.timestamp) - 1
    kind = marker_of(marker)
    # Within one millisecond the next may be prepared already: then the one before it is the one that took part.
    for one in known[max(at - 1, 0) : at + 1][::-1]:
        in_time = one.prepared <= marker.timestamp and (one.completed is None or marker.timestamp <= one.completed)
        if in_time and place in one.partitions and one.is_committed == (kind == COMMIT):
            return one
    made.faults.append(
        f"{place[0]}:{place[1]}:{marker.first}: a {'commit' if kind == COMMIT else 'abort'} marker of producer {marker.producer} "
        f"at {marker.timestamp} that no transaction in {STATE_TOPIC} explains"
    )
    return None
