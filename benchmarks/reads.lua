-- wrk: each request the latest entries of one of the accounts in ACCOUNTS_FILE.
function init(args)
  accounts = {}
  for line in io.lines(os.getenv("ACCOUNTS_FILE")) do accounts[#accounts + 1] = line end
  math.randomseed(os.time())
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("API_KEY")
end

function request()
  return wrk.format(nil, "/api/v1/accounts/" .. accounts[math.random(#accounts)] .. "/entries")
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "microseconds": %d, "errors": %d, "p50": %f, "p95": %f, "p99": %f}',
    summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
