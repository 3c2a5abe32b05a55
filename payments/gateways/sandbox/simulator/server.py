"""The sockets: HTTP/1.1 over loopback, and all the ways in which a connection can go wrong."""

import contextlib
import re
import select
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from payments.gateways.sandbox.simulator.exchange import BODY_BYTES_MAX, Answer, Request
from payments.gateways.sandbox.simulator.simulation import Outcome, Simulation

HOLD_S: Final = 60.0
HUGE_BYTES: Final = 20_000_000
_DRIP_S: Final = 0.1
_PEEK_S: Final = 0.1
# Closing with this sends a reset instead of a farewell.
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_HOST_SHAPE: Final = re.compile(
    r"[A-Za-z0-9.\-]{1,253}(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?"
)


class Server(ThreadingHTTPServer):
    """Listens, and knows its connections so that it can end them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(
        self, address: tuple[str, int], simulation: Simulation, *, public_url: str, is_verbose: bool
    ) -> None:
        self.simulation = simulation
        self.is_verbose = is_verbose
        self._open: set[Any] = set()
        self._to_reset: set[Any] = set()
        self._guard = threading.Lock()
        super().__init__(address, _Handler)
        self.url = f"http://{address[0]}:{self.server_address[1]}"
        self.public_url = public_url

    def server_bind(self) -> None:
        """As its parent, which also asks the name service who we are: that can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note the connection."""
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection: politely, or with a reset."""
        with self._guard:
            self._open.discard(request)
            is_reset = request in self._to_reset
            self._to_reset.discard(request)
        if is_reset:
            with contextlib.suppress(OSError):
                request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def reset_later(self, connection: Any) -> None:
        """Let this connection end with a reset."""
        with self._guard:
            self._to_reset.add(connection)

    def end_connections(self) -> None:
        """Cut all that are open: a restarted server must not be served by the old one's threads."""
        with self._guard:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is nothing to report; anything else is a fault of ours."""
        if self.is_verbose or not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "florin-sim", ""
    # An idle connection is kept so long.
    timeout = 120
    disable_nagle_algorithm = True
    wbufsize = 65_536

    def do_GET(self) -> None:
        """Answer one request of the connection."""
        request, refused = self._read_request()
        if request is None:
            self._send(refused or Answer(400))
            return
        self._go(self.server.simulation.answer(request))

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET  # noqa: N815  as above

    def _read_request(self) -> tuple[Request | None, Answer | None]:
        length = self.headers.get("content-length") or "0"
        if "transfer-encoding" in self.headers or not length.isdecimal():
            self.close_connection = True
            return None, Answer(411, {"error": {"code": "length_required"}})
        if int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            return None, Answer(413, {"error": {"code": "body_too_large"}})
        body = self.rfile.read(int(length))
        parts = urlsplit(self.path)
        host = self.headers.get("host", "")
        base_url = f"http://{host}" if _HOST_SHAPE.fullmatch(host) else self.server.url
        request = Request(
            method=self.command,
            path=unquote(parts.path),
            query=parse_qs(parts.query, keep_blank_values=True),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            base_url=self.server.public_url or base_url,
        )
        return request, None

    def _go(self, outcome: Outcome) -> None:
        match outcome.effect:
            case "timeout_before_commit" | "timeout_after_commit":
                self.close_connection = True
                self._hold()
            case "reset" | "reset_after_commit":
                self.close_connection = True
                self.server.reset_later(self.connection)
            case "huge":
                self._send(Answer(200, b'{"padding":"' + b"x" * HUGE_BYTES + b'"}'))
            case "drip":
                self._drip(outcome.answer)
            case _:
                self._send(outcome.answer)

    def _send_head(self, answer: Answer, length: int) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(length))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, answer: Answer) -> None:
        body = answer.encoded()
        self._send_head(answer, len(body))
        self.wfile.write(body)
        self.wfile.flush()

    def _drip(self, answer: Answer) -> None:
        body = answer.encoded()
        self._send_head(answer, len(body))
        for place in range(len(body)):
            self.wfile.write(body[place : place + 1])
            self.wfile.flush()
            if self.server.simulation.stopping.wait(_DRIP_S):
                self.close_connection = True
                return

    def _hold(self) -> None:
        """Say nothing until the caller leaves, a minute has passed, or the server stops."""
        until = time.monotonic() + HOLD_S
        while time.monotonic() < until and not self.server.simulation.stopping.wait(_PEEK_S):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing, unless it was asked for."""
        if self.server.is_verbose:
            super().log_message(format, *args)


class RunningSimulator:
    """A simulator that listens; `url` is where."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public_url: str = "",
        state_file: Path | None = None,
        seed: str | None = None,
        hurries: bool = False,
        is_verbose: bool = False,
        settings: dict[str, float] | None = None,
    ) -> None:
        self._simulation = Simulation(
            seed=seed, state_file=state_file, hurries=hurries, settings=settings
        )
        self._server = Server(
            (host, port), self._simulation, public_url=public_url, is_verbose=is_verbose
        )
        self.url = self._server.url
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="simulator",
            daemon=True,
        )

    def start(self) -> None:
        """Listen and deliver, on threads of its own."""
        self._simulation.sender.start()
        self._thread.start()

    def stop(self) -> None:
        """End everything, and leave the state in its file."""
        self._simulation.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.end_connections()
        self._simulation.sender.stop()
        self._simulation.state.save()


@contextlib.contextmanager
def running_simulator(
    *,
    state_file: Path | None = None,
    seed: str | None = None,
    hurries: bool = False,
    **settings: float,
) -> Iterator[RunningSimulator]:
    """A simulator on a free port for the time of the block; `settings` as in `/_sim/settings`."""
    simulator = RunningSimulator(
        state_file=state_file, seed=seed, hurries=hurries, settings=settings
    )
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()
