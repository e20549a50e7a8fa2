"""The rules as they are published, by examples that were published too; and the other parts that need no Kafka."""

from __future__ import annotations

import json
import struct
import unittest

from . import load, plan, rules, segments, wire
from .story import Story

EVIDENCE = wire.SCHEMAS.parent / "crates/proof/vectors/evidence-vectors.json"


class Rules(unittest.TestCase):
    def test_ids_are_those_of_the_published_examples(self):
        self.assertEqual(rules.exchange_id("acme", "key-0"), "ex_a46f1z1wmbq2pds9zabtvhng7b")
        self.assertEqual(rules.exchange_id("zurich-7", "order/2026-11-21#0001"), "ex_8nmg8kf2wf8v6rc7g7rntbdqey")

    def test_fees_round_half_up_and_never_exceed_the_price(self):
        self.assertEqual([rules.fee(gross, 0) for gross in (0, 1, 28, 29, 30, 1250, 10_000)], [0, 1, 28, 29, 29, 63, 308])
        volumes = (99_999, 100_000, 999_999, 1_000_000, 5_000_000)
        self.assertEqual([rules.fee(10_000, volume) for volume in volumes], [308, 293, 293, 277, 262])

    def test_partitions_are_those_of_the_java_client(self):
        known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
        for key, hashed in known.items():
            self.assertEqual(rules.murmur2(key), hashed & 0xFFFFFFFF, key)

    def test_months_and_times(self):
        self.assertEqual(rules.unix_ms("2026-11-21T15:00:00.123Z"), 1_795_273_200_123)
        self.assertEqual((rules.month_of(1_793_491_199_999), rules.month_of(1_793_491_200_000)), ("2026-10", "2026-11"))
        with self.assertRaises(rules.Broken):
            rules.unix_ms("2026-11-21T15:00:00Z")

    def test_repeated_names_are_an_error(self):
        with self.assertRaises(rules.Broken):
            rules.loads('{"a":1,"a":1}')

    def test_records_read_as_their_golden_samples(self):
        schemas = wire.Schemas()
        for folder in sorted(wire.SCHEMAS.glob("*.v1")):
            value = bytes.fromhex((folder / "1.golden.hex").read_text().strip())
            sample = json.loads((folder / "1.golden.json").read_text())
            record = schemas.decode(value)
            self.assertEqual(set(record), set(sample), folder.name)
            for name, expected in sample.items():
                if isinstance(expected, (str, int)) and not isinstance(record[name], bytes):
                    self.assertEqual(record[name], expected, f"{folder.name} {name}")
        with self.assertRaises(wire.Unreadable):
            schemas.decode(b"\0\0\0\x03\xe7")


class ThePlan(unittest.TestCase):
    def test_follows_from_the_seed_alone(self):
        for profile in ("local", "cluster"):
            self.assertEqual(plan.plan(profile, 30, 7), plan.plan(profile, 30, 7))
            self.assertNotEqual(plan.plan(profile, 30, 7), plan.plan(profile, 30, 8))

    def test_holds_what_matters_in_two_minutes_and_everything_in_thirty(self):
        for profile, short, whole in (("local", 4, 9), ("cluster", 6, 13)):
            for seed in range(20):
                kinds = {fault.kind for fault in plan.plan(profile, 2, seed)}
                self.assertTrue({"kill"} <= kinds and len(kinds) >= short, (profile, seed, kinds))
                faults = plan.plan(profile, 30, seed)
                self.assertGreaterEqual(len({(fault.kind, fault.target.split(" ")[0]) for fault in faults}), whole)
                self.assertLess(faults[-1].at + faults[-1].seconds, 30 * 60)
                self.assertEqual([fault.at for fault in faults], sorted(fault.at for fault in faults))
        killed = {fault.target for fault in plan.plan("cluster", 30, 1) if fault.kind == "kill"}
        self.assertEqual(killed, set(plan.ROLES))


