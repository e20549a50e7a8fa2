"""What was asked of the pipeline and what it told its clients: the journal of the load, line by line, as plain data.

Everything that the oracle expects follows from this and from the published rules."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field

from . import rules

SEALED = "sealed"
#: How a destination takes a delivery, and whether it is delivered in the end.
DELIVERED_IN_THE_END = {"taken": True, "slow": True, "flaky": True, "gone": False}


@dataclass
class Exchange:
    """One exchange as it must come out. `expect` is `sealed` or the code of its refusal."""

    tenant: str
    key: str
    trace: str | None
    cid: str
    amount: list | None
    delivery: str | None
    url: str | None
    expect: str
    via: str = "http"
    reused: bool = False

    @property
    def id(self):
        return rules.exchange_id(self.tenant, self.key)

    @property
    def trace_id(self):
        return self.trace or self.id

    @property
    def is_sealed(self):
        return self.expect == SEALED

    @property
    def is_charged(self):
        return self.is_sealed and self.amount is not None and self.amount[1] > 0


@dataclass
class Answer:
    """A decision as a client saw it, after `tries` attempts from `sent` to `at`. `role` is what was sent under the key:
    `first`, `again`, `reused` (another body) or `door` (nothing that may enter)."""

    tenant: str
    key: str
    role: str
    expect: str
    status: int
    code: str
    replayed: bool
    body: str
    exchange_id: str
    trace_id: str
    receipt_hash: str
    sent: float
    at: float
    tries: int = 1


@dataclass
class Story:
    exchanges: dict = field(default_factory=dict)
    answers: list = field(default_factory=list)
    #: (tenant, key, role) of requests that never got a decision.
    undecided: list = field(default_factory=list)
    #: Records put straight on the request topic that must become dead letters: key -> reason.
    forged: dict = field(default_factory=dict)
    #: Keys that were only ever used for what may not enter: (tenant, key).
    door_only: set = field(default_factory=set)

    def tell(self, line):
        line = dict(line)
        what = line.pop("what")
        if what == "exchange":
            exchange = Exchange(**line)
            if exchange.id in self.exchanges:
                raise ValueError(f"the load uses a key twice: {exchange.tenant} {exchange.key}")
            self.exchanges[exchange.id] = exchange
        elif what == "reused":
            self.exchanges[rules.exchange_id(line["tenant"], line["key"])].reused = True
        elif what == "answer":
            self.answers.append(Answer(**line))
        elif what == "undecided":
            self.undecided.append((line["tenant"], line["key"], line["role"]))
        elif what == "forged":
            self.forged[line["key"]] = line["reason"]
        elif what == "door_only":
            self.door_only.add((line["tenant"], line["key"]))
        else:
            raise ValueError(f"a line of the journal says {what}")

    @classmethod
    def read(cls, path):
        story = cls()
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                story.tell(json.loads(line))
        return story

    def ids(self, holds):
        return {name for name, exchange in self.exchanges.items() if holds(exchange)}

    def tenants(self):
        return sorted({exchange.tenant for exchange in self.exchanges.values()})


@dataclass
class Call:
    """One call to a receiver. `status` is what it answered, None where it hung up instead."""

    id: str
    path: str
    at: float
    cid: str
    signed: bool
    status: int | None


@dataclass
class Found:
    """What was read of a run when it was over, and meanwhile."""

    #: topic -> records in the order of partition and offset
    records: dict = field(default_factory=lambda: defaultdict(list))
    #: None where the log is not readable by other clients
    transactions: object = None
    jwks: dict = field(default_factory=lambda: {"keys": []})
    #: tenant -> account -> currency -> posted
    accounts: dict = field(default_factory=dict)
    #: tenant -> month -> meter -> (total, exchanges)
    usage: dict = field(default_factory=dict)
    #: exchange_id -> the body of its GET
    views: dict = field(default_factory=dict)
    bundles: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    #: the report of `countersign audit --cut now --json`
    books: dict = field(default_factory=dict)
    #: what the reader that ran all the while saw: [topic, partition, offset, fingerprint, ...], in its order
    watched: list = field(default_factory=list)
    #: what it complained of
    watch_faults: list = field(default_factory=list)
    #: samples of [time, {topic:partition: [last stable offset, end]}]
    stable: list = field(default_factory=list)
    #: faults as they were carried out
    faults: list = field(default_factory=list)
    #: the whole log was read, not only what the public surface shows
    has_log: bool = True
