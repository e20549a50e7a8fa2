"""One run: bring everything up, load it, strike it, let it come to rest, and ask the oracle."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone

from . import gather, load, oracle, plan, report
from .receiver import KINDS, Receivers
from .services import Parts, Proxy, Service, Supervisor, Watch, clean_environment, free_ports, take_binary
from .story import Found, Story
from .strike import Striker

PARTITIONS = {"local": 4, "cluster": 4}
#: Exchanges a second, and clients that send them.
RATE = {"local": 60.0, "cluster": 30.0}
CLIENTS = {"local": 24, "cluster": 32}
#: From the last fault until everything is decided, and until the books are closed: destinations that failed are left alone for a minute.
DECIDED_S = 240.0
BOOKS_S = 420.0
CUT_S = 45


class Run:
    def __init__(self, options, folder):
        self.options, self.folder, self.profile = options, folder, options.profile
        self.supervisor, self.proxy, self.parts, self.watch, self.receivers = Supervisor(), None, None, None, None
        self.load, self.striker = None, None
        self.proxied = {}
        self.over = threading.Event()
        self.binary = take_binary(options.binary, folder)
        self.data = folder / "data"
        self.data.mkdir()
        self._instances = 0
        self._configuration = ""
        self._replication = ""

    def say(self, text):
        print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)

    # --- Up -------------------------------------------------------------------------------------------------------------------------

    def bring_up(self):
        self.proxy = Proxy(self.folder)
        named = self._start_parts() if self.profile == "cluster" else None
        secrets = []
        self.receivers = Receivers(self.folder, secrets)
        ports = {kind: self.proxy.listen(port) for kind, port in self.receivers.ports.items()}
        self.proxied["receiver"] = list(ports.values())
        self.urls = {kind: f"https://localhost:{port}" for kind, port in ports.items()}
        self._configuration = self._configure(named, ports)
        self.http, self.admin = free_ports(2)
        self.proxied["http"] = [self.proxy.listen(self.http)]
        door = self.service("up" if self.profile == "local" else "ingest", f"127.0.0.1:{self.http}")
        # Keys and secrets are made before anything runs; ingest publishes them.
        self.api_keys = {tenant: self.command(door, "keys", "create", "--tenant", tenant).strip() for tenant in load.TENANTS}
        secrets += [self.command(door, "webhooks", "secret", "--tenant", tenant).split()[-1] for tenant in load.TENANTS]
        producers = {}
        if self.profile == "cluster":
            for tenant in ("alpha", "hot"):
                made = json.loads(self.command(door, "producers", "create", "--tenant", tenant, "--json"))
                producers[tenant] = load.Producer(made["id"], made["secret"])
        self._start_services(door)
        if self.profile == "cluster":
            self.watch = Watch(named["kafka_direct"], self.folder)
        maker = load.Maker(self.options.seed, self.urls, producers, PARTITIONS[self.profile])
        self._await_door(self.api_keys["alpha"])
        foreign = load.Foreign(named["kafka"]) if producers else None
        journal = load.Journal(self.folder / "journal.jsonl")
        rate = self.options.rate or RATE[self.profile]
        self.load = load.Load(maker, journal, self.proxied["http"][0], self.api_keys, rate, CLIENTS[self.profile], foreign)
        self.direct = named and named["kafka_direct"]

    def _start_parts(self):
        """Three brokers and a database, each behind the proxy."""
        self.parts = Parts(self.folder / "parts")
        self.say("starting three brokers and a database")
        # The proxy stands first, and learns where to connect when the brokers are there.
        advertised = [self.proxy.listen(1) for _ in plan.BROKERS]
        named = self.parts.start(len(plan.BROKERS), advertised)
        for number, port, behind in zip(plan.BROKERS, advertised, named["kafka_behind"].split(",")):
            self.proxy.set(port, "pass", to=int(behind.rsplit(":", 1)[1]))
            self.proxied[f"broker {number}"] = [port]
        database = int(named["postgres"].rsplit(":", 1)[1].split("/")[0])
        port = self.proxy.listen(database)
        self.proxied["database"] = [port]
        named["postgres"] = named["postgres"].replace(f":{database}/", f":{port}/")
        return named

    def _configure(self, named, ports):
        allowlist = json.dumps([f"localhost:{port}" for port in ports.values()])
        lines = [
            f'profile = "{self.profile}"',
            "[telemetry]",
            'log = "info,fjall=warn,lsm_tree=warn,sqlx=error"',
            "[forward]",
            'networks_allowed = ["127.0.0.0/8", "::1/128"]',
            f"ca_file = {json.dumps(str(self.receivers.pem))}",
            *(f"[tenants.{tenant}]\nforward_allowlist = {allowlist}" for tenant in load.TENANTS),
            "[log]",
            f"partitions = {PARTITIONS[self.profile]}",
        ]
        if named:
            lines += [
                f"brokers = {json.dumps(named['kafka'])}",
                "replication_factor = 3",
                'slot = "SLOT"',
                "[database]",
                f"url = {json.dumps(named['postgres'])}",
            ]
        return "\n".join(lines) + "\n"

    def service(self, role, listen="127.0.0.1:0", slot="0"):
        """A process of a role in a data directory of its own; not started."""
        name = role if slot == "0" and role not in self.supervisor.services else f"{role}.{self._instances + 2}"
        self._instances += name != role
        data = self.data / name
        data.mkdir()
        (data / "countersign.toml").write_text(self._configuration.replace("SLOT", slot))
        words = ["audit", "--serve"] if role == "audit" else [role]
        argv = [str(self.binary), *words, "--data", str(data), "--listen", listen, "--admin", "127.0.0.1:0"]
        made = Service(name, argv, self.folder)
        made.data = data
        return self.supervisor.add(made)

    def second_instance(self, role, slot):
        made = self.service(role, slot=slot)
        signing = self.supervisor.services[role].data / "signing"
        if signing.exists():
            # A host that takes over gets the keys that the first one has.
            shutil.copytree(signing, made.data / "signing")
        return made

    def forget(self, service):
        del self.supervisor.services[service.name]

    def replace(self, first, second):
        role = next(role for role, service in self.supervisor.services.items() if service is first)
        del self.supervisor.services[second.name]
        self.supervisor.services[role] = second

    def command(self, service, *words, codes=(0,)):
        """A command beside a service; answers its stdout."""
        argv = [str(self.binary), *words, "--data", str(service.data)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=clean_environment(), check=False)
        if done.returncode not in codes:
            raise RuntimeError(f"countersign {' '.join(words)}: {done.returncode}: {done.stderr}")
        return done.stdout

    def _start_services(self, door):
        door.start()
        if self.profile == "local":
            door.await_ready()
        else:
            # The first makes the topics; the others find them.
            door.await_ready()
            view = free_ports(1)[0]
            self.view = view
            for role in plan.ROLES[1:]:
                self.service(role, f"127.0.0.1:{view}" if role == "view" else "127.0.0.1:0").start()
            for service in list(self.supervisor.services.values()):
                service.await_ready()
        self.supervisor.start()
        self.say(f"{len(self.supervisor.services)} service(s) ready")

    def _await_door(self, api_key):
        """Until the first request is sealed: keys are known, every step is there."""
        client = load.Client(self.proxied["http"][0], {"alpha": api_key})
        request = load.Request("alpha", "chaos/warm-up", b'{"payload":"warm-up"}', "first", "sealed")
        deadline = time.monotonic() + 180
        while True:
            answer = client.send(request)
            if answer is not None and answer[0] == 201:
                client.close()
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing is sealed: {answer}")
            time.sleep(0.2)
        told = json.loads(answer[2])
        cid = told["receipt"]["cid"]
        exchange = {"what": "exchange", "tenant": "alpha", "key": "chaos/warm-up", "trace": None, "cid": cid, "amount": None}
        journal = load.Journal(self.folder / "journal.jsonl")
        journal.write([{**exchange, "delivery": None, "url": None, "expect": "sealed", "via": "warm-up"}])
        journal.close()

    # --- Down -----------------------------------------------------------------------------------------------------------------------

    def close(self):
        self.over.set()
        self.supervisor.close()
        for number in plan.BROKERS if self.parts else ():
            try:
                self.parts.signal_broker(number, signal.SIGKILL)
            except (OSError, ValueError):
                pass  # It does not run.
        for helper in (self.watch, self.proxy, self.receivers):
            if helper is not None:
                helper.close()
        if self.parts is not None:
            self.parts.stop()

    # --- The way --------------------------------------------------------------------------------------------------------------------

    def through(self, faults):
        began = time.time()
        self.bring_up()
        self.say(f"loading for {self.options.minutes:g} min, {len(faults)} faults")
        loaded = time.monotonic()
        self.striker = Striker(self, self.folder / "faults.jsonl")
        striking = threading.Thread(target=self.striker.carry_out, args=(faults, loaded, self.over), name="striker", daemon=True)
        striking.start()
        self._follow(loaded + self.options.minutes * 60, striking)
        struck = time.monotonic() - loaded
        self.say("coming to rest")
        for service in list(self.supervisor.services.values()):
            service.await_ready()
        self.load.finish(DECIDED_S)
        self.say(f"{self.load.decided} requests decided in {self.load.sent} attempts; closing the books")
        books = self._close_books()
        found = self._gather(books)
        story = Story.read(self.folder / "journal.jsonl")
        self.say(f"asking the oracle about {len(story.exchanges)} exchanges")
        results = oracle.judge(story, found)
        results.append(self._own_troubles())
        return report.make(
            self.options, faults, story, found, results, self.supervisor.ends, self.load.sent, struck, time.time() - began
        )

    def _follow(self, end, striking):
        """Until the time is over and the last fault too; says where it is now and then."""
        said = time.monotonic()
        while time.monotonic() < end or striking.is_alive():
            self.over.wait(0.2)
            if time.monotonic() - said >= 30:
                said = time.monotonic()
                self.say(f"{self.load.decided} decided, {len(gather.lines(self.folder / 'faults.jsonl'))} faults, {len(self.supervisor.ends)} own ends")

    def _close_books(self):
        """Deliveries that are still due may take some time."""
        where = self.supervisor.services["up" if self.profile == "local" else "audit"]
        deadline = time.monotonic() + BOOKS_S
        while True:
            told = self.command(where, "audit", "--cut", "now", "--json", "--deadline", str(CUT_S), codes=(0, 1, 2))
            books = json.loads(told) if told.startswith("{") else {}
            if books.get("closed") or time.monotonic() > deadline:
                return books

    def _gather(self, books):
        found = Found(books=books, has_log=self.profile == "cluster")
        if self.watch is not None:
            self.watch.finish(180)
        story = Story.read(self.folder / "journal.jsonl")
        chance = random.Random(self.options.seed)
        months = sorted({datetime.fromtimestamp(at, tz=timezone.utc).strftime("%Y-%m") for at in (time.time(), time.time() - 7200)})
        jwks = gather.Api(self.http, self.api_keys)
        if self.profile == "local":
            gather.read_public(found, story, jwks, jwks, months, chance, everything=True)
            entries = [
                entry for tenant in story.tenants() for entry in jwks.pages("/v1/ledger/entries?limit=500", tenant, "entries")
            ]
            gather.records_of_views(found, story, entries)
        else:
            gather.read_public(found, story, gather.Api(self.view, self.api_keys), jwks, months, chance, everything=False)
            found.records.update(gather.read_topics(self.direct))
            found.transactions = gather.read_transactions(self.parts.folder)
        return gather.read_files(found, self.folder)

    def _own_troubles(self):
        """What the run itself noticed."""
        result = oracle.Result("services", "services come back, and on the embedded log none ends of itself")
        result.looked_at = sum(service.starts for service in self.supervisor.services.values())
        result.faults += self.striker.troubles + self.load.troubles
        if self.profile == "local":
            result.faults += [f"{end['service']} ended of itself with {end['status']}: {end['said'][-400:]}" for end in self.supervisor.ends]
        return result


assert set(KINDS) == {"taken", "slow", "flaky", "gone"}
