"""What is sent, and the clients that send it: each request is repeated with its key until it is decided.

What number n sends follows from the seed and n alone; how many there are is a question of time. Everything is written to the
journal before it is sent, and each decision when it comes."""

from __future__ import annotations

import hashlib
import heapq
import http.client
import json
import random
import threading
import time
import traceback
from dataclasses import dataclass, field

from . import rules
from .wire import REQUESTED, Schemas

#: The hot one sends half of everything; the bulk one pays enough for the discounts.
TENANTS = ("alpha", "beta", "gamma", "hot", "bulk", "rare")
WEIGHTS = (12, 12, 12, 50, 13, 1)
PAYEES = ("agent-1", "agent-2", "Agent.3", "relay_4", "z")
CITIES = ("Łódź", "東京", "Reykjavík", "São Paulo", "Accra 🌍", "Cœur d'Alene")
HOT_TRACES = 6
CHAIN_HOPS = 4
#: What all tenants but the bulk one pay at most.
SMALL = 60
ANSWER_TIMEOUT_S = 20.0
PAUSE_S = (0.05, 1.0)
#: A repetition, or another body, comes so much later.
LATER_S = (0.2, 15.0)
HEAD = "{head}"

MALFORMED = (
    (b'{"payload":', "malformed_json"),
    (b'{"payload":{"a":1,"a":2}}', "not_i_json"),
    (b'{"payload":{"n":9007199254740993}}', "not_i_json"),
    (b'{"payload":{"s":"\\ud800"}}', "not_i_json"),
    (b'{"payload":1,"amuont":{}}', "invalid_request"),
    (b'{"payload":1,"amount":{"currency":"USD","minor":"-1","payee":"z"}}', "invalid_request"),
    (b'{"payload":1,"payload_type":"nobody.knows.v9"}', "unknown_payload_type"),
    (b'{"payload":' + b"[" * 70 + b"]" * 70 + b"}", "payload_too_deep"),
    (b"\xff\xfe", "malformed_json"),
)


@dataclass
class Request:
    """One body under one key, repeated until it is decided."""

    tenant: str
    key: str
    body: bytes
    role: str
    expect: str
    headers: dict = field(default_factory=dict)


@dataclass
class Script:
    """Phases one after the other; the requests of a phase go at the same time. `journal` is written first."""

    journal: list
    phases: list
    is_chain: bool = False
    #: Records for the request topic: (record key, value, headers, partition or None)
    foreign: list = field(default_factory=list)


@dataclass
class Draft:
    payload: dict
    trace: str | None = None
    amount: list | None = None
    url: str | None = None
    #: JSON of `expected_prev_receipt_hash`
    head: str | None = None

    def body(self, chance):
        """The same request with members in another order and white space elsewhere each time."""
        payload = list(self.payload.items())
        chance.shuffle(payload)
        members = [("payload", dict(payload))]
        if self.trace is not None:
            members.append(("trace_id", self.trace))
        if self.amount is not None:
            currency, minor, payee = self.amount
            members.append(("amount", {"currency": currency, "minor": str(minor), "payee": payee}))
        if self.url is not None:
            members.append(("forward_url", self.url))
        if self.head is not None:
            members.append(("expected_prev_receipt_hash", None if self.head == "null" else self.head))
        chance.shuffle(members)
        separators = chance.choice([(",", ":"), (", ", ": "), (" ,\n", " : ")])
        return json.dumps(dict(members), ensure_ascii=chance.random() < 0.5, separators=separators).encode()

    def journal(self, tenant, key, expect, delivery=None, via="http"):
        cid = rules.digest(rules.canonical(self.payload))
        return {
            "what": "exchange", "tenant": tenant, "key": key, "trace": self.trace, "cid": cid, "amount": self.amount,
            "delivery": delivery, "url": self.url, "expect": expect, "via": via,
        }  # fmt: skip


@dataclass(frozen=True)
class Producer:
    id: str
    secret: str


