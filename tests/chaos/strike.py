"""Carries the plan out, and writes down what was done and when."""

from __future__ import annotations

import json
import signal
import threading
import time

AWAY_MAX_S = 60.0


class Striker:
    """`run`: services by role, the proxy with its ports, the parts. Each fault runs on a thread of its own, so that some overlap."""

    def __init__(self, run, path):
        self.run = run
        self._out = open(path, "a", encoding="utf-8")
        self._lock = threading.Lock()
        #: What could not be done, or did not come back.
        self.troubles = []
        #: One thing at a time is done to a service, or to the brokers.
        self._guards = {}

    def carry_out(self, faults, began, over):
        """Every fault at its time; returns when the last one is over."""
        threads = []
        for fault in faults:
            if over.wait(max(0.0, began + fault.at - time.monotonic())):
                break
            thread = threading.Thread(target=self._one, args=(fault,), name=f"{fault.kind} {fault.target}", daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()
        with self._lock:
            self._out.close()

    def _guard(self, fault):
        name = "brokers" if fault.target.startswith("broker") else fault.target
        with self._lock:
            return self._guards.setdefault(name, threading.Lock())

    def _one(self, fault):
        with self._guard(fault):
            at = time.time()
            try:
                since = getattr(self, f"_{fault.kind}")(fault) or at
                until = time.time()
            except Exception as error:
                with self._lock:
                    self.troubles.append(f"{fault.kind} {fault.target} at {fault.at}: {error}")
                return
            line = {**fault.to_json(), "planned": fault.at, "at": at, "since": since, "until": until}
            with self._lock:
                self._out.write(json.dumps(line) + "\n")
                self._out.flush()

    # --- Services. Each answers from when on what is seen comes from the process that goes on.

    def _service(self, fault):
        return self.run.supervisor.services[fault.target]

    def _back(self, service):
        with service.lock:
            service.wanted = True
            if service.process is None:
                service.launch()
            since = service.started_at
        service.await_ready()
        return since

    def _kill(self, fault):
        service = self._service(fault)
        service.kill()
        return self._back(service)

    def _kill_at_start(self, fault):
        service = self._service(fault)
        with service.lock:
            service.kill()
            service.launch()
        # The moment within the start is what the fault is about.
        time.sleep(fault.seconds)
        service.kill()
        return self._back(service)

    def _restart(self, fault):
        service = self._service(fault)
        status = service.end()
        if status != 0:
            self.troubles.append(f"{service.name} ended with {status} after SIGTERM: {service.said()[-600:]}")
        return self._back(service)

    def _stop(self, fault):
        service = self._service(fault)
        service.signal(signal.SIGSTOP)
        time.sleep(fault.seconds)
        service.signal(signal.SIGCONT)
        return time.time()

    _stop_long = _stop

    def _rebalance(self, fault):
        """A second instance of a role joins its group, works for a while, and leaves it."""
        second = self.run.second_instance(fault.target, slot="1")
        second.start()
        second.await_ready()
        time.sleep(fault.seconds)
        since = time.time()
        if fault.detail == "killed":
            second.wanted = False
            second.kill()
        else:
            status = second.end()
            if status not in (0, None) and not any(end["service"] == second.name for end in self.run.supervisor.ends):
                self.troubles.append(f"{second.name} ended with {status} after SIGTERM: {second.said()[-600:]}")
        self.run.forget(second)
        return since

    def _same_slot(self, fault):
        """A second process with the slot of the first: the first is fenced and ends; the second goes on in its place."""
        first = self._service(fault)
        second = self.run.second_instance(fault.target, slot="0")
        with first.lock:
            first.wanted = False
        second.start()
        second.await_ready()
        since = time.time()
        deadline = time.monotonic() + AWAY_MAX_S
        while first.process is not None and first.process.poll() is None:
            if time.monotonic() > deadline:
                self.troubles.append(f"{first.name} was not fenced within {AWAY_MAX_S} s of a second process with its slot")
                break
            time.sleep(0.1)
        first.kill()
        self.run.replace(first, second)
        return since

    # --- Brokers and the database.

    @staticmethod
    def _number(fault):
        return int(fault.target.rsplit(" ", 1)[1])

    def _broker_kill(self, fault):
        self.run.parts.broker("kill-broker", self._number(fault))
        time.sleep(fault.seconds)
        self.run.parts.broker("start-broker", self._number(fault))

    def _broker_restart(self, fault):
        self.run.parts.broker("stop-broker", self._number(fault))
        time.sleep(fault.seconds)
        self.run.parts.broker("start-broker", self._number(fault))

    def _broker_stop(self, fault):
        self.run.parts.signal_broker(self._number(fault), signal.SIGSTOP)
        time.sleep(fault.seconds)
        self.run.parts.signal_broker(self._number(fault), signal.SIGCONT)

    def _database_restart(self, fault):
        self.run.parts.restart_database(fault.detail)

    # --- Connections.

    def _ports(self, fault):
        return self.run.proxied[fault.target]

    def _cut(self, fault):
        for port in self._ports(fault):
            self.run.proxy.set(port, "cut")

    def _for_a_while(self, fault, mode, ms=0):
        for port in self._ports(fault):
            self.run.proxy.set(port, mode, ms)
        time.sleep(fault.seconds)
        for port in self._ports(fault):
            self.run.proxy.set(port, "pass")
        return time.time()

    def _cut_replies(self, fault):
        return self._for_a_while(fault, "cut_replies")

    def _refuse(self, fault):
        return self._for_a_while(fault, "refuse")

    def _hold(self, fault):
        return self._for_a_while(fault, "hold")

    def _delay(self, fault):
        return self._for_a_while(fault, "delay", int(fault.detail.split(" ")[0]))
