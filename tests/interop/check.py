"""Checks a running pipeline from the outside, with clients that share no code with it.

COUNTERSIGN_TEST_KAFKA       brokers
COUNTERSIGN_URL              the HTTP address
COUNTERSIGN_TENANT           a tenant, with
COUNTERSIGN_API_KEY          an API key (exchange:write and the read scopes)
COUNTERSIGN_PRODUCER_ID      and a producer's id
COUNTERSIGN_PRODUCER_SECRET  and secret
"""

import json
import os
import secrets
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import rfc8785
from records import ForeignProducer, Reader, Schemas, signature
from stranger import Keys, cid_of, digest, exchange_id, loads, unix, verify_bundle, verify_receipt

REQUESTED = "exchange.requested.v1"
SEALED = "exchange.sealed.v1"
USAGE = "usage.recorded.v1"
POSTED = "settlement.posted.v1"
DEAD = "canonicalise.dead.v1"

BROKERS = os.environ["COUNTERSIGN_TEST_KAFKA"]
URL = os.environ["COUNTERSIGN_URL"].rstrip("/")
TENANT = os.environ["COUNTERSIGN_TENANT"]
API_KEY = os.environ["COUNTERSIGN_API_KEY"]
PRODUCER_ID = os.environ["COUNTERSIGN_PRODUCER_ID"]
PRODUCER_SECRET = os.environ["COUNTERSIGN_PRODUCER_SECRET"]

# Keys and traces of this run, so that the script may run again on the same pipeline.
RUN = secrets.token_hex(4)
PATIENCE = 60
SCHEMAS = Schemas()


@dataclass
class Sent:
    payload: object
    priced: bool


@dataclass
class Story:
    """What this run has done: every exchange that must be sealed, and every key that must not."""

    sent: dict = field(default_factory=dict)
    receipts: dict = field(default_factory=dict)
    forged: dict = field(default_factory=dict)
    records: dict = field(default_factory=dict)


# --- HTTP -------------------------------------------------------------------------------------------------------------------------


def call(method, path, body=None, key=None, authorised=True):
    headers = {"Accept": "application/json"}
    if authorised:
        headers["Authorization"] = f"Bearer {API_KEY}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    if key is not None:
        headers["Idempotency-Key"] = key
    data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.headers, loads(answer.read())
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.headers, loads(refusal.read() or b"null")


def wait_for(what, look, seconds=PATIENCE):
    """Polls until `look` gives something, and gives it back."""
    deadline = time.monotonic() + seconds
    while True:
        found, seen = look()
        if found:
            return seen
        assert time.monotonic() < deadline, f"not seen within {seconds} s: {what}; last: {seen}"
        time.sleep(0.1)


def sealed_over_http(exchange):
    def look():
        status, _, body = call("GET", f"/v1/exchanges/{exchange}")
        return status == 200 and body["status"] == "sealed", body

    return wait_for(f"{exchange} sealed", look)


# --- The checks -------------------------------------------------------------------------------------------------------------------


def the_key_is_good_within_a_second(_story):
    wait_for("the API key accepted", lambda: ((seen := call("GET", "/v1/accounts"))[0] != 401, seen), seconds=5)


def http_exchanges_are_sealed_and_repeats_get_the_same_answer(story):
    payloads = [
        {"invoice": "INV-1", "lines": [{"price": 12.5, "count": 1.0}], "tiny": 1e-7, "huge": 1e30},
        {"é": '€\u0007"', "😀": None, "דּ": True, "a": [0.1, -0.0, 333333333.33333329]},
        ["a list", {"is": "a payload too"}],
        "and so is a string",
    ]
    for number in range(16):
        key = f"http-{RUN}-{number}"
        body = {"payload": payloads[number % len(payloads)]}
        if number % 4:
            body["trace_id"] = f"trace-{RUN}-{number % 3}"
        if number % 2:
            body["amount"] = {"currency": "USD", "minor": str(1250 + number), "payee": "agent-7"}
        status, headers, answer = call("POST", "/v1/exchanges", body, key)
        assert status == 201, (status, answer)
        exchange = exchange_id(TENANT, key)
        assert answer["exchange_id"] == exchange, "the id is not the one that anyone can derive"
        assert headers["Location"].endswith(f"/v1/exchanges/{exchange}"), headers["Location"]
        assert answer["receipt"]["trace_id"] == answer["trace_id"] == body.get("trace_id", exchange)
        assert answer["receipt"]["cid"] == cid_of(answer["normalized"])
        assert answer["receipt"]["request_cid"] == cid_of(body["payload"])
        story.sent[exchange] = Sent(body["payload"], "amount" in body)
        story.receipts[exchange] = answer["receipt"]

        again_status, again_headers, again = call("POST", "/v1/exchanges", body, key)
        assert (again_status, again) == (status, answer), "the repeat got another answer"
        assert again_headers["Idempotent-Replayed"] == "true"