class Maker:
    """Makes script n. `urls`: kind of destination -> URL; `producers`: tenant -> Producer, where records may be written directly."""

    def __init__(self, seed, urls, producers=None, partitions=0):
        self.seed, self.urls, self.producers, self.partitions = seed, urls, producers or {}, partitions
        self._schemas = Schemas() if self.producers else None

    def make(self, number):
        chance = random.Random(f"countersign chaos load {self.seed} {number}")
        kind = chance.random()
        if kind < 0.02:
            return self._chain(chance, number)
        if kind < 0.06 and self.producers:
            return self._foreign(chance, number)
        return self._single(chance, number)

    def _payload(self, chance, number):
        payload = {
            "order": number,
            "city": chance.choice(CITIES),
            "rate": chance.choice([0.1, 12.50, 1e-7, 333333333.3333333, 1e21, -0.0, 4.0]),
            "lines": [{"sku": f"S-{chance.randrange(900)}", "q": chance.randrange(50)} for _ in range(chance.randrange(4))],
            "note": "x" * chance.randrange(200),
        }
        if chance.random() < 0.3:
            payload[chance.choice(["é", "דּ", "😀", "€", "\u0007"])] = chance.choice([None, True, [], {}, "\u2028"])
        return payload

    def _amount(self, chance, tenant):
        kind = chance.random()
        if kind < 0.75:
            return None
        if kind < 0.77:
            return ["EUR", 1 + chance.randrange(500), PAYEES[0]]
        limit = 400_000 if tenant == "bulk" else SMALL
        minor = chance.choice([0, 1, 27, 28, 29, 30]) if chance.random() < 0.2 else 1 + chance.randrange(limit)
        return ["USD", minor, chance.choice(PAYEES)]

    def _trace(self, chance, number):
        kind = chance.random()
        if kind < 0.3:
            return None
        return f"hot-{chance.randrange(HOT_TRACES)}" if kind < 0.65 else f"cold:{number // 40}.{chance.randrange(20)}"

    def _draft(self, chance, number, tenant):
        return Draft(self._payload(chance, number), self._trace(chance, number), self._amount(chance, tenant))

    def _single(self, chance, number):
        tenant = chance.choices(TENANTS, WEIGHTS)[0]
        key = f"order/{number}#{chance.randrange(1 << 20):x}"
        draft, delivery, expect = self._draft(chance, number, tenant), None, "sealed"
        kind = chance.random()
        if kind < 0.04:
            delivery = chance.choices(["taken", "slow", "flaky", "gone"], [6, 2, 3, 1])[0]
            draft.url = f"{self.urls[delivery]}/{delivery}"
        elif kind < 0.045:
            draft.url, expect = "https://elsewhere.example/in", "destination_denied"

        def request(one, role="first", wanted=expect, **headers):
            return Request(tenant, key, one.body(chance), role, wanted, headers)

        journal, phases = [draft.journal(tenant, key, expect, delivery)], []
        if chance.random() < 0.03:
            body, code = chance.choice(MALFORMED)
            if chance.random() < 0.5:
                phases.append([Request(tenant, key, body, "door", code)])
            else:
                other = f"door/{number}"
                journal.append({"what": "door_only", "tenant": tenant, "key": other})
                phases.append([Request(tenant, other, body, "door", code)])
        first = [request(draft)]
        if chance.random() < 0.03:
            first[0].headers["Prefer"] = "respond-async"
        while chance.random() < 0.04:
            first.append(request(draft, "again"))
        phases.append(first)
        if chance.random() < 0.04:
            # The trace of whoever came first holds.
            other = Draft(draft.payload, "another-trace", draft.amount, draft.url)
            phases.append([request(other, "again")])
        if chance.random() < 0.02:
            other = Draft({**draft.payload, "more": 1}, draft.trace, draft.amount, draft.url)
            journal.append({"what": "reused", "tenant": tenant, "key": key})
            phases.append([request(other, "reused", "idempotency_key_reused")])
        return Script(journal, phases)

    def _chain(self, chance, number):
        """A caller who names the head each time, and is behind at the end."""
        tenant, trace = chance.choices(TENANTS, WEIGHTS)[0], f"chain.{number}"
        journal, phases = [], []
        for hop in range(CHAIN_HOPS + 1):
            behind = hop == CHAIN_HOPS
            key = f"{trace}/{hop}"
            amount = None if behind else self._amount(chance, tenant)
            head = "null" if hop == 0 or behind else HEAD
            draft = Draft(self._payload(chance, number), trace, amount, None, head)
            expect = "chain_conflict" if behind else "sealed"
            journal.append(draft.journal(tenant, key, expect))
            phases.append([Request(tenant, key, draft.body(chance), "first", expect)])
        return Script(journal, phases, is_chain=True)

    def _foreign(self, chance, number):
        """A tenant's own producer: in its place, in every place, or with a signature that proves nothing."""
        tenant = chance.choice(sorted(self.producers))
        draft, key = self._draft(chance, number, tenant), f"foreign/{number}"
        record_key = f"{tenant}:{key}"
        amount = draft.amount and {"currency": draft.amount[0], "minor": draft.amount[1], "payee": draft.amount[2]}
        value = self._schemas.encode(
            REQUESTED,
            {
                "tenant": tenant, "idempotency_key": key, "payload": json.dumps(draft.payload).encode(),
                "payload_type": "passthrough", "target_type": None, "trace_id": draft.trace, "expected_prev_receipt_hash": None,
                "amount": amount, "forward_url": None,
            },
        )  # fmt: skip
        producer = self.producers[tenant]

        def signed(value, secret=producer.secret, name=producer.id):
            proof = rules.producer_signature(secret, REQUESTED, record_key.encode(), value)
            return [("countersign-key-id", name.encode()), ("countersign-signature", proof.encode())]

        kind = chance.random()
        if kind < 0.65:
            where = [None]
        elif kind < 0.8:
            where = list(range(self.partitions))
        else:
            forged = chance.choice(["unsigned", "wrong-secret", "unknown-producer", "changed", "unknown_schema"])
            record_headers = {
                "unsigned": [],
                "wrong-secret": signed(value, secret="csp_" + "0" * 43),
                "unknown-producer": signed(value, name="producer-0000000000000000"),
                "changed": signed(value + b"\0"),
            }
            reason = "unauthenticated"
            if forged == "unknown_schema":
                reason, value = "unknown_schema", b"\0\0\0\x03\xe7" + value[5:]
                record_headers[forged] = signed(value)
            journal = [{"what": "forged", "key": record_key, "reason": reason}]
            return Script(journal, [], foreign=[(record_key, value, record_headers[forged], None)])
        journal = [draft.journal(tenant, key, "sealed", via="kafka")]
        return Script(journal, [], foreign=[(record_key, value, signed(value), partition) for partition in where])


