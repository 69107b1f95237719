-- Put messages on a queue of Dramatiq's and ring its doorbell: what Dramatiq's dispatch.lua does
-- for `enqueue`, and the bell, in one call.
--
-- KEYS[1]  {namespace}:{queue}.msgs   hash of message ids to messages
-- KEYS[2]  {namespace}:{queue}        list of message ids
-- KEYS[3]  doorbell:{queue}           list that idle consumers wait on
-- ARGV     message id, message, longest doorbell, seconds that it lives; then id and message of each
--          further one
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
