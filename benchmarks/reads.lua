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

dofile(os.getenv("REPORT_FILE"))