def foreign_request(key, **members):
    """A payload, and the record key and value that ask for it."""
    payload = {"from": "a producer of the tenant's own", "key": key, "weight": 2.50}
    record = {
        "tenant": TENANT,
        "idempotency_key": key,
        "payload": json.dumps(payload).encode(),
        "payload_type": "passthrough",
        "target_type": None,
        "trace_id": None,
        "expected_prev_receipt_hash": None,
        "amount": None,
        "forward_url": None,
    }
    return payload, f"{TENANT}:{key}".encode(), SCHEMAS.encode(REQUESTED, record | members)


def signed(record_key, value, topic=REQUESTED, secret=PRODUCER_SECRET, producer=PRODUCER_ID):
    return {"countersign-key-id": producer, "countersign-signature": signature(secret, topic, record_key, value)}


def signed_records_are_sealed_wherever_they_lie(story):
    producer = ForeignProducer(BROKERS)
    everywhere = range(producer.partitions(REQUESTED))
    # Where the client's own partitioner puts it; and in every partition, so in all but one where its key does not belong.
    for name, partitions in (("home", [None]), ("everywhere", everywhere)):
        key = f"foreign-{name}-{RUN}"
        payload, record_key, value = foreign_request(key, amount={"currency": "USD", "minor": 500, "payee": "agent-8"})
        for partition in partitions:
            producer.send(REQUESTED, record_key, value, signed(record_key, value), partition)
        exchange = exchange_id(TENANT, key)
        receipt = sealed_over_http(exchange)["receipt"]
        assert receipt["request_cid"] == cid_of(payload)
        story.sent[exchange] = Sent(payload, priced=True)
        story.receipts[exchange] = receipt


def forged_records_are_sent(story):
    """What became of them is seen in the topics, below."""
    producer = ForeignProducer(BROKERS)

    def forge(name, headers_of):
        key = f"forged-{name}-{RUN}"
        _, record_key, value = foreign_request(key)
        story.forged[key] = producer.send(REQUESTED, record_key, value, headers_of(record_key, value))

    forge("unsigned", lambda key, value: {})
    forge("no-producer", lambda key, value: {"countersign-signature": signature(PRODUCER_SECRET, REQUESTED, key, value)})
    forge("unknown-producer", lambda key, value: signed(key, value, producer="producer-0000000000000000"))
    forge("wrong-secret", lambda key, value: signed(key, value, secret="csp_" + "0" * 43))
    forge("wrong-topic", lambda key, value: signed(key, value, topic=SEALED))
    forge("wrong-key", lambda key, value: signed(key + b"0", value))
    forge("wrong-value", lambda key, value: signed(key, value + b"\0"))
    # The lengths in the signature are what keeps bytes from moving between key and value.
    forge("shifted", lambda key, value: signed(key + value[:1], value[1:]))


def the_topics_tell_the_same_story(story):
    reader = Reader(BROKERS, SCHEMAS, [SEALED, USAGE, POSTED], opaque=[DEAD])
    priced = {exchange for exchange, sent in story.sent.items() if sent.priced}

    def complete(records):
        return (
            set(story.sent) <= exchanges(records[SEALED])
            and set(story.sent) <= exchanges(records[USAGE])
            and priced <= exchanges(records[POSTED])
            and set(story.forged.values()) <= {source_of(letter) for letter in records[DEAD]}
        )

    reader.read_until(complete, "every exchange sealed, metered and settled, and every forgery refused", PATIENCE)
    reader.settle()
    reader.close()
    story.records = reader.records


def exchanges(records):
    return {record.content["exchange_id"] for record in records} - {None}


def source_of(letter):
    """Where a dead letter lay: (partition, offset) in the request topic."""
    topic, partition, offset = letter.headers["source"].decode().rsplit(":", 2)
    return (int(partition), int(offset)) if topic == REQUESTED else None


def nothing_is_told_twice(story):
    for topic in (SEALED, USAGE):
        told = [record.content["exchange_id"] for record in story.records[topic]]
        assert len(told) == len(set(told)), f"{topic} tells an exchange twice"
    posted = story.records[POSTED]
    commands = [record.content["command_id"] for record in posted]
    assert len(commands) == len(set(commands)), "a command is posted twice"
    for exchange in story.sent:
        times = sum(record.content["exchange_id"] == exchange for record in posted)
        assert times == story.sent[exchange].priced, f"{exchange} is posted {times} times"


def what_is_posted_or_metered_was_sealed(story):
    sealed = exchanges(story.records[SEALED])
    for topic in (USAGE, POSTED):
        assert exchanges(story.records[topic]) <= sealed, f"{topic} tells of {exchanges(story.records[topic]) - sealed}"


