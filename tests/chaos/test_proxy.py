"""The proxy does what it is told, seen from both ends of real connections."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
import unittest
from pathlib import Path

from .services import Proxy

PATIENCE_S = 20.0


class Echo(threading.Thread):
    """Answers each line with the same line; remembers what it heard."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard = []
        self.news = threading.Condition()
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as lines:
            try:
                for line in lines:
                    with self.news:
                        self.heard.append(line)
                        self.news.notify_all()
                    connection.sendall(line)
            except OSError:
                pass

    def await_heard(self, line):
        with self.news:
            return self.news.wait_for(lambda: line in self.heard, PATIENCE_S)


class TheProxy(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.echo, self.proxy = Echo(), Proxy(Path(self.folder.name))
        self.port = self.proxy.listen(self.echo.port)

    def tearDown(self):
        self.proxy.close()
        self.echo.listener.close()
        self.folder.cleanup()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def ask(self, connection, line):
        connection.sendall(line)
        return connection.makefile("rb").readline()

    def is_cut(self, connection):
        try:
            return connection.recv(100) == b""
        except ConnectionError:
            return True

    def test_passes_and_cuts(self):
        with self.connect() as connection:
            self.assertEqual(self.ask(connection, b"one\n"), b"one\n")
            self.proxy.set(self.port, "cut")
            self.assertTrue(self.is_cut(connection))
        with self.connect() as connection:
            self.assertEqual(self.ask(connection, b"two\n"), b"two\n")

    def test_passes_much_both_ways(self):
        data = b"x" * 3_000_000 + b"\n"
        with self.connect() as connection:
            sending = threading.Thread(target=connection.sendall, args=(data,), daemon=True)
            sending.start()
            self.assertEqual(len(connection.makefile("rb").readline()), len(data))
            sending.join(PATIENCE_S)

    def test_delays_and_keeps_the_order(self):
        self.proxy.set(self.port, "delay", ms=150)
        with self.connect() as connection:
            began = time.monotonic()
            lines = connection.makefile("rb")
            for number in range(10):
                connection.sendall(b"%d\n" % number)
            self.assertEqual([lines.readline() for _ in range(10)], [b"%d\n" % number for number in range(10)])
            self.assertGreaterEqual(time.monotonic() - began, 0.3)

    def test_holds_and_lets_go(self):
        with self.connect() as connection:
            self.assertEqual(self.ask(connection, b"one\n"), b"one\n")
            self.proxy.set(self.port, "hold")
            connection.sendall(b"held\n")
            connection.settimeout(0.5)
            with self.assertRaises(socket.timeout):
                connection.recv(100)
            self.assertNotIn(b"held\n", self.echo.heard)
            connection.settimeout(PATIENCE_S)
            self.proxy.set(self.port, "pass")
            self.assertEqual(connection.recv(100), b"held\n")

    def test_refuses(self):
        self.proxy.set(self.port, "refuse")
        with self.connect() as connection:
            self.assertTrue(self.is_cut(connection))

    def test_lets_requests_through_and_drops_the_answers(self):
        with self.connect() as connection:
            self.assertEqual(self.ask(connection, b"one\n"), b"one\n")
            self.proxy.set(self.port, "cut_replies")
            connection.sendall(b"two\n")
            self.assertTrue(self.is_cut(connection), "an answer came, or the connection stayed")
        self.assertTrue(self.echo.await_heard(b"two\n"), "the request did not pass")

    def test_learns_where_to_connect(self):
        later = self.proxy.listen(1)
        self.proxy.set(later, "pass", to=self.echo.port)
        with socket.create_connection(("127.0.0.1", later), PATIENCE_S) as connection:
            self.assertEqual(self.ask(connection, b"one\n"), b"one\n")


if __name__ == "__main__":
    unittest.main()
