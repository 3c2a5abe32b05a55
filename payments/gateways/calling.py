"""
HTTP to a gateway: time limits, a size limit, one retry policy, the circuit breaker, exact numbers.

Everything that comes back is foreign: it may be huge, slow, HTML, or cut off half-way. What is
certain becomes an answer or a Refused; what is not becomes Uncertain.
"""

import base64
import contextlib
import functools
import math
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx
import simplejson
import structlog
from django.conf import settings
from django.db import connection
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)

from core.errors import Unavailable
from core.metrics import gateway_calls_total, gateway_seconds
from payments.gateways import breaker, wire
from payments.gateways.port import GatewayFault, NoSuchObject, Refused, Uncertain, Unreachable

logger = structlog.get_logger(__name__)

ANSWER_BYTES_MAX = 1024 * 1024
ATTEMPTS_MAX = 3
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 2.0
CONNECTIONS_MAX = 50
IDLE_CONNECTIONS_MAX = 20
IDLE_S = 5.0

# When the whole answer must be here, by time.monotonic(); of the call that this thread makes.
_deadline: ContextVar[float] = ContextVar("gateway_deadline", default=math.inf)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    # JSON; its numbers with a point are Decimal.
    body: Any


@dataclass(frozen=True, slots=True)
class Caller:
    """One tenant's line to a gateway."""

    gateway: str
    # "<gateway>:<configuration>": whose circuit breaker it is.
    circuit: str
    base_url: str
    headers: Mapping[str, str] = field(repr=False)

    def get(self, call: str, path: str, **params: str) -> Answer:
        """Ask; again if it fails, since asking changes nothing."""
        return self._call(call, "GET", path, params=params, may_repeat=True)

    def post(
        self,
        call: str,
        path: str,
        body: Any,
        *,
        headers: Mapping[str, str] | None = None,
        may_repeat: bool = False,
    ) -> Answer:
        """Send. `may_repeat`: the gateway promises that twice is once."""
        return self._call(call, "POST", path, body=body, headers=headers, may_repeat=may_repeat)

    def _call(
        self,
        call: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        may_repeat: bool,
    ) -> Answer:
        uncertain: list[Uncertain] = []

        def is_worth_another(fault: BaseException) -> bool:
            # Nothing was sent, or sending twice is once. An open circuit stays open meanwhile.
            if isinstance(fault, Unreachable):
                return fault.code == "no_connection"
            if isinstance(fault, Uncertain):
                uncertain.append(fault)
                return may_repeat and fault.code != "timeout"
            return False

        retrying = Retrying(
            retry=retry_if_exception(is_worth_another),
            stop=stop_after_attempt(ATTEMPTS_MAX),
            wait=wait_exponential_jitter(
                multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S, jitter=FIRST_WAIT_S
            ),
            reraise=True,
        )
        try:
            return retrying(self._call_once, call, method, path, params, body, headers)
        except (Unreachable, Refused, NoSuchObject) as fault:
            if uncertain and method != "GET":
                # What this attempt came to says nothing of the one before.
                raise uncertain[-1] from fault
            raise

    def _call_once(
        self,
        call: str,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        if not self.base_url:
            raise Unreachable(f"No address of {self.gateway} is configured.", code="no_address")
        if not breaker.allows(self.circuit):
            raise Unreachable(f"{self.gateway} has failed repeatedly.", code="circuit_open")
        began = time.perf_counter()
        outcome = "answered"
        try:
            answer = self._exchange(method, path, params, body, headers)
        except GatewayFault as fault:
            outcome = type(fault).__name__.lower()
            breaker.failed(self.circuit)
            logger.warning(
                "gateway did not answer", gateway=self.gateway, call=call, fault=fault.detail
            )
            raise
        else:
            breaker.succeeded(self.circuit)
        finally:
            gateway_calls_total.labels(self.gateway, call, outcome).inc()
            gateway_seconds.labels(self.gateway, call).observe(time.perf_counter() - began)
        return _certain(self.gateway, answer)

    def _exchange(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: Any,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        """Send once and read the whole answer, within the time limits."""
        content = None if body is None else encode(body)
        sent = {
            "Accept": "application/json",
            # Compressed, a small answer could be a huge one.
            "Accept-Encoding": "identity",
            **self.headers,
            **(headers or {}),
        }
        if content is not None:
            sent["Content-Type"] = "application/json"
        if not connection.in_atomic_block:
            # Not held while a gateway thinks: others need it.
            connection.close()
        # The read time-out starts again with each byte: this is when all of it must be here.
        outer = _deadline.set(time.monotonic() + settings.GATEWAY_READ_TIMEOUT_S + 1)
        try:
            with _client().stream(
                method,
                self.base_url + path,
                params=params,
                content=content,
                headers=sent,
                timeout=httpx.Timeout(
                    settings.GATEWAY_READ_TIMEOUT_S, connect=settings.GATEWAY_CONNECT_TIMEOUT_S
                ),
            ) as response:
                received = bytearray()
                for chunk in response.iter_bytes():
                    received += chunk
                    if len(received) > ANSWER_BYTES_MAX:
                        raise Uncertain("The answer is too large.", code="too_large")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Unreachable(
                f"No connection to {self.gateway}: {type(error).__name__}.", code="no_connection"
            ) from error
        except httpx.TimeoutException as error:
            raise Uncertain(f"No answer from {self.gateway} in time.", code="timeout") from error
        except httpx.HTTPError as error:
            raise Uncertain(
                f"{self.gateway} broke off: {type(error).__name__}.", code="broken_off"
            ) from error
        finally:
            _deadline.reset(outer)
        if response.status_code >= 500:
            raise Uncertain(
                f"{self.gateway} answers {response.status_code}.", code=str(response.status_code)
            )
        if response.status_code == 429:
            raise Unreachable(f"{self.gateway} has had too many requests.", code="rate_limited")
        if 300 <= response.status_code < 400:
            # Never followed: it would take our credentials elsewhere.
            raise Uncertain(f"{self.gateway} points elsewhere.", code="redirect")
        try:
            return Answer(response.status_code, wire.read_json(bytes(received)))
        except ValueError as error:
            # With any status: a 404 of something in between says nothing of the payment.
            raise Uncertain(f"{self.gateway}'s answer is no JSON.", code="no_json") from error


@contextlib.contextmanager
def waiting_slot() -> Iterator[None]:
    """
    Take one of the places that a process has for requests that wait for a gateway, so that a slow
    gateway leaves threads for everything else.

    :raises Unavailable: all are taken
    """
    if not _slots().acquire(blocking=False):
        raise Unavailable("Too many requests wait for gateways just now. Send it again.")
    try:
        yield
    finally:
        _slots().release()


@functools.cache
def _slots() -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(settings.GATEWAY_WAITING_MAX)


def basic_authorization(user: str) -> str:
    """Return the header's value for a user without a password."""
    return "Basic " + base64.b64encode(f"{user}:".encode()).decode()


def encode(body: Any) -> bytes:
    """Return JSON with Decimals as the numbers they are."""
    text: str = simplejson.dumps(body, use_decimal=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def close_connections() -> None:
    """Forget the connections; for processes that are about to fork, and for tests."""
    if _client.cache_info().currsize:
        _client().close()
        _client.cache_clear()


def _certain(gateway: str, answer: Answer) -> Answer:
    if answer.status == 404:
        raise NoSuchObject(f"{gateway} does not know it.", code=_code_of(answer.body))
    if answer.status == 409:
        # Our key, with a request that was or is worked on: it was sent before.
        raise Uncertain(
            _detail_of(answer.body) or f"{gateway} has it already.",
            code=_code_of(answer.body) or "409",
        )
    if answer.status >= 400:
        detail = _detail_of(answer.body) or f"{gateway} answers {answer.status}."
        raise Refused(detail, code=_code_of(answer.body) or str(answer.status))
    return answer


def _code_of(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return wire.text(error, "code")[:64]
    return wire.text(body, "error_code")[:64] if isinstance(body, dict) else ""


def _detail_of(body: Any) -> str:
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    messages = body.get("error_messages") or body.get("validation_messages")
    if isinstance(error, dict):
        found = error.get("message")
    elif isinstance(messages, list):
        found = "; ".join(str(message) for message in messages[:5])
    else:
        found = body.get("message") or body.get("status_message")
    return str(found or "")[:300]


@functools.cache
def _client() -> httpx.Client:
    """Return this process's connections; safe for threads."""
    return httpx.Client(
        transport=_Transport(),
        follow_redirects=False,
        # A proxy or netrc of the environment has no business with payments.
        trust_env=False,
        headers={"User-Agent": "Florin"},
    )


class _Transport(httpx.HTTPTransport):
    """As its parent, but what is read is read before the call's deadline; headers too."""

    def __init__(self) -> None:
        context = httpx.create_ssl_context(trust_env=False)
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=IDLE_CONNECTIONS_MAX,
            keepalive_expiry=IDLE_S,
            network_backend=_Network(),
        )


class _Network(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(super().connect_tcp(host, port, timeout, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    """A connection on which nothing outlasts the deadline of the call that uses it."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _deadline.get() - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the call's time is over")
        return self._stream.read(max_bytes, left if timeout is None else min(timeout, left))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
