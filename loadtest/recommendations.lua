-- Requests of wrk. With a file of JSON bodies after `--`: POST them in turn; without: GET the URL.
-- The counts and percentiles are printed as one JSON line, the last of the output.
local requests, place = {}, 0

function init(args)
  if args[1] then
    local headers = { ["content-type"] = "application/json" }
    for body in io.lines(args[1]) do
      requests[#requests + 1] = wrk.format("POST", nil, headers, body)
    end
  else
    requests[1] = wrk.format("GET")
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests":%d,"duration_s":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"non_2xx":%d,"socket_errors":%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
