-- The limits of one API key: decides, charges and settles, each in one atomic step.
--
-- KEYS[1]  limit:{key id}          hash, the windows; without it the database must be read:
--            minute                minutes since the epoch: the minute of the next two
--            requests              accepted in that minute
--            tokens                charged in that minute, less the tokens returned to it
--            month                 months since the year 0, UTC: the month of the next one
--            used                  tokens of the jobs that ended in that month
--            reserved              tokens of the jobs in flight
--            bulk                  how many of the jobs in flight are bulk jobs
-- KEYS[2]  limit:{key id}:flight   hash: job id -> "{minute of its charge}:{tokens reserved}"; of a
--                                  bulk job, which has no minute, "0:{tokens}b"
-- KEYS[3]  limit:busy              set: ids of the keys that have jobs in flight
-- ARGV[1]  a name of `commands` below
-- ARGV[2]  milliseconds since the epoch, or "" for this server's clock
-- ARGV[3]  the key's id
-- ARGV[4…] as each command says
--
-- A "b" after the tokens of a job marks a bulk job.
--
-- returns  {verdict, milliseconds since the epoch, requests, tokens, used, reserved, in flight};
--          jobs in flight do not include bulk jobs
local windows, flight, busy = KEYS[1], KEYS[2], KEYS[3]
local key_id = ARGV[3]
local MINUTE_MS = 60000
local TTL_SECONDS = 40 * 86400
local NO_LIMIT = -1

local function clock()
    if ARGV[2] ~= "" then
        return tonumber(ARGV[2])
    end
    local time = redis.call("time")
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The civil calendar from days, in years that begin in March: the leap day is their last.
local function month_of(ms)
    local day = math.floor(ms / 86400000) + 719468
    local era = math.floor(day / 146097)
    local of_era = day - era * 146097
    local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
        - math.floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    return (year + era * 400) * 12 + math.floor((5 * of_year + 2) / 153) + 2
end

local now = clock()
local minute = math.floor(now / MINUTE_MS)
local month = month_of(now)

-- The windows as of now; nil if they were lost, or if they count a future month.
local function read()
    local found = redis.call("hmget", windows, "minute", "requests", "tokens", "month", "used",
        "reserved", "bulk")
    local counted_month = tonumber(found[4] or "")
    if not counted_month or counted_month > month then
        return nil
    end
    local same_minute = tonumber(found[1] or "") == minute
    return {
        is_new = not same_minute,
        requests = same_minute and tonumber(found[2]) or 0,
        tokens = same_minute and tonumber(found[3]) or 0,
        used = counted_month == month and tonumber(found[5]) or 0,
        reserved = tonumber(found[6]),
        bulk = tonumber(found[7] or "") or 0,
    }
end

local function write(state)
    redis.call("hset", windows, "minute", minute, "requests", state.requests, "tokens",
        state.tokens, "month", month, "used", state.used, "reserved", state.reserved,
        "bulk", state.bulk)
    if state.is_new then
        redis.call("expire", windows, TTL_SECONDS)
        redis.call("expire", flight, TTL_SECONDS)
    end
end

local function answer(verdict, state, in_flight)
    if not state then
        return {"lost", now, 0, 0, 0, 0, 0}
    end
    return {verdict, now, state.requests, state.tokens, state.used, state.reserved,
        (in_flight or redis.call("hlen", flight)) - state.bulk}
end

-- The limit that refuses, checked in the order of the longest wait.
local function refusal(state, in_flight, tokens, limits)
    local function passes(limit, wanted)
        return limit == NO_LIMIT or wanted <= limit
    end
    if not passes(limits.month, state.used + tokens) then return "month" end
    if not passes(limits.tokens, tokens) then return "too_large" end
    if state.requests >= limits.requests then return "requests" end
    if not passes(limits.tokens, state.tokens + tokens) then return "tokens" end
    if not passes(limits.month, state.used + state.reserved + tokens) then return "reserved" end
    if not passes(limits.in_flight, in_flight - state.bulk + 1) then return "in_flight" end
    return nil
end

-- Minute, tokens and bulk mark of an entry of `flight`.
local function parse(entry)
    local in_minute, tokens, mark = string.match(entry, "^(%d+):(%d+)(b?)$")
    return tonumber(in_minute), tonumber(tokens), mark == "b"
end

