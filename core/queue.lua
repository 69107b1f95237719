-- Put a message on a queue of Dramatiq's and ring its doorbell: what Dramatiq's dispatch.lua does
-- for `enqueue`, and the bell, in one call.
--
-- KEYS[1]  {namespace}:{queue}.msgs   hash of message ids to messages
-- KEYS[2]  {namespace}:{queue}        list of message ids
-- KEYS[3]  doorbell:{queue}           list that idle consumers wait on
-- ARGV     message id, message, longest doorbell, seconds that it lives
redis.call("hset", KEYS[1], ARGV[1], ARGV[2])
redis.call("rpush", KEYS[2], ARGV[1])
redis.call("lpush", KEYS[3], 1)
redis.call("ltrim", KEYS[3], 0, ARGV[3] - 1)
redis.call("expire", KEYS[3], ARGV[4])
