"""
A server that answers whatever a test tells it to, byte for byte: what no simulator would say.

It really listens, and keeps what it was asked.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import simplejson

# A client that is still here after this would have stayed for ever.
PATIENCE_S = 15.0
# What writes to the connection: all of an answer, or a part of it, as slowly as it likes.
Script = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class ScriptedGateway:
    """Gives its answers in order, and the last one for ever."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self._scripts: list[Script] = []
        self._guard = threading.Lock()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(length)
                script = gateway._next(Received(self.command, self.path, headers, body))
                script(self.connection)

            do_POST = do_GET  # noqa: N815  the library's name

            def log_message(self, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def says(self, *bodies: Any, status: int = 200) -> None:
        """Answer with these bodies, as JSON unless they are bytes."""
        self.will(*(answer(body, status=status) for body in bodies))

    def will(self, *scripts: Script) -> None:
        with self._guard:
            self._scripts = list(scripts)

    def _next(self, received: Received) -> Script:
        with self._guard:
            self.requests.append(received)
            return self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left, which is what most of the tests are about."""


@contextlib.contextmanager
def scripted_gateway() -> Iterator[ScriptedGateway]:
    gateway = ScriptedGateway()
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def answer(body: Any, *, status: int = 200, **headers: str) -> Script:
    """A whole answer; `headers` with underscores for dashes."""
    content = body if isinstance(body, bytes) else simplejson.dumps(body).encode()
    named = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in named.items())]
    return raw("\r\n".join([*head, "", ""]).encode() + content)


def raw(content: bytes) -> Script:
    """These bytes, and no more."""

    def send(connection: socket.socket) -> None:
        connection.sendall(content)

    return send


def drip(start: bytes, again: bytes, *, every_s: float) -> Script:
    """The start, and then the same again and again, until the client leaves."""

    def send(connection: socket.socket) -> None:
        until = time.monotonic() + PATIENCE_S
        connection.sendall(start)
        while time.monotonic() < until:
            connection.sendall(again)
            time.sleep(every_s)

    return send
