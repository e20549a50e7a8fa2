"""Reads what a run has left: the topics with another client, the brokers' files, and the public HTTP surface."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from urllib.parse import quote, urlencode

from . import rules, segments, wire
from .story import Call, Found
from .watch import consumer, fingerprint, headers_of, partitions

READ_S = 300.0
GET_TIMEOUT_S = 30.0
GET_THREADS = 4
VIEWS_MAX = 300
BUNDLES_MAX = 25


# --- Topics ---------------------------------------------------------------------------------------------------------------------------


def _slim(topic, content):
    """What is compared; payloads by their digest, so that a long run fits into memory."""
    if topic == wire.SEALED:
        content["payload_cid"] = rules.digest(content.pop("payload"))
    elif topic == wire.ADMITTED and content["admission"] is not None:
        content["admission"] = {"cid": content["admission"]["cid"]}
    elif topic == wire.REQUESTED:
        content = {name: content[name] for name in ("tenant", "idempotency_key")}
    elif topic == wire.ANSWER:
        content.pop("body")
    return content


def read_topics(brokers):
    """topic -> every committed record, in the order of partition and offset."""
    from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

    schemas, reader = wire.Schemas(), consumer(brokers)
    places = partitions(reader, [*wire.READ, *wire.OPAQUE])
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in places])
    behind, records = set(places), {topic: [] for topic in (*wire.READ, *wire.OPAQUE)}
    deadline = time.monotonic() + READ_S
    while behind:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not read to the end: {sorted(behind)}")
        message = reader.poll(1.0)
        if message is None:
            continue
        place = (message.topic(), message.partition())
        if message.error() is not None:
            if message.error().code() == KafkaError._PARTITION_EOF:
                behind.discard(place)
            continue
        content = None
        if message.topic() not in wire.OPAQUE:
            try:
                content = _slim(message.topic(), schemas.decode(message.value()))
            except Exception as error:
                if message.topic() != wire.REQUESTED:
                    raise wire.Unreadable(f"{place}:{message.offset()}: {error}") from error
                content = {}  # The request topic takes what anybody writes.
        key = (message.key() or b"").decode(errors="replace")
        headers = headers_of(message)
        record = wire.Record(*place, message.offset(), message.timestamp()[1], key, headers, content, fingerprint(message))
        records[message.topic()].append(record)
    reader.close()
    for found in records.values():
        found.sort(key=lambda record: (record.partition, record.offset))
    return records


def read_transactions(parts):
    """From the brokers' files: which transaction each record is in."""
    topics = {*wire.READ, *wire.OPAQUE, segments.STATE_TOPIC}
    return segments.ledger(segments.read_brokers(sorted(parts.glob("kafka-*/data")), topics.__contains__))


# --- HTTP -----------------------------------------------------------------------------------------------------------------------------


class Api:
    """GETs with an API key, one connection a thread."""

    def __init__(self, port, api_keys):
        self._port, self._api_keys, self._local = port, api_keys, threading.local()

    def get(self, path, tenant=None, patience_s=60.0):
        """(status, headers, body); what cannot be answered now is asked again."""
        deadline = time.monotonic() + patience_s
        headers = {"Authorization": f"Bearer {self._api_keys[tenant]}"} if tenant else {}
        while True:
            try:
                connection = getattr(self._local, "connection", None)
                if connection is None:
                    connection = self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=GET_TIMEOUT_S)
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                body = response.read()
                if response.status < 500:
                    return response.status, response.headers, rules.loads(body) if body else None
                told = f"{response.status} {body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                self._local.connection, told = None, str(error)
            if time.monotonic() > deadline:
                raise TimeoutError(f"GET {path}: {told}")
            time.sleep(0.2)

    def pages(self, path, tenant, member):
        """Every item of a list."""
        while path:
            status, headers, body = self.get(path, tenant)
            if status != 200:
                raise RuntimeError(f"GET {path}: {status} {body}")
            yield from body[member]
            following = re.fullmatch(r'<([^>]+)>; rel="next"', headers.get("link") or "")
            path = following and following.group(1)

    def await_view(self, tenant, patience_s=120.0):
        """Until the read model is behind by nothing."""
        deadline = time.monotonic() + patience_s
        while True:
            _, headers, _ = self.get("/v1/exchanges?limit=1", tenant)
            lag = headers.get("countersign-view-lag")
            if lag == "0":
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the read model stays {lag} records behind")
            time.sleep(0.2)


