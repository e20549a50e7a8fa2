"""What must have come out, from the journal of the load and the published rules alone, against what was found.

Each check says what it looked at (how many) and what did not hold. A check that had nothing to look at does not hold either,
unless it says that nothing is fine."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from . import rules, segments
from .story import DELIVERED_IN_THE_END, SEALED as IS_SEALED
from .wire import ADMITTED, ANSWER, COMMAND, DEAD, DELIVERED, INPUT, PARKED, POSTED, REJECTED, REQUESTED, SEALED, STEPS, TOTAL, USAGE

#: The last stable offset may stand still for the transaction timeout and so much more.
LSO_GRACE_S = 10.0
TRANSACTION_TIMEOUT_S = 40.0
REUSED = "idempotency_key_reused"
#: Refusals that canonicalise decides; the others are sign's.
BY_CANONICALISE = {"destination_denied", REUSED}


@dataclass
class Result:
    name: str
    title: str
    looked_at: int = 0
    faults: list = field(default_factory=list)
    skipped: bool = False

    @property
    def holds(self):
        return self.skipped or not self.faults

    def fault(self, text):
        self.faults.append(text)

    def equal(self, what, expected, came):
        self.looked_at += 1
        if expected != came:
            self.fault(f"{what}: {expected!r} expected, {came!r} came")

    def once(self, what, expected, came):
        """Each name once, none else."""
        counts = Counter(came)
        self.looked_at += len(expected)
        for name in sorted(expected - counts.keys()):
            self.fault(f"{what}: lost: {name}")
        for name, count in sorted(counts.items(), key=lambda entry: str(entry[0])):
            if name not in expected:
                self.fault(f"{what}: of nobody's asking: {name}")
            elif count > 1:
                self.fault(f"{what}: {count} times: {name}")


CHECKS = []


def check(title, log_only=False, may_be_empty=False):
    def register(function):
        CHECKS.append((function.__name__, title, function, log_only, may_be_empty))
        return function

    return register


def judge(story, found):
    """Every check, in order."""
    results = []
    for name, title, function, log_only, may_be_empty in CHECKS:
        result = Result(name, title)
        if log_only and not found.has_log:
            result.skipped = True
        else:
            function(story, found, result)
            if not result.looked_at and not result.faults and not may_be_empty:
                result.fault("there was nothing to look at")
        results.append(result)
    return results


# --- What clients were told -----------------------------------------------------------------------------------------------------------


@check("every request got a decision")
def decided(story, found, result):
    result.looked_at = len(story.answers)
    for tenant, key, role in story.undecided:
        result.fault(f"{tenant} {key} ({role}) was never decided")
    answered = {rules.exchange_id(answer.tenant, answer.key) for answer in story.answers if answer.role == "first"}
    unknown = {(tenant, key) for tenant, key, _ in story.undecided}
    for name, exchange in story.exchanges.items():
        if exchange.via == "http" and name not in answered and (exchange.tenant, exchange.key) not in unknown:
            result.fault(f"{exchange.tenant} {exchange.key} is in the journal without an answer")


@check("each answer is the one that the input asks for, under the id that anyone can derive")
def answers(story, found, result):
    for answer in story.answers:
        name = rules.exchange_id(answer.tenant, answer.key)
        what = f"{answer.tenant} {answer.key} ({answer.role})"
        if answer.expect != IS_SEALED:
            result.equal(f"{what}: code", answer.expect, answer.code)
            continue
        result.equal(f"{what}: answer", (201, name), (answer.status, answer.exchange_id))
        exchange = story.exchanges.get(name)
        if exchange is not None:
            result.equal(f"{what}: trace", exchange.trace_id, answer.trace_id)


@check("one key, one answer, however often it is asked for")
def same_answers(story, found, result):
    first = {}
    for answer in story.answers:
        if answer.role not in ("first", "again") or answer.status != 201:
            continue
        result.looked_at += 1
        key = (answer.tenant, answer.key)
        if first.setdefault(key, answer.body) != answer.body:
            result.fault(f"{answer.tenant} {answer.key}: two bodies")


@check("the receipt that a client was given is the one in the log")
def receipts_given(story, found, result):
    hashes = {record.content["exchange_id"]: _receipt(record)["receipt_hash"] for record in found.records[SEALED]}
    for answer in story.answers:
        if answer.status == 201:
            result.equal(f"{answer.tenant} {answer.key}", hashes.get(answer.exchange_id), answer.receipt_hash)


# --- Once and only once ---------------------------------------------------------------------------------------------------------------


@check("each exchange is admitted once")
def admitted(story, found, result):
    expected = story.ids(lambda one: one.expect not in BY_CANONICALISE)
    came = [record.content["exchange_id"] for record in found.records[ADMITTED] if record.content["admission"] is not None]
    result.once("admitted", expected, came)


@check("each exchange is sealed once")
def sealed(story, found, result):
    expected = story.ids(lambda one: one.is_sealed)
    result.once("sealed", expected, [record.content["exchange_id"] for record in found.records[SEALED]])


@check("each refusal is one that was asked for, once; a reused key leaves the original")
def rejected(story, found, result):
    decisions = [record for record in found.records[REJECTED] if record.content["code"] != REUSED]
    codes = {exchange.expect for exchange in story.exchanges.values() if not exchange.is_sealed}
    for code in sorted(codes | {record.content["code"] for record in decisions}):
        expected = story.ids(lambda one: one.expect == code)
        came = [record for record in decisions if record.content["code"] == code]
        result.once(code, expected, [record.content["exchange_id"] for record in came])
        decider = "canonicalise" if code in BY_CANONICALISE else "sign"
        for record in came:
            result.equal(f"{record}: decided by", (decider, True), (record.content["decided_by"], record.content["overwrites"]))
    reused = [record for record in found.records[REJECTED] if record.content["code"] == REUSED]
    expected = story.ids(lambda one: one.reused)
    # Each try of the other body is refused again: at least once for each, never for another.
    result.once("reused keys", expected, {record.content["exchange_id"] for record in reused})
    for record in reused:
        result.equal(f"{record}: overwrites", False, record.content["overwrites"])


@check("what may not enter is nowhere", may_be_empty=True)
def nothing_of_the_door(story, found, result):
    hidden = {rules.exchange_id(tenant, key): key for tenant, key in story.door_only}
    hidden.update((rules.exchange_id(*name.split(":", 1)), name) for name in story.forged if ":" in name)
    result.looked_at = len(hidden)
    for topic in (ADMITTED, REJECTED, SEALED, USAGE, COMMAND, POSTED, PARKED, DELIVERED):
        for record in found.records[topic]:
            name = record.content.get("exchange_id")
            if name in hidden:
                result.fault(f"{record} is of {hidden[name]}, which may not enter")


@check("dead letters are those that were forged, with their reason, and no others", log_only=True, may_be_empty=True)
def dead_letters(story, found, result):
    came = defaultdict(list)
    for step in STEPS:
        for record in found.records[DEAD[step]]:
            reason = record.headers.get("reason")
            if step != "canonicalise" or record.key not in story.forged:
                result.fault(f"{record}: {reason}: {record.headers.get('detail')}")
            else:
                came[record.key].append(reason)
    for key, reason in story.forged.items():
        result.equal(f"the letters of {key}", {reason}, set(came.get(key, ())))


# --- What a seal says -----------------------------------------------------------------------------------------------------------------


def _receipt(record):
    """The receipt of a sealed record, read once."""
    if "_receipt" not in record.content:
        record.content["_receipt"] = rules.loads(record.content["receipt"])
    return record.content["_receipt"]


def _money(amount):
    if amount is None:
        return None
    if isinstance(amount, dict):
        return [amount["currency"], int(amount["minor"]), amount["payee"]]
    return list(amount)


@check("a sealed record is of the input, word for word")
def seals(story, found, result):
    for record in found.records[SEALED]:
        content = record.content
        exchange = story.exchanges.get(content["exchange_id"])
        if exchange is None:
            continue
        receipt = _receipt(record)
        expected = (exchange.tenant, exchange.trace_id, exchange.key, exchange.amount, exchange.url)
        came = (content["tenant"], content["trace_id"], content["idempotency_key"], _money(content["amount"]), content["forward_url"])
        result.equal(f"{record}: the record", expected, came)
        payload_cid = content.get("payload_cid")
        if payload_cid is not None:
            result.equal(f"{record}: the payload", exchange.cid, payload_cid)
        host = exchange.url.split("/")[2].split(":")[0] if exchange.url else None
        expected = {
            "tenant": exchange.tenant,
            "exchange_id": exchange.id,
            "trace_id": exchange.trace_id,
            "type": {"payload": "passthrough", "target": "passthrough"},
            "request_cid": exchange.cid,
            "cid": exchange.cid,
            "policy": {"allowed": True, "reason": "allowlisted" if host else "no_forward", "host": host},
            "usage": {"vex": 1, "fu": 0},
        }
        result.equal(f"{record}: the receipt", expected, {name: receipt.get(name) for name in expected})
        result.equal(f"{record}: the price", exchange.amount, _money(receipt.get("amount")))
        if found.has_log:
            result.equal(f"{record}: the record key", f"{exchange.tenant}:{exchange.trace_id}", record.key)
            admitted_at = content["admitted_at"]
            if rules.unix_ms(receipt["ts"]) < admitted_at:
                result.fault(f"{record}: ts {receipt['ts']} lies before the admission at {admitted_at}")


@check("every receipt verifies with the public keys alone")
def signatures(story, found, result):
    keys = rules.Keys(found.jwks)
    for record in found.records[SEALED]:
        result.looked_at += 1
        try:
            rules.verify_receipt(_receipt(record), keys)
        except rules.Broken as broken:
            result.fault(f"{record}: {broken}")


@check("each trace is one chain without a gap, in the order of the log")
def chains(story, found, result):
    traces, lengths = defaultdict(list), Counter()
    for record in found.records[SEALED]:
        traces[(record.content["tenant"], record.content["trace_id"])].append(record)
    for exchange in story.exchanges.values():
        if exchange.is_sealed:
            lengths[(exchange.tenant, exchange.trace_id)] += 1
    for trace in sorted(lengths.keys() | traces.keys()):
        records = traces.get(trace, [])
        result.equal(f"the length of {trace}", lengths.get(trace, 0), len(records))
        if len({record.partition for record in records}) > 1:
            result.fault(f"{trace} lies in several partitions")
        in_hops = sorted(records, key=lambda record: _receipt(record)["hop"])
        if [record.offset for record in in_hops] != sorted(record.offset for record in records):
            result.fault(f"{trace}: hops are not in the order of their offsets")
        try:
            rules.verify_chain([_receipt(record) for record in in_hops])
        except rules.Broken as broken:
            result.fault(f"{trace}: {broken}")


@check("bundles verify with the public keys and hold the whole chain")
def bundles(story, found, result):
    keys = rules.Keys(found.jwks)
    expected = defaultdict(set)
    for exchange in story.exchanges.values():
        if exchange.is_sealed:
            expected[(exchange.tenant, exchange.trace_id)].add(exchange.id)
    for tenant, trace, bundle in found.bundles:
        try:
            rules.verify_bundle(bundle, keys)
        except rules.Broken as broken:
            result.fault(f"{tenant} {trace}: {broken}")
        came = {receipt["exchange_id"] for receipt in bundle.get("receipts", ())}
        result.equal(f"{tenant} {trace}: its exchanges", expected[(tenant, trace)], came)


# --- Usage ----------------------------------------------------------------------------------------------------------------------------


@check("each sealed exchange is metered once")
def usage(story, found, result):
    result.once("usage", story.ids(lambda one: one.is_sealed), [record.content["exchange_id"] for record in found.records[USAGE]])
    admitted_at = {record.content["exchange_id"]: record.content.get("admitted_at") for record in found.records[SEALED]}
    for record in found.records[USAGE]:
        content = record.content
        exchange = story.exchanges.get(content["exchange_id"])
        if exchange is None:
            continue
        result.equal(f"{record}", (exchange.tenant, 1, 0), (content["tenant"], content["vex"], content["fu"]))
        at = admitted_at.get(content["exchange_id"])
        if at is not None:
            result.equal(f"{record}: the month", rules.month_of(at), content["month"])


@check("totals are the sum of the usage, and only rise")
def totals(story, found, result):
    expected = Counter()
    for record in found.records[USAGE]:
        exchange = story.exchanges.get(record.content["exchange_id"])
        if exchange is not None and exchange.is_sealed:
            expected[(exchange.tenant, record.content["month"])] += 1
    newest = {}
    for record in found.records[TOTAL]:
        content = record.content
        key = (content["tenant"], content["meter"], content["month"])
        before = newest.get(key, (0, 0))
        now = (content["total"], content["exchanges"])
        if now < before or now[1] <= before[1]:
            result.fault(f"{record}: {now} after {before}")
        newest[key] = now
    sources = [("the topic", newest)] if found.has_log else []
    answered = {
        (tenant, meter, month): tuple(figures)
        for tenant, months in found.usage.items()
        for month, meters in months.items()
        for meter, figures in meters.items()
    }
    sources.append(("GET /v1/usage", answered))
    for source, figures in sources:
        for (tenant, month), count in sorted(expected.items()):
            result.equal(f"{source}: {tenant} {month} vex", (count, count), figures.get((tenant, "vex", month)))
            result.equal(f"{source}: {tenant} {month} fu", (0, count), figures.get((tenant, "fu", month)))
        strange = {key for key in figures if (key[0], key[2]) not in expected and figures[key] != (0, 0)}
        for key in sorted(strange):
            result.fault(f"{source}: a total of nobody's asking: {key}")


# --- Money ----------------------------------------------------------------------------------------------------------------------------


def _net(transfers):
    """What a posting does to each account."""
    net = Counter()
    for transfer in transfers:
        net[(transfer["currency"], transfer["debit_account"])] -= transfer["minor"]
        net[(transfer["currency"], transfer["credit_account"])] += transfer["minor"]
    return {place: minor for place, minor in net.items() if minor}


def _charges(story, found):
    """(exchange, fee) of each charge in the order in which the pipeline took them: the order is its choice, the fee is not.

    All commands of a tenant lie in one partition, so their order is that of the commands; where only settlements are seen,
    that of their numbers."""
    if found.has_log:
        order = [record.content["exchange_id"] for record in found.records[COMMAND]]
    else:
        numbered = sorted(found.records[POSTED], key=lambda one: (one.content["ledger_partition"], one.content["sequence"]))
        order = [record.content["exchange_id"] for record in numbered]
    volumes, seen = Counter(), set()
    admitted_at = {record.content["exchange_id"]: record.content["admitted_at"] for record in found.records[SEALED]}
    for name in order:
        exchange = story.exchanges.get(name)
        if exchange is None or name in seen or not exchange.is_charged or not rules.has_tariff(exchange.amount[0]):
            continue
        seen.add(name)
        currency, gross, _ = exchange.amount
        volume = (exchange.tenant, currency, rules.month_of(admitted_at.get(name, 0)))
        yield exchange, rules.fee(gross, volumes[volume])
        volumes[volume] += gross


def _posting(exchange, charged):
    currency, gross, payee = exchange.amount
    net = {
        (currency, f"{exchange.tenant}:main"): -gross,
        (currency, f"{exchange.tenant}:{payee}"): gross - charged,
        (currency, rules.FEES): charged,
    }
    return {place: minor for place, minor in net.items() if minor}


@check("each price is owed once, and posted or parked once")
def settled(story, found, result):
    owed = story.ids(lambda one: one.is_charged)
    posted = {name for name in owed if rules.has_tariff(story.exchanges[name].amount[0])}
    for what, topic, expected in (("owed", COMMAND, owed), ("posted", POSTED, posted), ("parked", PARKED, owed - posted)):
        result.once(what, expected, [record.content["exchange_id"] for record in found.records[topic]])
    for record in found.records[PARKED]:
        result.equal(f"{record}: the reason", "no_tariff", record.content["reason"])
    for record in found.records[COMMAND]:
        exchange = story.exchanges.get(record.content["exchange_id"])
        if exchange is not None and exchange.is_charged and record.content.get("transfers") is not None:
            result.equal(f"{record}", _posting(exchange, 0), _net(record.content["transfers"]))


@check("each fee follows from the volume of the month before it")
def fees(story, found, result):
    posted = {record.content["exchange_id"]: record for record in found.records[POSTED]}
    for exchange, charged in _charges(story, found):
        record = posted.get(exchange.id)
        if record is not None:
            result.equal(f"{record}: {exchange.amount}", _posting(exchange, charged), _net(record.content["transfers"]))
            if "fee_minor" in record.content:
                result.equal(f"{record}: fee_minor", charged, record.content["fee_minor"])


@check("settlements are numbered without a gap in each ledger partition")
def sequences(story, found, result):
    numbers = defaultdict(list)
    for topic in (POSTED, PARKED):
        for record in found.records[topic]:
            numbers[record.content["ledger_partition"]].append(record.content["sequence"])
    for record in found.records[DEAD["settle"]]:
        partition, _, number = record.headers.get("ledger-sequence", "").partition(":")
        if number:
            numbers[int(partition)].append(int(number))
    for partition, came in sorted(numbers.items()):
        result.equal(f"ledger partition {partition}", list(range(1, len(came) + 1)), sorted(came))


@check("every balance is the one that the input makes; all sum to zero")
def balances(story, found, result):
    expected = Counter()
    for exchange, charged in _charges(story, found):
        for place, minor in _posting(exchange, charged).items():
            expected[place] += minor
    came = Counter()
    for record in found.records[POSTED]:
        for place, minor in _net(record.content["transfers"]).items():
            came[place] += minor
    for place in sorted(expected.keys() | came.keys()):
        result.equal(f"postings of {place[1]} in {place[0]}", expected[place], came[place])
    if came:
        result.equal("the sum of all postings", 0, sum(came.values()))
    answered = {
        (currency, account): minor
        for accounts in found.accounts.values()
        for account, currencies in accounts.items()
        for currency, minor in currencies.items()
    }
    for place in sorted(set(expected) | set(answered)):
        if place[1] != rules.FEES:
            result.equal(f"GET /v1/accounts: {place[1]} in {place[0]}", expected[place], answered.get(place, 0))


# --- Deliveries -----------------------------------------------------------------------------------------------------------------------


@check("each delivery has one outcome, and it is the receiver's")
def deliveries(story, found, result):
    owed = story.ids(lambda one: one.is_sealed and one.delivery is not None)
    result.once("outcomes", owed, [record.content["exchange_id"] for record in found.records[DELIVERED]])
    calls = defaultdict(list)
    for call in found.calls:
        calls[call.id].append(call)
    for name in sorted(calls.keys() - owed):
        result.fault(f"a call for {name}, which owes none")
    for record in found.records[DELIVERED]:
        content = record.content
        exchange = story.exchanges.get(content["exchange_id"])
        if exchange is None or exchange.delivery is None:
            continue
        delivered = DELIVERED_IN_THE_END[exchange.delivery]
        result.equal(f"{record}: delivered", delivered, content["delivered"])
        attempts, answered = content["attempts"], calls[exchange.id]
        result.equal(f"{record}: attempts", list(range(1, len(attempts) + 1)), [attempt["attempt"] for attempt in attempts])
        if not attempts:
            continue
        last = attempts[-1]["status"]
        if (last is not None and 200 <= last <= 299) != delivered:
            result.fault(f"{record}: its last attempt has status {last}")
        # What is recorded as answered was answered; calls that nobody recorded are allowed (a crash between call and commit).
        heard, recorded = Counter(call.status for call in answered), Counter(attempt["status"] for attempt in attempts)
        for status, count in recorded.items():
            if status is not None and count > heard[status]:
                result.fault(f"{record}: {count} attempts with status {status}, of which the receiver knows {heard[status]}")
    for name in owed:
        if not calls.get(name):
            result.fault(f"{name} was never called out")
    for call in found.calls:
        exchange = story.exchanges.get(call.id)
        if exchange is not None:
            result.equal(f"the call for {call.id}: body and signature", (exchange.cid, True), (call.cid, call.signed))


# --- Causes and order -----------------------------------------------------------------------------------------------------------------


def _step_of(record):
    """Which step wrote a record, by what it is."""
    if record.topic == REJECTED:
        return record.content["decided_by"]
    if record.topic == REQUESTED:
        return "canonicalise" if record.cause is not None else None
    if record.topic == ANSWER:
        return None
    for step in STEPS:
        if record.topic == DEAD[step]:
            return step
    return {
        ADMITTED: "canonicalise", SEALED: "sign", USAGE: "meter", COMMAND: "meter", TOTAL: "meter.tally", POSTED: "settle",
        PARKED: "settle", DELIVERED: "forward",
    }.get(record.topic)  # fmt: skip


def _written(found):
    """(step, record) of everything that a step wrote."""
    for topic in (REQUESTED, ADMITTED, REJECTED, SEALED, USAGE, TOTAL, COMMAND, POSTED, PARKED, DELIVERED, *DEAD.values()):
        for record in found.records[topic]:
            step = _step_of(record)
            if step is not None:
                yield step, record


@check("every input has the successors that the rules give it, once")
def successors(story, found, result):
    kinds = defaultdict(Counter)
    for step, record in _written(found):
        cause = record.cause
        if cause is None:
            result.fault(f"{record} names no cause")
            continue
        topic, partition, offset, _ = cause
        kinds[(topic or INPUT[step], partition, offset, step)][_kind_of(record)] += 1

    def expect(step, records, wanted):
        for record in records:
            came = kinds.pop((record.topic, record.partition, record.offset, step), Counter())
            came.pop(TOTAL, None)
            result.looked_at += 1
            allowed = wanted(record)
            if came not in allowed:
                told = " or ".join(str(dict(one)) for one in allowed)
                result.fault(f"{record} led to {dict(came)} in {step}, not to {told}")

    one = lambda *names: Counter(names)  # noqa: E731
    decided_ = [one("admitted"), one("replay"), one("rejected"), one("moved"), one("dead")]
    expect("canonicalise", found.records[REQUESTED], lambda _: decided_)
    signed = [one("sealed"), one("rejected"), one("dead")]
    expect("sign", found.records[ADMITTED], lambda record: signed if record.content["admission"] is not None else [one()])
    expect("meter", found.records[SEALED], lambda record: [one("usage", "command") if _owes(record) else one("usage")])
    expect("forward", found.records[SEALED], lambda record: [one("delivered") if record.content["forward_url"] else one()])
    expect("settle", found.records[COMMAND], lambda _: [one("posted"), one("parked"), one("dead")])
    tallied = {key for key in kinds if key[3] == "meter.tally"}
    inputs = {record.place for record in found.records[USAGE]}
    for key in tallied:
        del kinds[key]
        if key[:3] not in inputs:
            result.fault(f"a total follows from {key[:3]}, which is not there")
    for key, came in kinds.items():
        result.fault(f"{dict(came)} in {key[3]} follows from {key[:3]}, which is not there")


def _owes(record):
    amount = _money(record.content["amount"])
    return amount is not None and amount[1] > 0


def _kind_of(record):
    if record.topic == ADMITTED:
        return "replay" if record.content["admission"] is None else "admitted"
    if record.topic in DEAD.values():
        return "dead"
    return {
        REQUESTED: "moved", REJECTED: "rejected", SEALED: "sealed", USAGE: "usage", COMMAND: "command", POSTED: "posted",
        PARKED: "parked", DELIVERED: "delivered", TOTAL: TOTAL,
    }[record.topic]  # fmt: skip


@check("within a partition the causes of a step rise: the order of every key is kept, nothing is repeated")
def order(story, found, result):
    highest = {}
    for step, record in _written(found):
        if record.topic == DELIVERED or record.cause is None:
            continue
        topic, partition, offset, index = record.cause
        source = (step, record.topic, record.partition, topic, partition)
        result.looked_at += 1
        before = highest.get(source)
        if before is not None and (offset, index) <= before[0]:
            result.fault(f"{record}: cause {partition}:{offset}:{index} after {before[0][0]}:{before[0][1]} of {before[1]}")
        highest[source] = ((offset, index), record)


@check("no cause is named twice")
def causes(story, found, result):
    seen = {}
    for step, record in _written(found):
        if record.cause is None:
            continue
        result.looked_at += 1
        other = seen.setdefault((step, record.cause), record)
        if other is not record:
            result.fault(f"{record} and {other} both name the cause {record.cause[1:]} in {step}")


@check("public records carry the headers that readers are promised", log_only=True)
def headers(story, found, result):
    for topic in (SEALED, REJECTED, USAGE, POSTED, PARKED, DELIVERED):
        for record in found.records[topic]:
            content = record.content
            expected = (content["exchange_id"], topic, f"countersign/{content['tenant']}")
            result.equal(f"{record}", expected, tuple(record.headers.get(name) for name in ("ce_id", "ce_type", "ce_source")))


# --- Transactions ---------------------------------------------------------------------------------------------------------------------


@check("what follows from one input is in one transaction, committed with the input's offset", log_only=True)
def one_transaction(story, found, result):
    ledger, owners = found.transactions, {}
    result.faults.extend(ledger.faults)
    answers_ = [record for record in found.records[ANSWER] if record.cause is not None]
    for step, record in [*_written(found), *((None, record) for record in answers_)]:
        if record.cause is None:
            continue
        owner = ledger.of(*record.place)
        result.looked_at += 1
        if not isinstance(owner, segments.Transaction):
            result.fault(f"{record} is in no transaction that is known: {owner}")
            continue
        step = step or owner.step
        if not owner.is_committed:
            result.fault(f"{record} was read, but its transaction {owner} was aborted")
        if owner.step != step:
            result.fault(f"{record} of {step} is in a transaction of {owner.step}")
        if step == "forward" and record.topic == DELIVERED:
            continue  # Its input was committed long before; there is one outcome to one call.
        topic, partition, offset, _ = record.cause
        other = owners.setdefault((step, topic, partition, offset), (owner, record))
        if other[0] is not owner:
            result.fault(f"{record} is in {owner}, {other[1]} of the same cause in {other[0]}")
    for owner in {id(owner): owner for owner, _ in owners.values()}.values():
        result.looked_at += 1
        if not any(topic == segments.OFFSETS_TOPIC for topic, _ in owner.partitions):
            result.fault(f"the transaction {owner} wrote records without an offset")
    for record in found.records[REQUESTED]:
        if record.cause is None and ledger.of(*record.place) != segments.OUTSIDE:
            result.fault(f"{record} comes from a client, and is in {ledger.of(*record.place)}")


@check("the last stable offset reaches every end in time", log_only=True)
def stable(story, found, result):
    """An end seen at some moment is stable within the transaction timeout and ten seconds, not counting the time in which a
    broker was away; at last every end is."""
    away = [(fault["at"], fault["until"]) for fault in found.faults if fault["target"].startswith("broker")]
    timeout = (found.transactions.timeout_ms / 1000 if found.transactions else 0) or TRANSACTION_TIMEOUT_S
    reached = defaultdict(lambda: ([], []))
    for at, places in found.stable:
        for place, (last_stable, _) in places.items():
            offsets, times = reached[place]
            offsets.append(max(last_stable, offsets[-1] if offsets else 0))
            times.append(at)
    for place, (_, times) in reached.items():
        if times[-1] < found.stable[-1][0]:
            result.fault(f"{place} was not seen again after {found.stable[-1][0] - times[-1]:.1f} s before the end")
    for at, places in found.stable:
        for place, (_, end) in places.items():
            result.looked_at += 1
            offsets, times = reached[place]
            index = bisect.bisect_left(offsets, end)
            if index == len(offsets):
                result.fault(f"{place}: the end {end} never became stable")
                continue
            when = times[index]
            outage = sum(max(0.0, min(until, when) - max(start, at)) for start, until in away)
            allowed = timeout + LSO_GRACE_S + outage
            if when - at > allowed:
                result.fault(f"{place}: the end {end} became stable after {when - at:.1f} s, {allowed:.1f} s are allowed")


# --- What readers saw meanwhile -------------------------------------------------------------------------------------------------------


@check("a reader that ran all the while saw each committed record once, in order, and nothing else", log_only=True)
def readers(story, found, result):
    result.faults.extend(found.watch_faults)
    final = {(record.topic, record.partition): {} for records in found.records.values() for record in records}
    for records in found.records.values():
        for record in records:
            final[(record.topic, record.partition)][record.offset] = record.fingerprint
    last, seen = {}, defaultdict(set)
    for topic, partition, offset, fingerprint, *_ in found.watched:
        place = (topic, partition)
        result.looked_at += 1
        if offset <= last.get(place, -1):
            result.fault(f"{topic}:{partition}:{offset} was read after {last[place]}: again, or out of order")
        last[place] = max(offset, last.get(place, -1))
        seen[place].add(offset)
        known = final.get(place, {}).get(offset)
        if known is None and topic != TOTAL:
            result.fault(f"{topic}:{partition}:{offset} was read meanwhile and is not in the log: an aborted record")
        elif known is not None and known != fingerprint:
            result.fault(f"{topic}:{partition}:{offset} was read with other content than it has")
    for place, offsets in final.items():
        if place in last:
            for offset in sorted(offset for offset in offsets if offset <= last[place] and offset not in seen[place]):
                result.fault(f"{place[0]}:{place[1]}:{offset} was passed over by the reader")


# --- The books and the read model -------------------------------------------------------------------------------------------------------


@check("the books are closed by audit, with the oracle's own counts")
def books(story, found, result):
    report = found.books
    result.equal("closed", True, report.get("closed"))
    result.equal("gaps", [], report.get("gaps"))
    for equation in report.get("equations", ()):
        result.equal(equation["name"], (True, 0), (equation["holds"], equation["in_flight"]))
    for money in report.get("balances", ()):
        result.equal(f"the sum of {money['currency']}", "0", money["sum"])
    sealed_ids = story.ids(lambda one: one.is_sealed)
    owed = story.ids(lambda one: one.is_charged)
    expected = {
        "admitted": len(story.ids(lambda one: one.expect not in BY_CANONICALISE)),
        "sealed": len(sealed_ids),
        "metered": len(sealed_ids),
        "priced": len(owed),
        "owed": len(owed),
        "posted": len({name for name in owed if rules.has_tariff(story.exchanges[name].amount[0])}),
        "deliveries_owed": len({name for name in sealed_ids if story.exchanges[name].delivery}),
        "refused": len(story.ids(lambda one: not one.is_sealed and one.expect not in BY_CANONICALISE)),
    }
    expected["parked"] = expected["owed"] - expected["posted"]
    expected["deliveries_recorded"] = expected["deliveries_owed"]
    expected["dead"] = len(found.records[DEAD["canonicalise"]]) if found.has_log else len(story.forged)
    expected["requested"] = len(found.records[REQUESTED])
    for name, count in expected.items():
        result.equal(name, count, report.get("totals", {}).get(name))


@check("GET tells the same story")
def views(story, found, result):
    receipts = {record.content["exchange_id"]: _receipt(record) for record in found.records[SEALED]}
    posted = {record.content["exchange_id"] for record in found.records[POSTED]}
    parked = {record.content["exchange_id"] for record in found.records[PARKED]}
    for name, body in found.views.items():
        exchange = story.exchanges[name]
        result.equal(f"{name}: status", "sealed" if exchange.is_sealed else "refused", body.get("status"))
        if not exchange.is_sealed:
            result.equal(f"{name}: refusal", exchange.expect, (body.get("refusal") or {}).get("code"))
            continue
        result.equal(f"{name}: receipt", receipts.get(name), body.get("receipt"))
        result.equal(f"{name}: outcomes of deliveries", int(exchange.delivery is not None), len(body.get("deliveries", ())))
        state = "posted" if name in posted else "parked" if name in parked else None
        result.equal(f"{name}: settlement", state, (body.get("settlement") or {}).get("state"))