class TheLoad(unittest.TestCase):
    def maker(self, seed=3):
        urls = {kind: f"https://localhost:1/{kind}" for kind in ("taken", "slow", "flaky", "gone")}
        producers = {"alpha": load.Producer("producer-1", "csp_" + "a" * 43)}
        return load.Maker(seed, urls, producers, 4)

    def test_is_the_same_each_time(self):
        one, other = self.maker(), self.maker()
        for number in range(300):
            self.assertEqual(one.make(number), other.make(number))
        self.assertNotEqual(self.maker(4).make(0), one.make(0))

    def test_holds_something_of_everything_and_no_key_twice(self):
        story, roles, records = Story(), set(), 0
        maker = self.maker()
        for number in range(6000):
            script = maker.make(number)
            for line in script.journal:
                story.tell(line)
            roles |= {(request.role, request.expect) for phase in script.phases for request in phase}
            records += len(script.foreign)
        exchanges = story.exchanges.values()
        self.assertTrue({"sealed", "destination_denied", "chain_conflict"} == {one.expect for one in exchanges})
        self.assertTrue({"taken", "slow", "flaky", "gone", None} == {one.delivery for one in exchanges})
        self.assertTrue({code for _, code in load.MALFORMED} <= {code for role, code in roles if role == "door"})
        self.assertTrue({"first", "again", "reused", "door"} == {role for role, _ in roles})
        self.assertTrue({"unauthenticated", "unknown_schema"} == set(story.forged.values()))
        self.assertTrue(any(one.reused for one in exchanges) and story.door_only and records > 100)
        hot = sum(one.tenant == "hot" for one in exchanges)
        self.assertTrue(0.4 < hot / len(story.exchanges) < 0.6)

    def test_writes_the_same_request_in_many_ways(self):
        import random

        draft = load.Draft({"b": -0.0, "a": 4.0, "é": "\u2028"}, "t", ["USD", 5, "z"], None)
        bodies = {draft.body(random.Random(seed)) for seed in range(40)}
        self.assertGreater(len(bodies), 10)
        for body in bodies:
            told = json.loads(body)
            self.assertEqual(rules.canonical(told["payload"]), rules.canonical(draft.payload))
            self.assertEqual((told["trace_id"], told["amount"]["minor"]), ("t", "5"))


# --- Segments -------------------------------------------------------------------------------------------------------------------------