def causes_strictly_increase(story):
    """A consumer of one partition sees a repeat by the highest cause that it keeps for each source partition."""
    for topic in (SEALED, USAGE, POSTED):
        highest = {}
        for record in sorted(story.records[topic], key=lambda record: (record.partition, record.offset)):
            partition, offset, index = (int(part) for part in record.headers["cause"].decode().split(":"))
            source = (record.partition, record.headers.get("cause-topic"), partition)
            before = highest.get(source, (-1, -1))
            assert before < (offset, index), f"{topic}-{record.partition}@{record.offset}: {(offset, index)} after {before}"
            highest[source] = (offset, index)


def public_records_carry_cloud_events(story):
    for topic in (SEALED, USAGE, POSTED):
        for record in story.records[topic]:
            if record.content["exchange_id"] is None:
                continue
            assert record.headers["ce_id"].decode() == record.content["exchange_id"]
            assert record.headers["ce_type"].decode() == topic
            assert record.headers["ce_source"].decode() == f"countersign/{record.content['tenant']}"


def the_sealed_record_is_what_http_answered(story):
    for record in story.records[SEALED]:
        sealed = record.content
        if sealed["exchange_id"] not in story.sent:
            continue
        assert record.key == f"{TENANT}:{sealed['trace_id']}".encode()
        assert loads(sealed["receipt"]) == story.receipts[sealed["exchange_id"]]
        assert sealed["payload"] == rfc8785.dumps(story.sent[sealed["exchange_id"]].payload)
        assert digest(sealed["payload"]) == story.receipts[sealed["exchange_id"]]["cid"]
        assert sealed["admitted_at"] <= round(unix(story.receipts[sealed["exchange_id"]]["ts"]) * 1000)


def usage_is_what_the_receipt_says(story):
    for record in story.records[USAGE]:
        usage = record.content
        if usage["exchange_id"] in story.receipts:
            assert {"vex": usage["vex"], "fu": usage["fu"]} == story.receipts[usage["exchange_id"]]["usage"]


def settlement_numbers_only_rise(story):
    """The outbox is published in its own order. Numbers may be missing here: parked ones go to another topic."""
    last = {}
    for record in sorted(story.records[POSTED], key=lambda record: (record.partition, record.offset)):
        place = (record.partition, record.content["ledger_partition"])
        assert record.content["sequence"] > last.get(place, 0), f"{place}: {record.content['sequence']} after {last[place]}"
        last[place] = record.content["sequence"]


def forged_records_are_dead_letters_and_nothing_else(story):
    reasons = {source_of(letter): letter.headers["reason"].decode() for letter in story.records[DEAD]}
    for key, place in story.forged.items():
        assert reasons[place] == "unauthenticated", f"{key}: {reasons[place]}"
        assert exchange_id(TENANT, key) not in exchanges(story.records[SEALED]), f"{key} was sealed"
        assert call("GET", f"/v1/exchanges/{exchange_id(TENANT, key)}")[0] == 404, f"{key} is known"


def a_stranger_verifies_every_receipt(story):
    status, _, document = call("GET", "/.well-known/jwks.json", authorised=False)
    assert status == 200, status
    keys = Keys(document)
    for exchange, sent in story.sent.items():
        receipt = sealed_over_http(exchange)["receipt"]
        assert receipt == story.receipts[exchange], "GET and POST answer different receipts"
        verify_receipt(receipt, keys, payload=sent.payload)
        tampered = receipt | {"tenant": "somebody-else"}
        try:
            verify_receipt(tampered, keys)
        except AssertionError:
            continue
        raise AssertionError("a changed receipt verifies")


def a_stranger_verifies_a_bundle(story):
    keys = Keys(call("GET", "/.well-known/jwks.json", authorised=False)[2])
    traces = {receipt["trace_id"] for receipt in story.receipts.values()}
    for trace in sorted(traces):
        expected = {exchange for exchange, receipt in story.receipts.items() if receipt["trace_id"] == trace}
        status, _, bundle = call("GET", f"/v1/traces/{trace}/bundle")
        assert status == 200, (status, bundle)
        verify_bundle(bundle, keys)
        assert {receipt["exchange_id"] for receipt in bundle["receipts"]} == expected, trace


CHECKS = [
    the_key_is_good_within_a_second,
    http_exchanges_are_sealed_and_repeats_get_the_same_answer,
    signed_records_are_sealed_wherever_they_lie,
    forged_records_are_sent,
    the_topics_tell_the_same_story,
    nothing_is_told_twice,
    what_is_posted_or_metered_was_sealed,
    causes_strictly_increase,
    public_records_carry_cloud_events,
    the_sealed_record_is_what_http_answered,
    usage_is_what_the_receipt_says,
    settlement_numbers_only_rise,
    forged_records_are_dead_letters_and_nothing_else,
    a_stranger_verifies_every_receipt,
    a_stranger_verifies_a_bundle,
]


def main():
    story = Story()
    for check in CHECKS:
        began = time.monotonic()
        check(story)
        print(f"ok - {check.__name__.replace('_', ' ')} ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
