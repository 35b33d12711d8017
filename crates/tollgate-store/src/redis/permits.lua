-- Permits of one key: who holds them, and who waits in line. The rules are those of `Concurrency` in tollgate-core.
--
-- KEYS: those who hold, by when they lapse; those in line, by when they came; and a hash of the units of each (`h`, `w` and
-- the permit's name), when each place in line lapses (`u` and the name), the units held together, and the number of the next place.
-- ARGV: what is to be done, the time (nothing: the server's own), the permit; to acquire: units, how many there are, for how long
-- it lasts, for how long a place in line is kept, how many holders there may be; to renew: for how long. Times are microseconds.
local held, line, units = KEYS[1], KEYS[2], KEYS[3]
local what, now, id = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local DAY = 86400000000

local function whole(number) return string.format('%.0f', number) end
local function of(kind, name) return tonumber(redis.call('HGET', units, kind .. name) or 0) end
local function free_line(name)
  redis.call('ZREM', line, name)
  redis.call('HDEL', units, 'w' .. name, 'u' .. name)
end
local function free_held(name)
  redis.call('ZREM', held, name)
  redis.call('HINCRBY', units, 'held', whole(-of('h', name)))
  redis.call('HDEL', units, 'h' .. name)
end

-- What would last for longer than anything can lies in a future that the clock was set back from.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', held, '(' .. whole(now + DAY), '+inf')) do
  redis.call('ZADD', held, whole(now + DAY), name)
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', whole(now))) do free_held(name) end
local waiting, awaited = {}, 0
for _, name in ipairs(redis.call('ZRANGE', line, 0, -1)) do
  if of('u', name) > now + DAY then redis.call('HSET', units, 'u' .. name, whole(now + DAY)) end
  if of('u', name) > now then
    waiting[#waiting + 1] = name
    awaited = awaited + of('w', name)
  else
    free_line(name)
  end
end
local in_use = of('held', '')

-- Nothing of a key outlives what it says.
local function kept(answer)
  local last = redis.call('ZRANGE', held, -1, -1, 'WITHSCORES')
  local latest = tonumber(last[2] or 0)
  for _, name in ipairs(redis.call('ZRANGE', line, 0, -1)) do latest = math.max(latest, of('u', name)) end
  if latest <= now then
    redis.call('UNLINK', held, line, units)
  else
    -- In case the clock is set back; and where the time is told, as the server's own says nothing then.
    local more = ARGV[2] == '' and 1000 or 600000
    local millis = math.ceil((latest - now) / 1000) + more
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, whole(millis)) end
  end
  return answer
end

if what == 'usage' then return { in_use, awaited } end
if what == 'renew' then
  if not redis.call('ZSCORE', held, id) then return kept({ -1 }) end
  redis.call('ZADD', held, whole(now + ARGV[4]), id)
  return kept({ tonumber(ARGV[4]) })
end
if what == 'release' then
  local was = 0
  if redis.call('ZSCORE', held, id) then
    was = 1
    free_held(id)
  end
  if redis.call('ZSCORE', line, id) then
    was = 1
    free_line(id)
  end
  return kept({ was })
end

local wanted, most, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local patience, crowd = tonumber(ARGV[7]), tonumber(ARGV[8])
local until_when = redis.call('ZSCORE', held, id)
if until_when then return kept({ 1, tonumber(until_when) - now, 0 }) end
local ahead, is_in_line = 0, false
for _, name in ipairs(waiting) do
  if name == id then
    is_in_line = true
    break
  end
  ahead = ahead + of('w', name)
end
if wanted > most then
  free_line(id)
  return kept({ 0, ahead, -1 })
end
local free = math.max(most - in_use, 0)
local is_crowded = not is_in_line and redis.call('ZCARD', held) + #waiting >= crowd
if ahead + wanted <= free and not is_crowded then
  free_line(id)
  redis.call('ZADD', held, whole(now + ttl), id)
  redis.call('HSET', units, 'h' .. id, wanted)
  redis.call('HINCRBY', units, 'held', wanted)
  return kept({ 1, ttl, 0 })
end
if patience == 0 then
  free_line(id)
elseif is_in_line or not is_crowded then
  if not is_in_line then redis.call('ZADD', line, redis.call('HINCRBY', units, 'next', 1), id) end
  redis.call('HSET', units, 'w' .. id, wanted, 'u' .. id, whole(now + patience))
end
local missing, back, at = math.max(ahead + wanted - free, 0), 0, now
local ends = redis.call('ZRANGE', held, 0, -1, 'WITHSCORES')
for index = 1, #ends, 2 do
  at = tonumber(ends[index + 1])
  back = back + of('h', ends[index])
  if back >= missing then break end
end
return kept({ 0, ahead, at - now })
