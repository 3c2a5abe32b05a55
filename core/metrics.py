"""
What is counted, for Prometheus. `GET /metrics` (core.api.metrics) shows it.

A web server of several processes needs PROMETHEUS_MULTIPROC_DIR, an empty directory, so that each
scrape sees them all; `make run` sets it.
"""

import os
from collections.abc import Iterable

from django.db import DatabaseError
from django.utils import timezone
from prometheus_client import REGISTRY as _OF_THIS_PROCESS
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)

requests_total = Counter(
    "florin_http_requests_total", "Requests answered.", ["method", "route", "status"]
)
request_seconds = Histogram(
    "florin_http_request_seconds", "Time to answer.", ["method", "route"], buckets=_BUCKETS
)
rate_limited_total = Counter(
    "florin_rate_limited_total", "Requests refused by the rate limit.", ["by"]
)
rate_limit_skipped_total = Counter(
    "florin_rate_limit_skipped_total", "Requests let through uncounted, because Redis was down."
)
gateway_calls_total = Counter(
    "florin_gateway_calls_total", "Calls of payment gateways.", ["gateway", "call", "outcome"]
)
gateway_seconds = Histogram(
    "florin_gateway_seconds", "Time of a gateway's answer.", ["gateway", "call"], buckets=_BUCKETS
)
gateway_circuit_opened_total = Counter(
    "florin_gateway_circuit_opened_total", "Times that calls of a gateway were paused.", ["gateway"]
)
inbound_webhooks_total = Counter(
    "florin_inbound_webhooks_total",
    "Notifications of gateways: stored, duplicate, or refused.",
    ["gateway", "outcome"],
)


class _JobGauges(Collector):
    """How jobs stand, as the database says at the time of the scrape."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        # Models are loaded after this module.
        from core.overview import overview

        is_known = GaugeMetricFamily("florin_jobs_known", "Whether the database could be asked.")
        try:
            seen = overview(now=timezone.now(), asks_redis=False)
        except DatabaseError:
            is_known.add_metric([], 0)
            return [is_known]
        is_known.add_metric([], 1)
        silence = GaugeMetricFamily(
            "florin_scheduled_task_silence_seconds",
            "Since the last success of a scheduled task.",
            labels=["task"],
        )
        late = GaugeMetricFamily(
            "florin_scheduled_task_late",
            "Whether a scheduled task has not succeeded for three intervals.",
            labels=["task"],
        )
        for line in seen.lines:
            if line.is_enabled:
                silence.add_metric([line.name], round(line.silence_s(seen.now), 1))
                late.add_metric([line.name], int(line.is_late(seen.now)))
        due = GaugeMetricFamily("florin_due", "Rows that a sweep would take.", labels=["what"])
        for name, count in seen.due.items():
            due.add_metric([name], count)
        jobs = GaugeMetricFamily("florin_jobs", "Runs of jobs, dead letters.", labels=["state"])
        states = {"waiting": seen.waiting, "running": len(seen.running), "stuck": seen.stuck}
        for state, count in {**states, "dead": seen.dead}.items():
            jobs.add_metric([state], count)
        beat = GaugeMetricFamily("florin_beat_active", "Whether a beat holds its lock.")
        beat.add_metric([], int(seen.has_beat))
        return [is_known, silence, late, due, jobs, beat]


def exposition() -> bytes:
    """Return all figures of all web processes in the Prometheus text format."""
    jobs = CollectorRegistry()
    jobs.register(_JobGauges())
    return _counted() + generate_latest(jobs)


def _counted() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(_OF_THIS_PROCESS)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
