-- A sliding window of counted requests, in slots of a ring.
-- KEYS: the caller's window; the mark that its credential has ended, or "".
-- ARGV: limit; window in ms; slots.
-- Returns: 1 if the request was counted, 0 if there were `limit` already; how many are left; ms until
-- the oldest counted one leaves the window; 1 if the credential has ended.
--
-- The hash holds n (in the window), last (the newest slot), first (the oldest that has any), and a
-- count for each slot that has some. Slots are numbered from the epoch by the server's own clock, so
-- that all web processes agree. A slot leaves when all of it is older than the window: no minute,
-- wherever it begins, has more than `limit`.
if KEYS[2] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then
    return {0, 0, 0, 1}
end

local limit, window, slots = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local slot_ms = window / slots
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local now = math.floor(now_ms / slot_ms)
local state = redis.call('HMGET', KEYS[1], 'n', 'first', 'last')
local n, first, last = tonumber(state[1]) or 0, tonumber(state[2]) or now, tonumber(state[3]) or now

-- A clock that was set back: nothing is older than it was.
if now < last then now = last end

-- What has left. Each slot is visited once in its life, so this costs nothing on the average.
if n == 0 or last + slots < now then
    if n > 0 then redis.call('DEL', KEYS[1]) end
    n, first = 0, now
else
    while n > 0 and first + slots < now do
        local gone = redis.call('HGET', KEYS[1], first)
        if gone then
            n = n - tonumber(gone)
            redis.call('HDEL', KEYS[1], first)
        end
        first = first + 1
    end
    if n == 0 then first = now end
end

local allowed = 0
if n < limit then
    allowed = 1
    n = n + 1
    redis.call('HINCRBY', KEYS[1], now, 1)
    redis.call('HSET', KEYS[1], 'n', n, 'first', first, 'last', now)
    redis.call('PEXPIRE', KEYS[1], window + 2 * slot_ms)
end
-- The oldest slot that has any: those before it were emptied.
while first < now and redis.call('HEXISTS', KEYS[1], first) == 0 do first = first + 1 end
local reset = (first + slots + 1) * slot_ms - now_ms
return {allowed, math.max(0, limit - n), math.max(0, math.floor(reset)), 0}
