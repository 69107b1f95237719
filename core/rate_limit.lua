-- Charge one request to a key's current minute, or refuse it and charge nothing.
--
-- KEYS[1]  limit:{key id}:{minute}   requests accepted in that minute
-- ARGV[1]  requests a minute
-- ARGV[2]  seconds that the counter lives
-- returns  {1 if accepted, else 0; requests accepted in this minute}
local used = tonumber(redis.call("get", KEYS[1]) or "0")
if used >= tonumber(ARGV[1]) then
    return {0, used}
end
used = redis.call("incr", KEYS[1])
if used == 1 then
    redis.call("expire", KEYS[1], ARGV[2])
end
return {1, used}
