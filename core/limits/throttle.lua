-- Charges one attempt to every counter, or refuses it and charges nothing.
--
-- KEYS[1]  a mark; while it exists, the last counter refuses nothing
-- KEYS[i+1]  counters of attempts; each lives one window from its first attempt
-- ARGV[1]  milliseconds of a window
-- ARGV[i+1]  attempts that counter i allows in a window
-- returns  0 if accepted, else the milliseconds until all counters allow one more
local counters = {unpack(KEYS, 2)}
local refusing = #counters - redis.call("exists", KEYS[1])
local wait = 0
for i = 1, refusing do
    if tonumber(redis.call("get", counters[i]) or "0") >= tonumber(ARGV[i + 1]) then
        wait = math.max(wait, redis.call("pttl", counters[i]), 1)
    end
end
if wait > 0 then
    return wait
end
for _, key in ipairs(counters) do
    if redis.call("incr", key) == 1 then
        redis.call("pexpire", key, ARGV[1])
    end
end
return 0
