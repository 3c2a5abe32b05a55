-- wrk: invoices of three lines in two installments, finalised at once.
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
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("API_KEY")
end

function request()
  sent = sent + 1
  wrk.headers["Idempotency-Key"] = "bench-" .. run .. "-" .. sent
  local line = '{"description":"Consulting","quantity":"1.5","unit_amount":250000,"tax_rate":"11"}'
  wrk.body = '{"currency":"IDR","line_items":[' .. line .. ',' .. line .. ',' .. line .. '],' ..
    '"service_fee":{"percent":"3","fixed":2000},"installments":{"count":2,"interval":"monthly"},' ..
    '"customer":{"name":"Budi Santoso","email":"budi-' .. sent .. '@example.com"},' ..
    '"finalize":' .. os.getenv("FINALIZE") .. '}'
  return wrk.format(nil, "/api/v1/invoices")
end

dofile(os.getenv("REPORT_FILE"))