# --- Clients --------------------------------------------------------------------------------------------------------------------------


class Journal:
    def __init__(self, path):
        self._file, self._lock = open(path, "a", encoding="utf-8"), threading.Lock()

    def write(self, lines):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with self._lock:
            self._file.write(text)
            self._file.flush()

    def close(self):
        with self._lock:
            self._file.close()


class Client:
    """One connection at a time, as one thread uses it."""

    def __init__(self, port, api_keys):
        self._port, self._api_keys, self._connection = port, api_keys, None

    def send(self, request):
        """(status, replayed, body), or None where the outcome is unknown."""
        headers = {
            "Authorization": f"Bearer {self._api_keys[request.tenant]}",
            "Content-Type": "application/json",
            "Idempotency-Key": request.key,
            **request.headers,
        }
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_TIMEOUT_S)
            self._connection.request("POST", "/v1/exchanges", request.body, headers)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        if response.will_close:
            self.close()
        return response.status, response.getheader("idempotent-replayed") == "true", body

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def is_unknown(status):
    return status == 202 or status in (408, 429) or status >= 500


class Load:
    """Threads that send scripts at a rate, until told to stop taking new ones; then until all is decided."""

    def __init__(self, maker, journal, port, api_keys, rate, threads, foreign=None):
        self.maker, self.journal, self.port, self.api_keys = maker, journal, port, api_keys
        self.rate, self.foreign = rate, foreign
        self._lock = threading.Condition()
        self._next, self._later, self._busy = 0, [], 0
        self._taking, self._patience = True, None
        self._began = time.monotonic()
        self.sent = self.decided = 0
        #: Defects of the load itself.
        self.troubles = []
        self._threads = [threading.Thread(target=self._work, name=f"client {n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def finish(self, patience_s):
        """Takes no more; waits until everything is decided, or for so long."""
        with self._lock:
            self._taking, self._patience = False, time.monotonic() + patience_s
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()
        self.journal.close()

    def _take(self):
        """The next script or rest of one; None when there is nothing more."""
        with self._lock:
            while True:
                now = time.monotonic()
                if self._later and (self._later[0][0] <= now or not self._taking):
                    self._busy += 1
                    return heapq.heappop(self._later)[2]
                due = self._began + self._next / self.rate
                if self._taking and due <= now:
                    number = self._next
                    self._next += 1
                    self._busy += 1
                    # A client that was held up does not make up for it: the rate is a rate.
                    self._began = max(self._began, now - (self._next + 2 * self.rate) / self.rate)
                    return number
                if not self._taking and not self._later and not self._busy:
                    self._lock.notify_all()
                    return None
                waits = [1.0]
                if self._taking:
                    waits.append(due - now)
                if self._later:
                    waits.append(self._later[0][0] - now)
                self._lock.wait(max(0.001, min(waits)))

    def _work(self):
        client = Client(self.port, self.api_keys)
        chance = random.Random()
        while True:
            taken = self._take()
            if taken is None:
                client.close()
                return
            try:
                script = self.maker.make(taken) if isinstance(taken, int) else taken
                if isinstance(taken, int):
                    self.journal.write(script.journal)
                self._advance(script, client, chance)
            except Exception:
                self.troubles.append(f"a client failed: {traceback.format_exc()}")
            finally:
                with self._lock:
                    self._busy -= 1
                    self._lock.notify()

    def _advance(self, script, client, chance):
        """One phase, or all of a chain; the rest comes later."""
        if script.foreign:
            self.foreign.send(script.foreign)
            return
        head = None
        while script.phases:
            phase = script.phases.pop(0)
            others = []
            for request in phase[1:]:
                other = threading.Thread(target=self._decide_alone, args=(request,), daemon=True)
                other.start()
                others.append(other)
            request = phase[0]
            if head is not None:
                request.body = request.body.replace(HEAD.encode(), head.encode())
            head = self._decide(request, client, chance)
            for other in others:
                other.join()
            if not script.is_chain and script.phases:
                due = time.monotonic() + chance.uniform(*LATER_S)
                with self._lock:
                    heapq.heappush(self._later, (due, id(script), script))
                    self._lock.notify()
                return
            if script.is_chain and head is None and script.phases:
                # Its end was not reached; the rest would have other answers than the journal expects.
                for rest in script.phases:
                    self._give_up(rest[0])
                return

    def _decide_alone(self, request):
        client = Client(self.port, self.api_keys)
        self._decide(request, client, random.Random())
        client.close()

    def _give_up(self, request):
        self.journal.write([{"what": "undecided", "tenant": request.tenant, "key": request.key, "role": request.role}])

    def _decide(self, request, client, chance):
        """Repeats until there is a decision; answers the receipt's hash where it is sealed."""
        tries, pause = 0, PAUSE_S[0]
        while True:
            sent = time.time()
            answer = client.send(request)
            tries += 1
            self.sent += 1
            if answer is not None and not is_unknown(answer[0]):
                break
            if self._patience is not None and time.monotonic() > self._patience:
                self._give_up(request)
                return None
            # A 202 was accepted without waiting: what was decided is asked for without that preference.
            request.headers.pop("Prefer", None)
            # The pause of a client that does not know: longer each time, never the same as that of another.
            time.sleep(chance.uniform(0.5, 1.0) * pause)
            pause = min(pause * 2, PAUSE_S[1])
        status, replayed, body = answer
        try:
            told = json.loads(body)
        except ValueError:
            told = {}
        receipt = told.get("receipt") or {}
        self.journal.write(
            [
                {
                    "what": "answer", "tenant": request.tenant, "key": request.key, "role": request.role, "expect": request.expect,
                    "status": status, "code": told.get("code", ""), "replayed": replayed, "body": hashlib.sha256(body).hexdigest(),
                    "exchange_id": told.get("exchange_id", ""), "trace_id": told.get("trace_id", ""),
                    "receipt_hash": receipt.get("receipt_hash", ""), "sent": sent, "at": time.time(), "tries": tries,
                }
            ]
        )  # fmt: skip
        self.decided += 1
        return receipt.get("receipt_hash")


class Foreign:
    """A tenant's own producer. Like Java's client it takes murmur2 for the partition. A record of which nothing is known after
    its time is written again: the same key is a replay."""

    def __init__(self, brokers, patience_s=300.0):
        from confluent_kafka import Producer as KafkaProducer

        self._lock, self._patience = threading.Lock(), patience_s
        self._producer = KafkaProducer(
            {
                "bootstrap.servers": brokers, "enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 1,
                "message.timeout.ms": 30_000, "log_level": 2,
            }
        )  # fmt: skip

    def send(self, records):
        deadline = time.monotonic() + self._patience
        left = list(records)
        while left:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the brokers took no record within {self._patience} s")
            outcome = {}
            for number, (key, value, headers, partition) in enumerate(left):
                where = {} if partition is None else {"partition": partition}

                def taken(error, _, number=number):
                    outcome[number] = error

                self._producer.produce(REQUESTED, key=key, value=value, headers=headers, on_delivery=taken, **where)
            while len(outcome) < len(left):
                self._producer.poll(0.1)
            left = [record for number, record in enumerate(left) if outcome[number] is not None]
