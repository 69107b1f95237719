-- Charge one attempt to every counter, or refuse it and charge nothing.
--
-- KEYS     counters of attempts; each lives one window from its first attempt
-- ARGV[1]  milliseconds of a window
-- ARGV[i+1]  attempts that KEYS[i] takes in a window
-- returns  0 if accepted, else the milliseconds until all counters would take one more
local wait = 0
for i, key in ipairs(KEYS) do
    if tonumber(redis.call("get", key) or "0") >= tonumber(ARGV[i + 1]) then
        wait = math.max(wait, redis.call("pttl", key), 1)
    end
end
if wait > 0 then
    return wait
end
for _, key in ipairs(KEYS) do
    if redis.call("incr", key) == 1 then
        redis.call("pexpire", key, ARGV[1])
    end
end
return 0