def read_views(api, story, names):
    """exchange_id -> the body of its GET."""
    found, left, lock, failures = {}, list(names), threading.Lock(), []

    def work():
        while True:
            with lock:
                if not left or failures:
                    return
                name = left.pop()
            try:
                status, _, body = api.get(f"/v1/exchanges/{name}", story.exchanges[name].tenant)
            except Exception as error:
                failures.append(error)
                return
            found[name] = body if status == 200 else {"status": f"HTTP {status}"}

    threads = [threading.Thread(target=work) for _ in range(GET_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return found


def read_public(found, story, get, jwks, months, chance, everything):
    """What HTTP tells. `everything`: each exchange, not a sample."""
    found.jwks = jwks.get("/.well-known/jwks.json")[2]
    tenants = story.tenants()
    for tenant in tenants:
        get.await_view(tenant)
    for tenant in tenants:
        accounts = get.get("/v1/accounts", tenant)[2]["accounts"]
        found.accounts[tenant] = {
            account["account"]: {one["posted"]["currency"]: int(one["posted"]["minor"]) for one in account["balances"]}
            for account in accounts
        }
        found.usage[tenant] = {}
        for month in months:
            meters = get.get("/v1/usage?" + urlencode({"month": month}), tenant)[2]["meters"]
            found.usage[tenant][month] = {meter["meter"]: [meter["total"], meter["exchanges"]] for meter in meters}
    names = sorted(story.exchanges)
    if not everything and len(names) > VIEWS_MAX:
        names = chance.sample(names, VIEWS_MAX)
    found.views = read_views(get, story, names)
    traces = sorted({(one.tenant, one.trace_id) for one in story.exchanges.values() if one.is_sealed})
    hot = [trace for trace in traces if trace[1].startswith("hot-")]
    for tenant, trace in [*hot, *chance.sample(traces, min(len(traces), BUNDLES_MAX))]:
        status, _, bundle = get.get(f"/v1/traces/{quote(trace)}/bundle", tenant)
        found.bundles.append((tenant, trace, bundle if status == 200 else {"status": status}))


def records_of_views(found, story, entries):
    """Records as far as the public surface shows them, where nothing else reads the log: each exchange's `positions`, with what
    its GET and the ledger's entries say."""
    settlements = {}
    for entry in entries:
        posting = settlements.setdefault(entry["exchange_id"], {"transfers": {}, "numbers": set()})
        posting["transfers"][entry["line"]] = {
            "debit_account": entry["debit_account"],
            "credit_account": entry["credit_account"],
            "currency": entry["amount"]["currency"],
            "minor": int(entry["amount"]["minor"]),
        }
        posting["numbers"].add((entry["ledger_partition"], entry["sequence"]))
    for name, body in found.views.items():
        exchange = story.exchanges[name]
        for hop in body.get("positions", ()):
            headers = {"cause": hop["cause"].rsplit(" ", 1)[-1]} if hop["cause"] else {}
            content = _content(hop, exchange, body, settlements.get(name))
            at = rules.unix_ms(hop["at"]) if hop["at"] else 0
            found.records[hop["topic"]].append(wire.Record(hop["topic"], hop["partition"], hop["offset"], at, "", headers, content))
    for records in found.records.values():
        records.sort(key=lambda record: (record.partition, record.offset))


def _content(hop, exchange, body, posting):
    """The fields that the checks read, from what the public surface says of the record."""
    content = {"exchange_id": exchange.id, "tenant": exchange.tenant}
    topic, receipt = hop["topic"], body.get("receipt") or {}
    if topic == wire.ADMITTED:
        content["admission"] = {} if hop["note"] == "admitted" else None
    elif topic == wire.REJECTED:
        code = hop["note"]
        content.update(code=code, decided_by="canonicalise" if code in ("destination_denied", "idempotency_key_reused") else "sign")
        content["overwrites"] = code != "idempotency_key_reused"
    elif topic == wire.SEALED:
        amount = receipt.get("amount")
        content.update(
            trace_id=receipt.get("trace_id"), idempotency_key=exchange.key, receipt=json.dumps(receipt), amount=amount,
            forward_url=exchange.url, admitted_at=rules.unix_ms(body["at"]),
        )  # fmt: skip
    elif topic == wire.USAGE:
        content.update(body.get("usage") or {})
    elif topic == wire.POSTED and posting is not None:
        numbers = sorted(posting["numbers"])
        content["transfers"] = [posting["transfers"][line] for line in sorted(posting["transfers"])]
        content["ledger_partition"], content["sequence"] = numbers[0]
    elif topic == wire.PARKED:
        parked = (body.get("settlement") or {}).get("parked") or {}
        content.update({name: parked.get(name) for name in ("reason", "ledger_partition", "sequence")})
    elif topic == wire.DELIVERED:
        outcome = (body.get("deliveries") or [{}])[0]
        content.update(delivered=outcome.get("delivered"), attempts=outcome.get("attempts", []))
    return content


# --- Files of the run -----------------------------------------------------------------------------------------------------------------


def lines(path):
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as content:
        return [json.loads(line) for line in content if line.endswith("\n")]


def read_files(found, folder):
    found.calls = [Call(**call) for call in lines(folder / "calls.jsonl")]
    found.watched = lines(folder / "seen.jsonl")
    found.watch_faults = lines(folder / "watch-faults.jsonl")
    found.stable = lines(folder / "stable.jsonl")
    found.faults = lines(folder / "faults.jsonl")
    return found


__all__ = ["Api", "Found", "lines", "read_files", "read_public", "read_topics", "read_transactions", "records_of_views"]
