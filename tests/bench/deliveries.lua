-- wrk's side of tests/bench/receiver.py: sends the signed deliveries of a file one after the other, each once.
-- The file: "<length of the body> <Stripe-Signature>" on a line, then the body, and so on.

local file
local threads = {}
local headers = { ["Content-Type"] = "application/json; charset=utf-8" }
again = 0 -- how often the file was begun anew

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(arguments)
  file = assert(io.open(arguments[1] .. "." .. number, "rb"))
end

function request()
  local line = file:read("*l")
  if line == nil then
    again = again + 1
    file:seek("set")
    line = file:read("*l")
  end
  local length, signature = line:match("^(%d+) (.+)$")
  headers["Stripe-Signature"] = signature
  return wrk.format("POST", "/webhooks/stripe", headers, file:read(tonumber(length)))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "worst": %d, "refused": %d, "broken": %d, "again": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    threads[1]:get("again")
  ))
end
