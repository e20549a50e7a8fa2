"""Receivers of deliveries on this machine, over TLS with a certificate of their own: one that takes everything, a slow one, one
that fails now and then, and one that is gone for good.

Each has a port of its own, because a destination that fails is left alone for a while, and a slow one has its own queue. Every call
is written down before it is answered: what the pipeline records of it cannot be more than what is here."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import json
import ssl
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from . import rules

KINDS = ("taken", "slow", "flaky", "gone")
SLOW_S = (0.2, 2.5)
HUNG_UP = None


def make_certificate(folder):
    """A self-signed certificate for `localhost`; the PEM file is what it is trusted by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chaos receivers")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "receivers.pem", folder / "receivers.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


def chance(exchange_id):
    """A number from 0 to 1 that belongs to the exchange: what happens to it does not depend on when it comes."""
    return int.from_bytes(hashlib.sha256(exchange_id.encode()).digest()[:4], "big") / 2**32


class Receivers:
    """All of them, and what they were sent."""

    def __init__(self, folder, secrets):
        self._secrets = secrets
        self._lock = threading.Lock()
        self._calls = Counter()
        self._log = open(folder / "calls.jsonl", "a", encoding="utf-8")
        self.pem, private = make_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem, private)
        self._servers = {kind: _server(self, kind, context) for kind in KINDS}
        self.ports = {kind: server.server_address[1] for kind, server in self._servers.items()}

    def status(self, kind, exchange_id):
        """What the next call for an exchange is answered with."""
        with self._lock:
            self._calls[exchange_id] += 1
            number = self._calls[exchange_id]
        if kind == "gone":
            return 410
        if kind == "flaky" and number <= int(chance(exchange_id) * 5) - 2:
            return (503, HUNG_UP, 429)[number % 3]
        return 204

    def is_signed(self, headers, body):
        message, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        given = headers.get("webhook-signature", "").split(" ")
        wanted = [rules.webhook_signature(secret, message, timestamp, body) for secret in self._secrets]
        return any(hmac.compare_digest(one, other) for one in given for other in wanted)

    def note(self, **call):
        with self._lock:
            self._log.write(json.dumps(call) + "\n")
            self._log.flush()

    def close(self):
        for server in self._servers.values():
            server.shutdown()
            server.server_close()
        with self._lock:
            self._log.close()


def _server(receivers, kind, context):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def setup(self):
            # Here, on the connection's own thread: a handshake that never comes holds up nobody else.
            self.request.settimeout(self.timeout)
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            name = self.headers.get("webhook-id", "")
            if kind == "slow":
                time.sleep(SLOW_S[0] + chance(name) * (SLOW_S[1] - SLOW_S[0]))
            status = receivers.status(kind, name)
            signed = receivers.is_signed(self.headers, body)
            receivers.note(id=name, path=self.path, at=time.time(), cid=rules.digest(body), signed=signed, status=status)
            if status is HUNG_UP:
                self.close_connection = True
                return
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_):
            """A caller that is killed in the middle is what this is about."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, name=f"receiver {kind}", daemon=True).start()
    return server
