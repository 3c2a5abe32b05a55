"""
Delivers webhooks, and lets happen what is due: one thread that looks at the clock, and one a
delivery in flight, so that a receiver that hangs delays nobody else.
"""

import http.client
import threading
import time
from collections import Counter
from typing import Final
from urllib.parse import urlsplit

from payments.gateways.sandbox.simulator.clock import rfc3339
from payments.gateways.sandbox.simulator.lifecycle import Lifecycle
from payments.gateways.sandbox.simulator.state import Delivery

IN_FLIGHT_MAX: Final = 64
# A receiver that hangs has no more than these.
IN_FLIGHT_PER_URL_MAX: Final = 8
_LOOK_EVERY_S: Final = 0.25
_ANSWER_BYTES_MAX: Final = 64_000
# With --auto-clock nobody waits for a retry, but pages do not expire before one can click.
_NEVER_HURRIED: Final = frozenset({"expire", "settle"})


class Sender:
    """The background of the simulator: start it, and stop it at the end."""

    def __init__(self, lifecycle: Lifecycle, *, hurries: bool = False) -> None:
        self._lifecycle = lifecycle
        self._state = lifecycle.state
        self._hurries = hurries
        # By identity: after a reset, numbers begin again.
        self._in_flight: dict[int, Delivery] = {}
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="simulator-clock", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no more deliveries. Those in flight are left behind."""
        with self._state.lock:
            self._is_stopping = True
            self._state.changed.notify_all()
        self._thread.join()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """
        Wait until all that is due has been tried, with what has just happened; False: it took
        longer.
        """
        state = self._state
        with state.lock:
            until = state.clock.now() + state.settings.webhook_delay_s
            return state.changed.wait_for(lambda: self._is_idle(until), timeout_s)

    def _is_idle(self, until: float) -> bool:
        is_due = any(delivery.due_at <= until for delivery in self._state.deliveries.values())
        jobs = self._state.jobs
        return not (is_due or self._in_flight or (jobs and jobs[0].at <= until))

    def _run(self) -> None:
        state = self._state
        while True:
            with state.lock:
                if self._is_stopping:
                    return
                next_job_at = self._lifecycle.run_due_jobs()
                ready = self._take_ready()
                if not ready:
                    state.changed.notify_all()
                    state.changed.wait(self._pause_s(next_job_at))
            for delivery in ready:
                name = f"simulator-webhook-{delivery.sequence}"
                threading.Thread(
                    target=self._deliver, args=(delivery,), name=name, daemon=True
                ).start()
            state.save()

    def _take_ready(self) -> list[Delivery]:
        now, flying = self._state.clock.now(), self._in_flight
        by_url = Counter(delivery.url for delivery in flying.values())
        # In one lane, the next event waits until the one before has been tried.
        events = {delivery.lane: delivery.event_id for delivery in flying.values()}
        ready = []
        waiting = self._state.deliveries.values()
        due = [delivery for delivery in waiting if delivery.due_at <= now]
        for delivery in sorted(due, key=lambda item: (item.due_at, item.sequence)):
            if len(flying) >= IN_FLIGHT_MAX:
                break
            if id(delivery) in flying or by_url[delivery.url] >= IN_FLIGHT_PER_URL_MAX:
                continue
            if events.setdefault(delivery.lane, delivery.event_id) != delivery.event_id:
                continue
            by_url[delivery.url] += 1
            flying[id(delivery)] = delivery
            ready.append(delivery)
        return ready

    def _pause_s(self, next_job_at: float | None) -> float:
        now = self._state.clock.now()
        times = [
            delivery.due_at
            for delivery in self._state.deliveries.values()
            # What is due and waits for its turn is looked at when another has ended.
            if delivery.due_at > now
        ]
        hurried = [job.at for job in self._state.jobs if job.action not in _NEVER_HURRIED]
        if self._hurries and not self._in_flight and (times or hurried):
            self._state.clock.advance(min([*times, *hurried]) - now)
            return 0.0
        soonest = min([*times, *([next_job_at] if next_job_at else []), now + _LOOK_EVERY_S])
        return max(0.001, soonest - now)

    def _deliver(self, delivery: Delivery) -> None:
        state = self._state
        gateway = self._lifecycle.gateways[delivery.gateway]
        with state.lock:
            headers, body = gateway.signed(delivery, state.clock.now())
            timeout_s = state.settings.webhook_timeout_s or gateway.webhook_timeout_s
        headers = {"Content-Type": "application/json", "User-Agent": "florin-sim/1", **headers}
        status, error = _post(delivery.url, body, headers, timeout_s)
        with state.lock:
            self._in_flight.pop(id(delivery), None)
            if state.deliveries.get(str(delivery.sequence)) is not delivery:
                # Forgotten by a reset in the meantime.
                state.changed.notify_all()
                return
            delivery.attempts += 1
            is_taken = status is not None and 200 <= status < 300
            retry_s = None if is_taken else gateway.retry_after_s(delivery.attempts, status)
            state.attempts.append(
                {
                    "event_id": delivery.event_id,
                    "event": delivery.event,
                    "gateway": delivery.gateway,
                    "object_id": delivery.object_id,
                    "reference": delivery.reference,
                    "attempt": delivery.attempts,
                    "url": delivery.url,
                    "headers": headers,
                    "body": body.decode(),
                    "status": status,
                    "error": error,
                    "at": rfc3339(state.clock.now()),
                    "next_at": rfc3339(None if retry_s is None else delivery.due_at + retry_s),
                }
            )
            if retry_s is None:
                del state.deliveries[str(delivery.sequence)]
            else:
                # From when it was due, so that one long step of the clock goes through them all.
                delivery.due_at += retry_s
            state.commit()


def _post(
    url: str, body: bytes, headers: dict[str, str], timeout_s: float
) -> tuple[int | None, str | None]:
    """The status of the answer, or what went wrong. Redirects are not followed."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    give_up_at = time.monotonic() + timeout_s
    try:
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read(_ANSWER_BYTES_MAX)
            if time.monotonic() > give_up_at:
                return None, "TimeoutError"
            return answer.status, None
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return None, type(error).__name__
