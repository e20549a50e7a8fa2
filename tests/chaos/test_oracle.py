"""The oracle sees what it is there for: a world in which everything holds, and for each check worlds in which one thing does not."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import unittest

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from . import oracle, rules, segments
from .story import Call, Found, Story
from .wire import ADMITTED, ANSWER, COMMAND, DEAD, DELIVERED, PARKED, POSTED, REJECTED, REQUESTED, SEALED, TOTAL, USAGE, Record

T0 = 1_795_273_200_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(key):
    x = b64(key.public_key().public_bytes_raw())
    member = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    kid = b64(hashlib.sha256(member.encode()).digest())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA", "nbf": T0 // 1000 - 86_400}


def sign(content, kind, key=KEY):
    header = b64(f'{{"alg":"EdDSA","kid":"{jwk(key)["kid"]}","typ":"{kind}"}}'.encode())
    return f"{header}..{b64(key.sign((header + '.' + b64(content)).encode()))}"


def stamp(ms):
    return f"2026-11-21T15:00:{(ms - T0) // 1000:02}.{(ms - T0) % 1000:03}Z"


def seal(receipt, key=KEY):
    """Hash and signature anew."""
    receipt = rules.without(receipt, "receipt_hash", "jws")
    receipt["receipt_hash"] = rules.digest(rules.canonical(receipt))
    receipt["jws"] = sign(rules.canonical(receipt), rules.RECEIPT_JWS, key)
    return receipt


class World:
    """A few exchanges all the way, as an honest pipeline leaves them."""

    def __init__(self):
        self.story, self.found = Story(), Found()
        self.found.jwks = {"keys": [jwk(KEY)]}
        self.offsets, self.owners, self.heads, self.numbers, self.volume, self.vex = {}, {}, {}, 0, 0, 0
        self.transactions = {}
        for number in range(3):
            self.exchange(f"hot-{number}", trace="hot")
        self.exchange("priced", amount=["USD", 1250, "agent-7"])
        self.exchange("more", amount=["USD", 120_000, "agent-7"])
        self.exchange("discounted", amount=["USD", 10_000, "agent-7"])
        self.exchange("free", amount=["USD", 0, "agent-7"])
        self.exchange("euro", amount=["EUR", 400, "agent-7"])
        self.exchange("sent", delivery="flaky", url="https://localhost:1/flaky")
        self.exchange("gone", delivery="gone", url="https://localhost:2/gone")
        self.refused("denied", "destination_denied", "canonicalise", url="https://elsewhere.example/in")
        self.refused("behind", "chain_conflict", "sign", trace="hot")
        self.reuse("priced")
        self.replay("priced")
        self.door()
        self.forge()
        self.finish()

    # --- Pieces

    def put(self, topic, key, content, cause=None, transaction=None, **headers):
        offset = self.offsets[topic] = self.offsets.get(topic, -1) + 1
        if cause is not None:
            headers["cause"] = ":".join(map(str, cause))
        record = Record(topic, 0, offset, T0, key, headers, content, f"{topic}{offset}")
        self.found.records[topic].append(record)
        self.owners[record.place] = segments.OUTSIDE if transaction is None else transaction
        return record

    def transaction(self, step):
        number = self.transactions[step] = self.transactions.get(step, -1) + 1
        partitions = frozenset({(segments.OFFSETS_TOPIC, 0)})
        return segments.Transaction(f"{step}-0-a", 7, number, True, partitions, T0 + number, T0 + number)

    def public(self, topic, content):
        return {"ce_id": content["exchange_id"], "ce_type": topic, "ce_source": f"countersign/{content['tenant']}"}

    def request(self, key):
        return self.put(REQUESTED, f"acme:{key}", {"tenant": "acme", "idempotency_key": key})

    def tell(self, key, expect, **members):
        line = {"what": "exchange", "tenant": "acme", "key": key, "trace": None, "cid": rules.digest(b"{}"), "amount": None}
        self.story.tell({**line, "delivery": None, "url": None, "expect": expect, **members})
        return self.story.exchanges[rules.exchange_id("acme", key)]

    def answer(self, exchange, role, expect, status, code, receipt, replayed=False):
        body = {"sealed": receipt and receipt["receipt_hash"]}
        self.story.tell(
            {
                "what": "answer", "tenant": "acme", "key": exchange.key, "role": role, "expect": expect, "status": status, "code": code,
                "replayed": replayed, "body": json.dumps(body), "exchange_id": exchange.id if receipt else "",
                "trace_id": exchange.trace_id if receipt else "", "receipt_hash": receipt["receipt_hash"] if receipt else "",
                "sent": T0 / 1000, "at": T0 / 1000 + 1,
            }
        )  # fmt: skip

    def exchange(self, key, **members):
        exchange = self.tell(key, "sealed", **members)
        request, first, second = self.request(key), self.transaction("canonicalise"), self.transaction("sign")
        content = {"exchange_id": exchange.id, "tenant": "acme", "admission": {}}
        admitted = self.put(ADMITTED, f"acme:{exchange.trace_id}", content, (0, request.offset, 0), first)
        before = self.heads.get(exchange.trace_id)
        at = T0 + admitted.offset
        amount = exchange.amount
        priced = amount and {"currency": amount[0], "minor": str(amount[1]), "payee": amount[2]}
        host = "localhost" if exchange.url else None
        receipt = seal(
            {
                "v": 1, "tenant": "acme", "exchange_id": exchange.id, "trace_id": exchange.trace_id,
                "chain": before["chain"] if before else exchange.id, "hop": before["hop"] + 1 if before else 1, "ts": stamp(at),
                "type": {"payload": "passthrough", "target": "passthrough"}, "request_cid": exchange.cid, "cid": exchange.cid,
                "canon": "RFC8785", "algo": "sha256",
                "policy": {"allowed": True, "reason": "allowlisted" if host else "no_forward", "host": host},
                "usage": {"vex": 1, "fu": 0}, "amount": priced, "prev_receipt_hash": before and before["receipt_hash"],
            }
        )  # fmt: skip
        self.heads[exchange.trace_id] = receipt
        content = {
            "exchange_id": exchange.id, "tenant": "acme", "trace_id": exchange.trace_id, "idempotency_key": key, "admitted_at": at,
            "receipt": json.dumps(receipt), "payload_cid": exchange.cid, "forward_url": exchange.url,
            "amount": amount and {"currency": amount[0], "minor": amount[1], "payee": amount[2]},
        }  # fmt: skip
        cause = (0, admitted.offset, 0)
        sealed = self.put(SEALED, f"acme:{exchange.trace_id}", content, cause, second, **self.public(SEALED, content))
        self.put(ANSWER, exchange.id, {"exchange_id": exchange.id}, (0, admitted.offset, 1), second)
        self.answer(exchange, "first", "sealed", 201, "", receipt)
        self.metered(exchange, sealed)
        if exchange.delivery:
            self.delivered(exchange, sealed)
        self.found.views[exchange.id] = {
            "status": "sealed", "receipt": receipt, "deliveries": [{}] if exchange.delivery else [],
            "settlement": {"state": "posted" if amount[0] == "USD" else "parked"} if exchange.is_charged else None,
        }  # fmt: skip

    def metered(self, exchange, sealed):
        transaction = self.transaction("meter")
        content = {"exchange_id": exchange.id, "tenant": "acme", "month": "2026-11", "vex": 1, "fu": 0}
        used = self.put(USAGE, "acme", content, (0, sealed.offset, 0), transaction, **self.public(USAGE, content))
        self.vex += 1
        tally = self.transaction("meter.tally")
        for index, (meter, total) in enumerate((("vex", self.vex), ("fu", 0))):
            content = {"tenant": "acme", "meter": meter, "month": "2026-11", "total": total, "exchanges": self.vex}
            self.put(TOTAL, f"acme:{meter}:2026-11", content, (0, used.offset, index), tally)
        if not exchange.is_charged:
            return
        currency, gross, payee = exchange.amount

        def transfer(credit, minor):
            return {"debit_account": "acme:main", "credit_account": credit, "currency": currency, "minor": minor}

        owed = [transfer(f"acme:{payee}", gross)]
        content = {"exchange_id": exchange.id, "tenant": "acme", "transfers": owed}
        command = self.put(COMMAND, "acme:main", content, (0, sealed.offset, 1), transaction)
        self.numbers += 1
        content = {"exchange_id": exchange.id, "tenant": "acme", "ledger_partition": 0, "sequence": self.numbers, "transfers": owed}
        if currency == "USD":
            charged = rules.fee(gross, self.volume)
            self.volume += gross
            content.update(transfers=[transfer(f"acme:{payee}", gross - charged), transfer(rules.FEES, charged)], fee_minor=charged)
            topic = POSTED
        else:
            content["reason"], topic = "no_tariff", PARKED
        self.put(topic, "acme", content, (0, command.offset, 0), self.transaction("settle"), **self.public(topic, content))

    def delivered(self, exchange, sealed):
        statuses = [503, 204] if exchange.delivery == "flaky" else [410]
        for status in statuses:
            self.found.calls.append(Call(exchange.id, "/", T0 / 1000, exchange.cid, True, status))
        content = {
            "exchange_id": exchange.id, "tenant": "acme", "delivered": exchange.delivery == "flaky",
            "attempts": [{"attempt": number, "status": status} for number, status in enumerate(statuses, 1)],
        }  # fmt: skip
        headers = self.public(DELIVERED, content)
        self.put(DELIVERED, f"acme:{exchange.trace_id}", content, (0, sealed.offset, 0), self.transaction("forward"), **headers)

    def refused(self, key, code, step, **members):
        exchange = self.tell(key, code, **members)
        request, transaction = self.request(key), self.transaction("canonicalise")
        content = {"exchange_id": exchange.id, "tenant": "acme", "code": code, "decided_by": step, "overwrites": True}
        source = request
        if step == "sign":
            admission = {"exchange_id": exchange.id, "tenant": "acme", "admission": {}}
            source = self.put(ADMITTED, f"acme:{exchange.trace_id}", admission, (0, request.offset, 0), transaction)
            transaction = self.transaction("sign")
        self.put(REJECTED, f"acme:{key}", content, (0, source.offset, 0), transaction, **self.public(REJECTED, content))
        self.answer(exchange, "first", code, 409, code, None)
        self.found.views[exchange.id] = {"status": "refused", "refusal": {"code": code}}

    def reuse(self, key):
        self.story.tell({"what": "reused", "tenant": "acme", "key": key})
        exchange = self.story.exchanges[rules.exchange_id("acme", key)]
        request = self.request(key)
        code = "idempotency_key_reused"
        content = {"exchange_id": exchange.id, "tenant": "acme", "code": code, "decided_by": "canonicalise", "overwrites": False}
        headers = self.public(REJECTED, content)
        self.put(REJECTED, f"acme:{key}", content, (0, request.offset, 0), self.transaction("canonicalise"), **headers)
        self.answer(exchange, "reused", code, 422, code, None)

    def replay(self, key):
        exchange = self.story.exchanges[rules.exchange_id("acme", key)]
        request = self.request(key)
        content = {"exchange_id": exchange.id, "tenant": "acme", "admission": None}
        self.put(ADMITTED, f"acme:{exchange.trace_id}", content, (0, request.offset, 0), self.transaction("canonicalise"))
        self.answer(exchange, "again", "sealed", 201, "", self.heads[exchange.trace_id], replayed=True)

    def door(self):
        self.story.tell({"what": "door_only", "tenant": "acme", "key": "door"})
        line = {"what": "answer", "tenant": "acme", "key": "door", "role": "door", "expect": "malformed_json", "status": 400}
        self.story.tell(
            {**line, "code": "malformed_json", "replayed": False, "body": "", "exchange_id": "", "trace_id": "", "receipt_hash": "", "sent": 0, "at": 1}
        )

    def forge(self):
        self.story.tell({"what": "forged", "key": "acme:forged", "reason": "unauthenticated"})
        request = self.request("forged")
        letter = {"reason": "unauthenticated", "detail": "no signature"}
        self.put(DEAD["canonicalise"], "acme:forged", None, (0, request.offset, 0), self.transaction("canonicalise"), **letter)

    def finish(self):
        found = self.found

        class Transactions:
            """What segments.Ledger answers."""

            faults, timeout_ms, owners = [], 40_000, self.owners

            def of(self, *place):
                return self.owners.get(place)

        found.transactions = Transactions()
        totals = {
            "admitted": 11, "sealed": 10, "metered": 10, "priced": 4, "owed": 4, "posted": 3, "parked": 1, "deliveries_owed": 2,
            "deliveries_recorded": 2, "refused": 1, "requested": len(found.records[REQUESTED]), "dead": 1,
        }  # fmt: skip
        found.books = {
            "closed": True, "gaps": [], "totals": totals, "balances": [{"currency": "USD", "sum": "0"}],
            "equations": [{"name": "sealed = metered", "left": 10, "right": 10, "in_flight": 0, "holds": True}],
        }  # fmt: skip
        credited = sum(gross - charged for gross, charged in ((1250, 63), (120_000, 3388), (10_000, 293)))
        found.accounts = {"acme": {"acme:main": {"USD": -131_250}, "acme:agent-7": {"USD": credited}}}
        found.usage = {"acme": {"2026-11": {"vex": [10, 10], "fu": [0, 10]}}}
        receipts = [oracle._receipt(record) for record in found.records[SEALED] if record.content["trace_id"] == "hot"]
        bundle = {"v": 1, "tenant": "acme", "trace_id": "hot", "chain": receipts[0]["chain"], "exported_at": stamp(T0 + 9000)}
        bundle.update(receipts=receipts, keys=[jwk(KEY)])
        bundle["bundle_cid"] = rules.digest(rules.canonical(bundle))
        bundle["jws"] = sign(rules.canonical(bundle), rules.BUNDLE_JWS)
        found.bundles = [("acme", "hot", bundle)]
        for records in found.records.values():
            for record in records:
                found.watched.append([record.topic, record.partition, record.offset, record.fingerprint, 0, 0, None])
        found.stable = [[100.0 + second, {f"{SEALED}:0": [second, min(second + 1, 99)]}] for second in range(100)]

    # --- For mutations

    def record(self, topic, at=0):
        return self.found.records[topic][at]

    def drop(self, topic, at=0):
        del self.found.records[topic][at]

    def double(self, topic, at=0):
        """The record once more at the end, as if its input had been taken twice."""
        twin = copy.deepcopy(self.record(topic, at))
        twin.offset = self.found.records[topic][-1].offset + 1
        self.owners[twin.place] = self.owners[self.record(topic, at).place]
        self.found.records[topic].append(twin)
        return twin

    def reseal(self, at, key=KEY, **members):
        """Another receipt in a sealed record, with a hash and signature that fit."""
        record = self.record(SEALED, at)
        receipt = seal({**oracle._receipt(record), **members}, key)
        record.content.update(receipt=json.dumps(receipt), _receipt=receipt)

    def swap(self, topic, one, other):
        records = self.found.records[topic]
        records[one].offset, records[other].offset = records[other].offset, records[one].offset
        records[one], records[other] = records[other], records[one]


def change(path, value):
    """A mutation that sets one thing: `topic`, number, member..."""

    def mutate(world):
        topic, at, *members, last = path
        target = world.record(topic, at).content
        for member in members:
            target = target[member]
        target[last] = value

    return mutate


def answered(role="first", at=0, **members):
    def mutate(world):
        found = [answer for answer in world.story.answers if answer.role == role][at]
        for name, value in members.items():
            setattr(found, name, value)

    return mutate


def of_found(mutate):
    return lambda world: mutate(world.found)


def owner_of(topic, at, owner):
    def mutate(world):
        world.owners[world.record(topic, at).place] = owner(world) if callable(owner) else owner

    return mutate


def aborted(world):
    owner = world.owners[world.record(SEALED, 0).place]
    owner.is_committed = False


def without_offsets(world):
    world.owners[world.record(USAGE, 0).place].partitions = frozenset({(USAGE, 0)})


def cause(topic, at, text):
    return lambda world: world.record(topic, at).headers.update(cause=text)


def unread(world):
    world.found.watched = [line for line in world.found.watched if line[:3] != [SEALED, 0, 4]]


def stuck(found):
    found.stable = [[at, {place: [3, end] for place, (_, end) in places.items()}] for at, places in found.stable]


def late(found):
    """Sixty seconds at one place, and then it goes on."""
    found.stable += [[200.0 + second, {f"{SEALED}:0": [99, 101]}] for second in range(60)]
    found.stable.append([260.0, {f"{SEALED}:0": [101, 101]}])


def unstable_at_the_end(found):
    found.stable[-1][1][f"{SEALED}:0"][1] += 1


def out_of_sight(found):
    found.stable.append([201.0, {}])


def unasked(world):
    world.found.records[SEALED][0].content["exchange_id"] = rules.exchange_id("acme", "nobody")


def bad_bundle(world):
    world.found.bundles[0][2]["receipts"].pop()


def letter(world):
    world.put(DEAD["sign"], "acme:x", None, (0, 0, 0), world.transaction("sign"), reason="panicked")


#: check -> worlds in which it must not hold
VIOLATIONS = {
    "decided": [
        lambda world: world.story.undecided.append(("acme", "hot-0", "first")),
        lambda world: world.story.answers.pop(0),
    ],
    "answers": [answered(status=202), answered(exchange_id="ex_other"), answered(trace_id="other"), answered("reused", code="sealed"), answered("door", code="")],
    "same_answers": [answered("again", body="another")],
    "receipts_given": [answered(receipt_hash="sha256:other"), lambda world: world.drop(SEALED)],
    "admitted": [lambda world: world.drop(ADMITTED), lambda world: world.double(ADMITTED)],
    "sealed": [lambda world: world.drop(SEALED), lambda world: world.double(SEALED), unasked],
    "rejected": [
        lambda world: world.drop(REJECTED), lambda world: world.double(REJECTED), change((REJECTED, 0, "code"), "chain_conflict"),
        change((REJECTED, 2, "overwrites"), True), change((REJECTED, 1, "decided_by"), "canonicalise"),
    ],
    "nothing_of_the_door": [
        lambda world: world.record(SEALED).content.update(exchange_id=rules.exchange_id("acme", "door")),
        lambda world: world.record(ADMITTED).content.update(exchange_id=rules.exchange_id("acme", "forged")),
    ],
    "dead_letters": [letter, lambda world: world.drop(DEAD["canonicalise"]), lambda world: world.record(DEAD["canonicalise"]).headers.update(reason="panicked")],
    "seals": [
        change((SEALED, 3, "amount", "minor"), 1251), change((SEALED, 0, "payload_cid"), "sha256:other"), change((SEALED, 8, "forward_url"), None),
        lambda world: world.reseal(0, cid="sha256:other"), lambda world: world.reseal(3, amount=None), lambda world: world.reseal(0, usage={"vex": 2, "fu": 0}),
        lambda world: setattr(world.record(SEALED), "key", "acme:other"), change((SEALED, 0, "admitted_at"), T0 + 60_000),
    ],
    "signatures": [
        lambda world: world.reseal(0, key=STRANGER), lambda world: oracle._receipt(world.record(SEALED)).update(hop=9),
        lambda world: world.found.jwks["keys"][0].update(exp=T0 // 1000 - 1), lambda world: oracle._receipt(world.record(SEALED)).update(more=1),
        lambda world: oracle._receipt(world.record(SEALED)).update(jws=oracle._receipt(world.record(SEALED, 1))["jws"]),
    ],
    "chains": [
        lambda world: world.reseal(1, hop=3), lambda world: world.reseal(1, prev_receipt_hash="sha256:other"), lambda world: world.reseal(2, ts=stamp(T0 - 0)),
        lambda world: world.reseal(1, chain=rules.exchange_id("acme", "hot-1")), lambda world: world.drop(SEALED, 1), lambda world: world.swap(SEALED, 1, 2),
        lambda world: setattr(world.record(SEALED, 1), "partition", 1),
    ],
    "bundles": [bad_bundle, lambda world: world.found.bundles[0][2].update(chain="ex_other"), lambda world: world.found.bundles[0][2].pop("jws")],
    "usage": [
        lambda world: world.drop(USAGE), lambda world: world.double(USAGE), change((USAGE, 0, "vex"), 2), change((USAGE, 0, "month"), "2026-10"),
    ],
    "totals": [
        change((TOTAL, -2, "total"), 11), change((TOTAL, 2, "exchanges"), 1), lambda world: world.drop(TOTAL, -2),
        of_found(lambda found: found.usage["acme"]["2026-11"].update(vex=[9, 9])), lambda world: world.double(TOTAL, 0),
    ],
    "settled": [
        lambda world: world.drop(POSTED), lambda world: world.double(POSTED), lambda world: world.double(COMMAND), lambda world: world.drop(PARKED),
        change((PARKED, 0, "reason"), "no_fee"), change((COMMAND, 0, "transfers", 0, "minor"), 1249),
    ],
    "fees": [change((POSTED, 0, "fee_minor"), 64), change((POSTED, 2, "transfers", 1, "minor"), 308), change((POSTED, 0, "transfers", 0, "credit_account"), "acme:other")],
    "sequences": [change((POSTED, 1, "sequence"), 7), change((POSTED, 1, "sequence"), 1)],
    "balances": [
        change((POSTED, 0, "transfers", 0, "minor"), 1188), lambda world: world.double(POSTED), lambda world: world.drop(POSTED),
        of_found(lambda found: found.accounts["acme"]["acme:main"].update(USD=-131_249)),
        of_found(lambda found: found.accounts["acme"].update({"acme:strange": {"USD": 1}})),
    ],
    "deliveries": [
        lambda world: world.drop(DELIVERED), lambda world: world.double(DELIVERED), change((DELIVERED, 0, "delivered"), False),
        change((DELIVERED, 0, "attempts", 0, "attempt"), 2), change((DELIVERED, 1, "attempts", 0, "status"), 204),
        of_found(lambda found: found.calls.pop(0)), of_found(lambda found: setattr(found.calls[0], "signed", False)),
        of_found(lambda found: setattr(found.calls[0], "cid", "sha256:other")),
        of_found(lambda found: found.calls.append(Call("ex_nobody", "/", 0, "", True, 204))), of_found(lambda found: found.calls.clear()),
    ],
    "successors": [
        lambda world: world.drop(ADMITTED), lambda world: world.drop(SEALED), lambda world: world.drop(USAGE), lambda world: world.drop(COMMAND),
        lambda world: world.drop(POSTED), lambda world: world.drop(DELIVERED), lambda world: world.double(SEALED), lambda world: world.double(ADMITTED),
        cause(SEALED, 0, "0:77:0"), lambda world: world.record(USAGE).headers.pop("cause"), lambda world: world.record(USAGE).headers.update({"cause-topic": "meter.redo.v1"}),
        lambda world: world.drop(DEAD["canonicalise"]), cause(TOTAL, 0, "0:77:0"),
    ],
    "order": [lambda world: world.swap(SEALED, 0, 1), lambda world: world.swap(ADMITTED, 3, 4), lambda world: world.double(USAGE), cause(POSTED, 0, "0:9:0")],
    "causes": [lambda world: world.double(SEALED), cause(SEALED, 0, "0:1:0")],
    "headers": [lambda world: world.record(SEALED).headers.update(ce_id="ex_other"), lambda world: world.record(POSTED).headers.pop("ce_source")],
    "one_transaction": [
        owner_of(COMMAND, 0, lambda world: world.transaction("meter")), owner_of(ANSWER, 0, lambda world: world.transaction("sign")), aborted, without_offsets,
        owner_of(SEALED, 0, segments.OUTSIDE), owner_of(SEALED, 0, None), owner_of(REQUESTED, 0, lambda world: world.transaction("sign")),
        owner_of(USAGE, 0, lambda world: world.transaction("settle")), of_found(lambda found: found.transactions.faults.append("a marker")),
    ],
    "stable": [of_found(mutate) for mutate in (stuck, late, unstable_at_the_end, out_of_sight)],
    "readers": [
        unread, of_found(lambda found: found.watched.append(list(found.watched[0]))), of_found(lambda found: found.watched[3].__setitem__(3, "other")),
        of_found(lambda found: found.watched.append([SEALED, 0, 99, "x", 0, 0, None])), of_found(lambda found: found.watch_faults.append("its place is gone")),
    ],
    "books": [
        of_found(lambda found: found.books.update(closed=False)), of_found(lambda found: found.books["totals"].update(sealed=9)),
        of_found(lambda found: found.books["balances"][0].update(sum="1")), of_found(lambda found: found.books["gaps"].append("one")),
        of_found(lambda found: found.books["equations"][0].update(holds=False)), of_found(lambda found: found.books.clear()),
    ],
    "views": [
        lambda world: next(iter(world.found.views.values())).update(status="accepted"), lambda world: next(iter(world.found.views.values())).update(receipt=None),
        lambda world: world.found.views[rules.exchange_id("acme", "priced")].update(settlement=None),
        lambda world: world.found.views[rules.exchange_id("acme", "sent")].update(deliveries=[]),
        lambda world: world.found.views[rules.exchange_id("acme", "denied")].update(refusal={"code": "other"}),
    ],
}  # fmt: skip


def judged(world):
    return {result.name: result for result in oracle.judge(world.story, world.found)}


class TheOracle(unittest.TestCase):
    def test_holds_where_everything_holds(self):
        for result in judged(World()).values():
            self.assertTrue(result.holds, f"{result.name}: {result.faults}")
            self.assertFalse(result.skipped)

    def test_sees_every_violation(self):
        for name, mutations in VIOLATIONS.items():
            for number, mutate in enumerate(mutations):
                with self.subTest(check=name, violation=number):
                    world = World()
                    mutate(world)
                    self.assertFalse(judged(world)[name].holds)

    def test_has_a_violation_for_every_check(self):
        self.assertEqual({name for name, *_ in oracle.CHECKS}, set(VIOLATIONS))

    def test_that_looks_at_nothing_does_not_hold(self):
        results = oracle.judge(Story(), Found(books={}, transactions=World().found.transactions))
        empty = {name for name, _, _, _, may_be_empty in oracle.CHECKS if may_be_empty}
        for result in results:
            self.assertEqual(result.holds, result.name in empty, result.name)

    def test_lets_a_call_repeat_and_a_broker_be_away(self):
        world = World()
        world.found.calls.append(copy.copy(world.found.calls[1]))
        self.assertTrue(judged(world)["deliveries"].holds)
        late(world.found)
        world.found.faults = [{"target": "broker 2", "at": 195.0, "until": 240.0}]
        self.assertTrue(judged(world)["stable"].holds)

    def test_without_a_log_looks_at_what_is_public(self):
        world = World()
        world.found.has_log = False
        skipped = {result.name for result in judged(world).values() if result.skipped}
        self.assertEqual(skipped, {"dead_letters", "headers", "one_transaction", "stable", "readers"})


if __name__ == "__main__":
    unittest.main()
