-- Takes shares of limits for one edge: the rules of LocalCounters, for all that count in one Redis.
--
-- Everything of one question happens in this one script, by the server's own clock, so that no two edges can take the
-- same unit. Times are microseconds since the epoch: as numbers of Lua they are exact, nanoseconds would not be.
--
-- KEYS[1]: a hash of those that count here -> when each did last; then one hash for each limit:
--   "arrival" -> the theoretical arrival time; "h" .. holder -> "<when it claimed last> <its calls> <when they end>".
-- ARGV: who counts, the edge, and of each limit: 1 if it is one of calls at once, amount per minute or at once, burst,
--   units needed, wanted, returned.
-- Answers how many count here, and of each limit: granted, remaining, microseconds until all are there again, edges
--   that share it, microseconds to wait (-1: no need to wait, or no use).

local MINUTE = 60000000
local SEEN = 60000000
local SLOT = 10000000
local BUSY = 1000000
local MOST = 9000000000000000 -- what a number of Lua holds exactly, nearly
local WIDTH = 6 -- arguments of each limit

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local holder = 'h' .. ARGV[2]

local function whole(number)
  return string.format('%.0f', number) -- the language's own form loses digits
end

local function span(limit, units)
  return math.ceil(units * MINUTE / limit.amount)
end

local function available(limit)
  if limit.amount == 0 then
    return 0
  end
  local room = now + span(limit, limit.depth) - math.max(limit.arrival, now)
  return math.max(0, math.floor(room * limit.amount / MINUTE))
end

local function wait(limit)
  if limit.amount == 0 then
    return -1
  end
  local needed = span(limit, math.min(limit.needed, limit.depth))
  return math.max(0, math.max(limit.arrival, now) + needed - span(limit, limit.depth) - now)
end

local function counting()
  redis.call('HSET', KEYS[1], ARGV[1], whole(now))
  redis.call('PEXPIRE', KEYS[1], whole(2 * SEEN / 1000))
  local flat, count = redis.call('HGETALL', KEYS[1]), 0
  for i = 1, #flat, 2 do
    if now - tonumber(flat[i + 1]) > SEEN then
      redis.call('HDEL', KEYS[1], flat[i])
    else
      count = count + 1
    end
  end
  return count
end

-- What is known of a limit; edges that are gone are dropped from it.
local function read(key, at)
  local limit = {
    key = key, calls = ARGV[at] == '1', amount = tonumber(ARGV[at + 1]), depth = tonumber(ARGV[at + 2]),
    needed = tonumber(ARGV[at + 3]), wanted = tonumber(ARGV[at + 4]), arrival = 0, holders = 1, others = 0,
  }
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    if name == 'arrival' then
      limit.arrival = tonumber(value)
    elseif name ~= holder then
      local seen, calls, ends = string.match(value, '^(%d+) (%d+) (%d+)$')
      if tonumber(ends) > now then
        limit.others = limit.others + tonumber(calls)
      end
      if now - tonumber(seen) <= SEEN then
        limit.holders = limit.holders + 1
      else
        redis.call('HDEL', key, name)
      end
    end
  end
  local returned = tonumber(ARGV[at + 5])
  if returned > 0 and limit.amount > 0 then
    limit.arrival = limit.arrival - math.floor(returned * MINUTE / limit.amount)
  end
  limit.room = math.max(0, limit.amount - limit.others)
  return limit
end

local function short(limit)
  if limit.needed == 0 then
    return false
  end
  if limit.calls then
    return limit.room < limit.needed
  end
  return wait(limit) ~= 0
end

-- A share of a rate: what is needed, and of the rest a part that leaves some for the other edges.
local function units(limit, none)
  local granted, pause = 0, -1
  if not none then
    local spare = math.floor(math.max(0, available(limit) - limit.needed) / (limit.holders + 1))
    granted = limit.needed + math.min(math.max(0, limit.wanted - limit.needed), spare)
    if granted > 0 then
      limit.arrival = math.max(limit.arrival, now) + span(limit, granted)
    end
  end
  if granted < limit.needed then
    pause = wait(limit)
  end
  redis.call('HSET', limit.key, 'arrival', whole(limit.arrival), holder, whole(now) .. ' 0 0')
  redis.call('PEXPIRE', limit.key, whole(math.min(MOST, math.max(SEEN, limit.arrival - now)) / 1000))
  return { granted, math.min(MOST, available(limit)), math.min(MOST, math.max(0, limit.arrival - now)), limit.holders,
    math.min(MOST, pause) }
end

-- A share of calls at once: as many as there is room for beside those of the other edges.
local function slots(limit)
  local spare = math.floor(math.max(0, limit.room - limit.needed) / (limit.holders + 1))
  local granted = math.min(limit.room, limit.needed + math.min(math.max(0, limit.wanted - limit.needed), spare))
  redis.call('HSET', limit.key, holder, whole(now) .. ' ' .. whole(granted) .. ' ' .. whole(now + SLOT))
  redis.call('PEXPIRE', limit.key, whole(SEEN / 1000))
  local pause = -1
  if granted < limit.needed and limit.amount > 0 then
    pause = BUSY
  end
  return { granted, limit.room - granted, 0, limit.holders, pause }
end

local limits, none = {}, false
for i = 2, #KEYS do
  local limit = read(KEYS[i], 3 + (i - 2) * WIDTH)
  limits[i - 1] = limit
  none = none or short(limit)
end
local answer = { counting() }
for i, limit in ipairs(limits) do
  answer[i + 1] = limit.calls and slots(limit) or units(limit, none)
end
return answer
