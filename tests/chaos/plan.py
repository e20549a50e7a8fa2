"""Which fault happens when: from profile, length and seed alone. The same seed gives the same plan, wherever and however fast it runs."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

ROLES = ("ingest", "canonicalise", "sign", "meter", "settle", "forward", "view", "audit")
#: Roles of which a second instance joins and leaves the group.
GROUPED = ("canonicalise", "sign", "meter", "settle", "forward")
BROKERS = (1, 2, 3)

#: The load runs by itself so long before the first fault, and after the last.
QUIET_S = 8.0
#: What a fault does at most while it lasts, beyond its own time.
GAP_S = (3.0, 9.0)


@dataclass(frozen=True)
class Fault:
    at: float
    kind: str
    target: str
    #: how long it lasts; 0: it is over when it has happened
    seconds: float = 0.0
    detail: str = ""

    def __str__(self):
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.at:7.1f} s  {self.kind:<18} {self.target}{lasting}{detail}"

    def to_json(self):
        return asdict(self)


def _turns(chance, items):
    """One of the items each time: every one once before any comes again."""
    left = []

    def take():
        if not left:
            left.extend(chance.sample(items, len(items)))
        return left.pop()

    return take


def _some(chance, low, high):
    return round(chance.uniform(low, high), 1)


def _local(chance):
    """Makers of faults for the local profile, each with how often it comes among the others."""
    return {
        "kill": (4, lambda: Fault(0, "kill", "up", 0, "kill -9")),
        "kill_at_start": (2, lambda: Fault(0, "kill_at_start", "up", _some(chance, 0.1, 1.5), "kill -9, and again while it starts")),
        "stop": (2, lambda: Fault(0, "stop", "up", _some(chance, 0.5, 6.0), "SIGSTOP, SIGCONT")),
        "stop_long": (1, lambda: Fault(0, "stop_long", "up", _some(chance, 12.0, 18.0), "SIGSTOP, SIGCONT")),
        "restart": (1, lambda: Fault(0, "restart", "up", 0, "SIGTERM, and a new start")),
        "cut": (2, lambda: Fault(0, "cut", "http", 0, "every connection of the clients")),
        "cut_replies": (2, lambda: Fault(0, "cut_replies", "http", _some(chance, 0.5, 2.0), "requests pass, answers do not")),
        "delay": (1, lambda: Fault(0, "delay", "http", _some(chance, 2.0, 6.0), f"{chance.randint(20, 400)} ms")),
        "refuse": (1, lambda: Fault(0, "refuse", "receiver", _some(chance, 1.0, 4.0), "receivers take no connection")),
        "receiver_delay": (1, lambda: Fault(0, "delay", "receiver", _some(chance, 3.0, 8.0), f"{chance.randint(200, 1500)} ms")),
    }


def _cluster(chance):
    """Makers of faults for the cluster profile."""
    role, stopped = _turns(chance, ROLES), _turns(chance, ROLES)
    grouped, joined, doubled = _turns(chance, GROUPED), _turns(chance, GROUPED), _turns(chance, GROUPED)
    turn = _turns(chance, BROKERS)
    broker = lambda: f"broker {turn()}"  # noqa: E731
    return {
        "kill": (8, lambda: Fault(0, "kill", role(), 0, "kill -9")),
        "stop": (3, lambda: Fault(0, "stop", stopped(), _some(chance, 0.5, 6.0), "SIGSTOP, SIGCONT")),
        # Longer than the session timeout (10 s): the group goes on without it, and it wakes as a zombie.
        "stop_long": (2, lambda: Fault(0, "stop_long", grouped(), _some(chance, 13.0, 18.0), "SIGSTOP, SIGCONT")),
        "broker_kill": (3, lambda: Fault(0, "broker_kill", broker(), _some(chance, 0.5, 4.0), "kill -9")),
        "broker_restart": (1, lambda: Fault(0, "broker_restart", broker(), _some(chance, 0.0, 2.0), "its own shutdown")),
        "broker_stop": (2, lambda: Fault(0, "broker_stop", broker(), _some(chance, 1.0, 9.0), "SIGSTOP, SIGCONT")),
        "database_restart": (
            2,
            lambda: Fault(0, "database_restart", "database", 0, chance.choice(["fast", "immediate"])),
        ),
        "database_cut": (2, lambda: Fault(0, "cut", "database", 0, "every connection")),
        "database_replies": (2, lambda: Fault(0, "cut_replies", "database", _some(chance, 0.3, 1.5), "statements pass, answers do not")),
        "kafka_cut": (2, lambda: Fault(0, "cut", broker(), 0, "every connection of clients")),
        "kafka_replies": (2, lambda: Fault(0, "cut_replies", broker(), _some(chance, 0.3, 2.0), "requests pass, answers do not")),
        "kafka_delay": (2, lambda: Fault(0, "delay", broker(), _some(chance, 2.0, 8.0), f"{chance.randint(20, 1500)} ms")),
        "kafka_hold": (1, lambda: Fault(0, "hold", broker(), _some(chance, 2.0, 9.0), "connections stay, nothing passes")),
        "http_cut": (1, lambda: Fault(0, "cut", "http", 0, "every connection of the clients")),
        "http_replies": (1, lambda: Fault(0, "cut_replies", "http", _some(chance, 0.5, 2.0), "requests pass, answers do not")),
        "refuse": (1, lambda: Fault(0, "refuse", "receiver", _some(chance, 1.0, 4.0), "receivers take no connection")),
        # A second instance of a role joins, works, and leaves: asked to, or killed.
        "rebalance": (4, lambda: Fault(0, "rebalance", joined(), _some(chance, 4.0, 12.0), chance.choice(["asked to leave", "killed"]))),
        # The same slot started a second time: the older one is fenced.
        "same_slot": (1, lambda: Fault(0, "same_slot", doubled(), 0, "a second process with the same slot")),
    }


#: What even a short run must have seen; the first of them twice.
ESSENTIAL = {
    "local": ("kill", "kill_at_start", "stop", "cut_replies"),
    "cluster": ("kill", "broker_kill", "stop_long", "rebalance", "database_restart", "kafka_replies"),
}


def kinds_of(profile):
    """The names that `only` of a plan may have."""
    return sorted((_local if profile == "local" else _cluster)(random.Random(0)))


def plan(profile, minutes, seed, only=()):
    """Faults in the order of their times. Every kind comes once before most come a second time; with `only`, no others come."""
    chance = random.Random(f"countersign chaos {profile} {seed}")
    makers = (_local if profile == "local" else _cluster)(chance)
    makers = {kind: makers[kind] for kind in makers if kind in only or not only}
    essential = [kind for kind in (ESSENTIAL[profile][0], *ESSENTIAL[profile]) if kind in makers]
    others = [kind for kind in makers if kind not in essential]
    chance.shuffle(essential)
    chance.shuffle(others)
    end = minutes * 60 - QUIET_S
    faults, at, kinds = [], QUIET_S, [*essential, *others]
    while True:
        if not kinds:
            kinds = chance.choices(list(makers), weights=[weight for weight, _ in makers.values()], k=20)
        made = makers[kinds.pop(0)][1]()
        if at + made.seconds > end:
            return faults
        faults.append(Fault(round(at, 1), made.kind, made.target, made.seconds, made.detail))
        # Some begin while another still lasts; never two that harm brokers.
        overlaps = chance.random() < 0.15 and "broker" not in made.target
        at += (0.0 if overlaps else made.seconds) + chance.uniform(*GAP_S)
