"""
What is counted, for Prometheus. `GET /metrics` (core.api.metrics) shows it.

A web server of several processes needs PROMETHEUS_MULTIPROC_DIR, an empty directory, so that each
scrape sees them all; `make run` sets it.
"""

import os

from prometheus_client import REGISTRY as _OF_THIS_PROCESS
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

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


def exposition() -> bytes:
    """Return all figures of all web processes in the Prometheus text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(_OF_THIS_PROCESS)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
