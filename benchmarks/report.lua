-- wrk: what a run came to, as a line of JSON. Read in by the scripts beside it.
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "microseconds": %d, "errors": %d, "p50": %f, "p95": %f, "p99": %f}',
    summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
