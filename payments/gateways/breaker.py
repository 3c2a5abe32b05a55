"""
A circuit breaker for each gateway configuration, shared by all processes through Redis.

After FAILURES_MAX failures in a row, within WINDOW_S, nobody calls for OPEN_S; then one call goes
through to try, and its outcome closes the circuit or opens it again. Where Redis does not answer,
calls go on: a breaker is a courtesy, and money does not depend on it.
"""

import functools
import time

import redis
import structlog
from django.conf import settings

from core.metrics import gateway_circuit_opened_total

logger = structlog.get_logger(__name__)

FAILURES_MAX = 5
WINDOW_S = 60
OPEN_S = 30
# How long a trial may take before another caller tries.
TRIAL_S = 20
TIMEOUT_S = 0.25
PAUSE_S = 1.0

# KEYS: failures, open. A circuit is open while `open` holds a time to come; once that has passed,
# whoever takes `trial` first is let through.
_ALLOW = """
local open_until = redis.call('GET', KEYS[1])
if not open_until then return 1 end
if tonumber(ARGV[1]) < tonumber(open_until) then return 0 end
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[2]) then return 1 end
return 0
"""
_FAILED = """
local failures = redis.call('INCR', KEYS[3])
if failures == 1 then redis.call('EXPIRE', KEYS[3], ARGV[2]) end
local was_open = redis.call('EXISTS', KEYS[1])
if was_open == 1 or failures >= tonumber(ARGV[3]) then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    redis.call('DEL', KEYS[2])
    return 1 - was_open
end
return 0
"""
_asks_again_at = 0.0


def allows(circuit: str) -> bool:
    """Say whether a call may be made; the first after a pause is the trial."""
    return bool(_run(_ALLOW, circuit, _now(), TRIAL_S, default=1))


def is_open(circuit: str) -> bool:
    """Say whether calls are refused, without taking the trial; for looking and for choosing."""
    try:
        open_until = None if _is_paused() else _client(settings.REDIS_URL).get(_keys(circuit)[0])
    except redis.RedisError:
        _pause()
        return False
    return open_until is not None and _now() < float(str(open_until))


def succeeded(circuit: str) -> None:
    """Close the circuit: the gateway has answered."""
    if _is_paused():
        return
    try:
        _client(settings.REDIS_URL).delete(*_keys(circuit))
    except redis.RedisError:
        _pause()


def failed(circuit: str) -> None:
    """Count a failure; the last of several opens the circuit."""
    if _run(_FAILED, circuit, _now() + OPEN_S, WINDOW_S, FAILURES_MAX, default=0):
        gateway_circuit_opened_total.labels(circuit.split(":", 1)[0]).inc()
        logger.warning("gateway circuit opened", circuit=circuit, for_s=OPEN_S)


def _keys(circuit: str) -> list[str]:
    # In braces: a cluster keeps the three together.
    return [f"florin:circuit:{{{circuit}}}:{part}" for part in ("open", "trial", "failures")]


def _now() -> float:
    # Of this machine: a few seconds of difference between machines only shift the pause.
    return time.time()


def _run(script: str, circuit: str, *arguments: float, default: int) -> int:
    if _is_paused():
        return default
    try:
        found = _client(settings.REDIS_URL).eval(script, 3, *_keys(circuit), *map(str, arguments))
    except redis.RedisError as error:
        _pause()
        logger.warning("gateway circuit not known", fault=type(error).__name__)
        return default
    return int(str(found))


def _is_paused() -> bool:
    return time.monotonic() < _asks_again_at


def _pause() -> None:
    global _asks_again_at
    _asks_again_at = time.monotonic() + PAUSE_S


@functools.cache
def _client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=True
    )