def zigzag(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def record(key, value, delta):
    body = b"\0" + zigzag(0) + zigzag(delta)
    for part in (key, value):
        body += zigzag(-1) if part is None else zigzag(len(part)) + part
    body += zigzag(0)
    return zigzag(len(body)) + body


def batch(first, records, producer=-1, attributes=0, at=0):
    body = b"".join(record(key, value, delta) for delta, (key, value) in enumerate(records))
    last = len(records) - 1
    head = segments.BATCH.pack(first, 49 + len(body), 0, 2, 0, attributes, last, at, at, producer, 0, 0, len(records))
    return head + body


def marker(first, producer, kind, at):
    return batch(first, [(struct.pack(">hh", 0, kind), b"\0" * 6)], producer, segments.IS_TRANSACTIONAL | segments.IS_CONTROL, at)


def written(first, count, producer, at=0):
    return batch(first, [(b"k", b"v")] * count, producer, segments.IS_TRANSACTIONAL, at)


def state(transactional_id, producer, status, places, at, version):
    """An entry of `__transaction_state` in either form."""
    topics = sorted({topic for topic, _ in places})

    def count(number):
        return bytes([number + 1]) if version else struct.pack(">i", number)

    def text(word):
        return (bytes([len(word) + 1]) if version else struct.pack(">h", len(word))) + word.encode()

    tags = b"\0" if version else b""
    body = struct.pack(">hqhib", version, producer, 0, 40_000, status) + count(len(topics))
    for topic in topics:
        numbers = sorted(number for name, number in places if name == topic)
        body += text(topic) + count(len(numbers)) + b"".join(struct.pack(">i", number) for number in numbers) + tags
    body += struct.pack(">qq", at, at) + tags
    return struct.pack(">hh", 0, len(transactional_id)) + transactional_id.encode(), body


class Segments(unittest.TestCase):
    def ledger(self, partitions, states, version=1):
        # What is inside the entry of a completion is the time before the markers; its batch's is the time after.
        entries = [batch(number, [state(*one, version)], at=one[4] + (8 if one[2] >= 4 else 0)) for number, one in enumerate(states)]
        read = {place: list(segments.batches(b"".join(found))) for place, found in partitions.items()}
        read[(segments.STATE_TOPIC, 0)] = list(segments.batches(b"".join(entries)))
        return segments.ledger(read)

    def world(self, version=1, **partitions):
        both = frozenset({("a", 0), ("b", 0)})
        states = [
            ("sign-0-a", 7, 2, both, 100), ("sign-0-a", 7, 4, frozenset(), 102),
            ("sign-0-a", 7, 3, both, 200), ("sign-0-a", 7, 5, frozenset(), 202),
            ("sign-0-a", 7, 2, both, 300), ("sign-0-a", 7, 4, frozenset(), 302),
        ]  # fmt: skip
        known = {
            ("a", 0): [written(0, 2, 7), marker(2, 7, 1, 105), written(3, 1, 7), marker(4, 7, 0, 205), written(5, 1, 7), marker(6, 7, 1, 305)],
            ("b", 0): [written(0, 1, 7), marker(1, 7, 1, 106), marker(2, 7, 0, 204), written(3, 1, 7), marker(4, 7, 1, 309), batch(5, [(b"k", b"v")])],
        }
        return self.ledger({**known, **{(name, 0): found for name, found in partitions.items()}}, states, version)

    def test_records_of_one_transaction_are_known_across_partitions(self):
        for version in (0, 1):
            ledger = self.world(version)
            self.assertEqual(ledger.faults, [])
            self.assertEqual(ledger.timeout_ms, 40_000)
            first, second, third = ledger.by_producer[7]
            self.assertEqual([one.is_committed for one in (first, second, third)], [True, False, True])
            self.assertIs(ledger.of("a", 0, 0), first)
            self.assertIs(ledger.of("a", 0, 1), ledger.of("b", 0, 0))
            self.assertIs(ledger.of("a", 0, 3), second)
            self.assertIs(ledger.of("a", 0, 5), third)
            # The second wrote nothing to b: its third share is not taken for the second's.
            self.assertIs(ledger.of("b", 0, 3), third)
            self.assertEqual(ledger.of("b", 0, 5), segments.OUTSIDE)
            self.assertIsNone(ledger.of("a", 0, 2))
            self.assertIsNone(ledger.of("a", 0, 9))
            self.assertEqual((first.step, str(third)), ("sign", "sign-0-a#2"))

    def test_a_marker_that_nothing_explains_is_a_fault(self):
        late = self.world(a=[written(0, 1, 7), marker(1, 7, 1, 150)])
        self.assertEqual(len(late.faults), 1)
        other_kind = self.world(a=[written(0, 1, 7), marker(1, 7, 0, 105)])
        self.assertEqual(len(other_kind.faults), 1)
        stranger = self.world(a=[written(0, 1, 8), marker(1, 8, 1, 105)])
        self.assertEqual(len(stranger.faults), 1)

    def test_a_marker_written_again_changes_nothing(self):
        again = self.world(a=[written(0, 1, 7), marker(1, 7, 1, 103), marker(2, 7, 1, 104), written(3, 1, 7), marker(4, 7, 1, 305)])
        self.assertEqual(again.faults, [])
        self.assertEqual(str(again.of("a", 0, 3)), "sign-0-a#2")

    def test_what_has_no_marker_is_in_no_transaction(self):
        self.assertIsNone(self.world(a=[written(0, 1, 7)]).of("a", 0, 0))

    def test_a_torn_batch_is_passed_over(self):
        whole = batch(0, [(b"k", b"v")])
        self.assertEqual(len(list(segments.batches(whole + whole[:-1]))), 1)


if __name__ == "__main__":
    unittest.main()