-- Adds a job in flight unless it is there already.
local function reserve(state, job, in_minute, tokens)
    local entry = in_minute .. ":" .. tokens
    if redis.call("hsetnx", flight, job, entry) == 1 then
        local _, count, is_bulk = parse(entry)
        state.reserved = state.reserved + count
        state.bulk = state.bulk + (is_bulk and 1 or 0)
    end
end

local commands = {}

-- ARGV[4…9]  job id, tokens, then the limits: requests, tokens, jobs in flight, tokens a month
-- A job in flight was charged already: its caller tries again because the first reply was lost.
function commands.charge()
    local state = read()
    local job, tokens = ARGV[4], tonumber(ARGV[5])
    local limits = {requests = tonumber(ARGV[6]), tokens = tonumber(ARGV[7]),
        in_flight = tonumber(ARGV[8]), month = tonumber(ARGV[9])}
    if not state or redis.call("hexists", flight, job) == 1 then
        return answer("charged", state)
    end
    local in_flight = redis.call("hlen", flight)
    local refused = refusal(state, in_flight, tokens, limits)
    if refused then
        return answer(refused, state, in_flight)
    end
    reserve(state, job, minute, tokens)
    state.requests = state.requests + 1
    state.tokens = state.tokens + tokens
    write(state)
    if in_flight == 0 then
        redis.call("sadd", busy, key_id)
    end
    return answer("charged", state, in_flight + 1)
end

-- ARGV[4…6]  job id, its tokens with the mark of bulk, tokens a month
-- Only the monthly limit applies to a bulk job.
function commands.reserve()
    local state = read()
    local job, tokens, limit = ARGV[4], ARGV[5], tonumber(ARGV[6])
    if not state or redis.call("hexists", flight, job) == 1 then
        return answer("charged", state)
    end
    local _, wanted = parse("0:" .. tokens)
    if limit ~= NO_LIMIT and state.used + wanted > limit then
        return answer("month", state)
    end
    if limit ~= NO_LIMIT and state.used + state.reserved + wanted > limit then
        return answer("reserved", state)
    end
    reserve(state, job, 0, tokens)
    write(state)
    redis.call("sadd", busy, key_id)
    return answer("charged", state)
end

-- A request without a job counts in its minute, even if the limit is reached.
function commands.count()
    local state = read()
    if state then
        state.requests = state.requests + 1
        write(state)
    end
    return answer("counted", state)
end

-- The state; nothing is charged.
function commands.read()
    return answer("read", read())
end

-- ARGV[4…6]  job id, tokens that it used, "1" to take back its request too
-- The entry in flight is deleted first: a second settlement finds none and changes nothing.
function commands.settle()
    local job, used = ARGV[4], tonumber(ARGV[5])
    local entry = redis.call("hget", flight, job)
    local state = read()
    if not entry then
        return answer("nothing", state)
    end
    redis.call("hdel", flight, job)
    local in_flight = redis.call("hlen", flight)
    if in_flight == 0 then
        redis.call("srem", busy, key_id)
    end
    if not state then
        return answer("settled", state)
    end
    local charged_in, reserved, is_bulk = parse(entry)
    state.reserved = state.reserved - reserved
    state.bulk = state.bulk - (is_bulk and 1 or 0)
    state.used = state.used + used
    if charged_in == minute and not state.is_new then
        state.tokens = state.tokens - math.max(0, reserved - used)
        state.requests = state.requests - tonumber(ARGV[6])
    end
    write(state)
    return answer("settled", state, in_flight)
end

-- ARGV[4…]  month, tokens used in it, then job id and tokens of each job in flight
-- Restores the windows from the database, only if they are still lost.
function commands.recall()
    if read() then
        return answer("recalled", read())
    end
    redis.call("del", flight)
    local state = {is_new = true, requests = 0, tokens = 0, reserved = 0, bulk = 0,
        used = tonumber(ARGV[4]) == month and tonumber(ARGV[5]) or 0}
    for i = 6, #ARGV, 2 do
        reserve(state, ARGV[i], 0, ARGV[i + 1])
    end
    write(state)
    redis.call(#ARGV > 5 and "sadd" or "srem", busy, key_id)
    return answer("recalled", state)
end

-- ARGV[4…]  job id and tokens of each job in flight that was lost
function commands.restore()
    local state = read()
    if state then
        for i = 4, #ARGV, 2 do
            reserve(state, ARGV[i], 0, ARGV[i + 1])
        end
        write(state)
        redis.call("sadd", busy, key_id)
    end
    return answer("restored", state)
end

return commands[ARGV[1]]()
