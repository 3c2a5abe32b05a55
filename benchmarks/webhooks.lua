-- wrk: gateways' callbacks, each second one a copy of the one before it.
local threads = 0
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  run = tostring(os.time()) .. "-" .. number
  sent = 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["X-Callback-Token"] = os.getenv("CALLBACK_TOKEN")
end

function request()
  local id = run .. "-" .. math.floor(sent / 2)
  sent = sent + 1
  wrk.body = '{"id":"' .. id .. '","external_id":"BENCH-' .. id .. '","status":"PAID",' ..
    '"amount":150000,"paid_amount":150000,"currency":"IDR","payment_method":"CREDIT_CARD",' ..
    '"created":"2026-11-20T06:40:26.508Z","updated":"2026-11-20T06:41:34.702Z"}'
  return wrk.format(nil, os.getenv("WEBHOOK_PATH"))
end

dofile(os.getenv("REPORT_FILE"))
