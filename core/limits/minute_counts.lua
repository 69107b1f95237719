-- Counts or refuses an action of one caller in this minute, in one atomic step.
--
-- KEYS[1]  limit:{id}:{what}   hash: minute (since the epoch), count
-- ARGV[1]  milliseconds since the epoch, or "" for this server's clock
-- ARGV[2]  the limit of a minute
-- ARGV[3]  the amount; the first action of a minute passes with any amount
--
-- returns  {"counted" or "refused", milliseconds since the epoch}
local MINUTE_MS = 60000
local now = tonumber(ARGV[1])
if not now then
    local time = redis.call("time")
    now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local minute = math.floor(now / MINUTE_MS)
local found = redis.call("hmget", KEYS[1], "minute", "count")
local count = tonumber(found[1] or "") == minute and tonumber(found[2]) or 0
if count > 0 and count + tonumber(ARGV[3]) > tonumber(ARGV[2]) then
    return {"refused", now}
end
redis.call("hset", KEYS[1], "minute", minute, "count", count + tonumber(ARGV[3]))
if count == 0 then
    redis.call("expire", KEYS[1], 2 * MINUTE_MS / 1000)
end
return {"counted", now}
