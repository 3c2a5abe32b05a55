-- wrk: each request a transfer of its own between two of the accounts in ACCOUNTS_FILE.
local threads = 0
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  accounts = {}
  for line in io.lines(os.getenv("ACCOUNTS_FILE")) do accounts[#accounts + 1] = line end
  math.randomseed(os.time() + number * 7919)
  run = tostring(os.time()) .. "-" .. tostring(math.random(1, 1000000000)) .. "-" .. number
  sent = 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("API_KEY")
end

function request()
  sent = sent + 1
  local source = math.random(#accounts)
  local destination = math.random(#accounts - 1)
  if destination >= source then destination = destination + 1 end
  wrk.headers["Idempotency-Key"] = run .. "-" .. sent
  wrk.body = '{"source_account_id":"' .. accounts[source] .. '","destination_account_id":"' ..
    accounts[destination] .. '","amount":5,"currency":"USD"}'
  return wrk.format(nil, nil)
end

dofile(os.getenv("REPORT_FILE"))
