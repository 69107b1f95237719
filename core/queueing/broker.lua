-- Puts messages on a queue of Dramatiq and rings its doorbell, in one call. The first part equals
-- `enqueue` in Dramatiq's dispatch.lua.
--
-- KEYS[1]  {namespace}:{queue}.msgs   hash of message ids to messages
-- KEYS[2]  {namespace}:{queue}        list of message ids
-- KEYS[3]  doorbell:{queue}           list that idle consumers wait on
-- ARGV     message id, message, most entries of the doorbell, seconds that it lives; then id and
--          message of each further message
local function put(id, message)
    redis.call("hset", KEYS[1], id, message)
    redis.call("rpush", KEYS[2], id)
    redis.call("lpush", KEYS[3], 1)
end

put(ARGV[1], ARGV[2])
for i = 5, #ARGV, 2 do
    put(ARGV[i], ARGV[i + 1])
end
redis.call("ltrim", KEYS[3], 0, ARGV[3] - 1)
redis.call("expire", KEYS[3], ARGV[4])
