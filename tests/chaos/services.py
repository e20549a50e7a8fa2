"""The processes of a run: services that are killed and started again, helpers of ours, and the parts beside them."""

from __future__ import annotations

import json
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
READY_S = 180.0
END_S = 60.0
WATCH_EVERY_S = 0.1
#: Before a service that ended of itself is started again, as an orchestrator does; doubled up to the second.
RESTART_S = (0.2, 5.0)
SAID_BYTES = 3000


def clean_environment():
    """Nothing of the caller's configuration reaches what we start."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}


def free_ports(count):
    """Below the ephemeral range: there no outgoing connection takes the port while a killed service is away."""
    found, chance = [], random.SystemRandom()
    while len(found) < count:
        port = chance.randrange(10_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Service:
    """One process of countersign. `wanted` says whether it shall run; the supervisor keeps it so."""

    def __init__(self, name, argv, folder):
        self.name, self.argv, self.folder = name, argv, folder
        self.process, self.wanted, self.starts = None, False, 0
        self.started_at = self.ready_at = 0.0
        self.lock = threading.RLock()
        self._ready = threading.Event()

    @property
    def log(self):
        return self.folder / f"{self.name}.{self.starts}.log"

    def launch(self):
        """Starts the process; `await_ready` waits for it."""
        with self.lock:
            self.starts += 1
            ready = self._ready = threading.Event()
            self.started_at = time.time()
            with open(self.log, "wb") as log:
                self.process = subprocess.Popen(
                    self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=clean_environment()
                )
            threading.Thread(target=self._listen, args=(self.process, ready), daemon=True).start()

    def _listen(self, process, ready):
        for line in process.stdout:
            if line.startswith(b"ready "):
                self.ready_at = time.time()
                ready.set()

    def start(self):
        with self.lock:
            self.wanted = True
            if self.process is None:
                self.launch()

    def await_ready(self, patience_s=READY_S):
        """True when it is ready; False when it is not wanted any more."""
        deadline = time.monotonic() + patience_s
        while not self._ready.wait(0.05):
            if not self.wanted:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} is not ready after {patience_s} s; it said: {self.said()}")
        return True

    def signal(self, number):
        with self.lock:
            if self.process is not None:
                self.process.send_signal(number)

    def kill(self):
        """kill -9, and its end."""
        with self.lock:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None

    def end(self, patience_s=END_S):
        """SIGTERM; answers the exit status, or kills what does not end and answers None."""
        with self.lock:
            self.wanted = False
            process = self.process
        if process is None:
            return 0
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = None
        with self.lock:
            self.process = None
        return status

    def said(self):
        try:
            with open(self.log, "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - SAID_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""


class Supervisor(threading.Thread):
    """Starts again what ended of itself, and remembers that it did."""

    def __init__(self):
        super().__init__(name="supervisor", daemon=True)
        self.services, self.ends, self._over = {}, [], threading.Event()
        self._pauses = {}

    def add(self, service):
        self.services[service.name] = service
        return service

    def run(self):
        while not self._over.wait(WATCH_EVERY_S):
            for service in list(self.services.values()):
                self._look(service)

    def _look(self, service):
        with service.lock:
            process = service.process
            if process is None or not service.wanted or process.poll() is None:
                return
            lived = time.time() - service.started_at
            end = {"service": service.name, "status": process.returncode, "at": time.time(), "lived_s": round(lived, 1)}
            self.ends.append({**end, "said": service.said()[-1500:], "log": service.log.name})
            service.process = None
        pause = RESTART_S[0] if lived > 30 else min(self._pauses.get(service.name, RESTART_S[0] / 2) * 2, RESTART_S[1])
        self._pauses[service.name] = pause

        def again():
            with service.lock:
                if service.wanted and service.process is None and not self._over.is_set():
                    service.launch()

        timer = threading.Timer(pause, again)
        timer.daemon = True
        timer.start()

    def close(self):
        """Everything ends, whatever state it is in."""
        self._over.set()
        for service in self.services.values():
            service.wanted = False
            service.kill()


class Proxy:
    """proxy.py as a process of its own."""

    def __init__(self, folder):
        argv = [sys.executable, "-m", "chaos.proxy"]
        with open(folder / "proxy.log", "wb") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_python()
            )
        self._lock = threading.Lock()

    def _order(self, **order):
        with self._lock:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the proxy has ended")
        return json.loads(answer)

    def listen(self, to, port=0):
        return self._order(listen=port, to=to)["port"]

    def set(self, port, mode, ms=0, **where):
        self._order(set=port, mode=mode, ms=ms, **where)

    def close(self):
        _end(self._process)


class Watch:
    """watch.py as a process of its own."""

    def __init__(self, brokers, folder):
        argv = [sys.executable, "-m", "chaos.watch", brokers, str(folder)]
        with open(folder / "watch.log", "wb") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=_python()
            )
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the reader did not start; see {folder / 'watch.log'}")

    def finish(self, patience_s):
        self._process.stdin.close()
        if self._process.wait(patience_s) != 0:
            raise RuntimeError(f"the reader ended with {self._process.returncode}")

    def close(self):
        _end(self._process)


def _end(process):
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        pipe.close()


def _python():
    return {**clean_environment(), "PYTHONPATH": str(REPO / "tests"), "PYTHONDONTWRITEBYTECODE": "1"}


class Parts:
    """Three brokers and a database by scripts/parts, of the run's own."""

    def __init__(self, folder):
        self.folder = folder
        self._lock = threading.Lock()

    def _script(self, *words):
        script = [str(REPO / "scripts/parts"), *map(str, words)]
        done = subprocess.run(script, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_parts_environment(), check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(script)}: {done.stderr[-2000:]}")

    def start(self, brokers, advertise):
        self._script("start", self.folder, "--brokers", brokers, "--advertise", ",".join(map(str, advertise)))
        named = {}
        for line in (self.folder / "env").read_text().splitlines():
            name, _, value = line[len("export ") :].partition("=")
            named[name.replace("COUNTERSIGN_TEST_", "").lower()] = value
        return named

    def broker(self, what, number):
        """`kill-broker`, `stop-broker` or `start-broker`."""
        self._script(what, self.folder, number)

    def signal_broker(self, number, sign):
        os.kill(int((self.folder / f"kafka-{number}" / "pid").read_text()), sign)

    def restart_database(self, mode):
        self._script("restart-postgres", self.folder, mode)

    def stop(self):
        self._script("stop", self.folder)


def _parts_environment():
    kept = {name: os.environ[name] for name in ("COUNTERSIGN_PARTS", "COUNTERSIGN_PARTS_HEAP") if name in os.environ}
    return {**clean_environment(), **kept}


def take_binary(source, folder):
    """A copy, so that a build beside the run changes nothing in it."""
    binary = folder / "countersign"
    shutil.copy2(source, binary)
    return binary
