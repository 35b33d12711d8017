-- Decides requests, one after the other, on the states under KEYS.
--
-- ARGV[1]  the time in microseconds, or nothing: the server's own
-- ARGV[2]  the rules, and ARGV[3] the requests: see `wire.rs`, which packs them
--
-- Answers the time, for each request a digit (1 if it passes), and then for each key the state that was found. What the answers
-- mean for people (what is left, when to retry) is worked out by whoever asked, from just that.
--
-- All numbers are whole and below 2^53, so that doubles hold them exactly. A meter's times and costs are pairs: whole
-- microseconds, and a rest in parts of one. The rules themselves are explained in `tollgate-core/src/algorithm/`.

local read, write, byte, rep = struct.unpack, struct.pack, string.byte, string.rep
local floor, fmod, min, max = math.floor, math.fmod, math.min, math.max

local now
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
else
  now = tonumber(ARGV[1])
end

-- a / b, rounded up.
local function up(a, b)
  local whole = floor(a / b)
  if whole * b < a then return whole + 1 end
  return whole
end

-- Whether a * b <= c * d. The products pass 2^53, so they are compared in three parts of 26 bits and more.
local PART = 67108864
local function product(a, b)
  local a1, b1 = floor(a / PART), floor(b / PART)
  local a0, b0 = a - a1 * PART, b - b1 * PART
  local low = a0 * b0
  local mid = a1 * b0 + a0 * b1 + floor(low / PART)
  return a1 * b1 + floor(mid / PART), mid % PART, low % PART
end
local function at_most(a, b, c, d)
  local x2, x1, x0 = product(a, b)
  local y2, y1, y0 = product(c, d)
  if x2 ~= y2 then return x2 < y2 end
  if x1 ~= y1 then return x1 < y1 end
  return x0 <= y0
end

-- Each kind of rule: `load` makes a state of a value (or a new one of none, or of one that is vacant), settled at the
-- present, and says whether it was changed by that; `admits`; `take`; `step` is both at once, and says whether it admits;
-- `save` makes a value, and says when it is vacant.
local kinds = {}

-- GCRA, leaky bucket, and token bucket that refills steadily: the moment of the fullest.
-- r: from empty to full, parts of a microsecond, what a new key has spent, how long a full one is remembered
local function load_meter(r, value, farthest, farthest_part)
  local parts, rest, rest_part = r[3], r[6], r[7]
  local s = {}
  if value then
    s.at, s.part = read('<dd', value, 2)
    local vacant, vacant_part = s.at + rest, s.part + rest_part
    if vacant_part >= parts then vacant, vacant_part = vacant + 1, vacant_part - parts end
    if vacant > now or (vacant == now and vacant_part > 0) then
      local latest = now + farthest
      if s.at > latest or (s.at == latest and s.part > farthest_part) then
        s.at, s.part = latest, farthest_part
        return s, true
      end
      return s, false
    end
  end
  s.at, s.part = now + r[4], r[5]
  -- A new key that is not at its fullest begins to recover now, whatever becomes of the request.
  return s, value or r[4] > 0 or r[5] > 0
end

kinds.m = {
  rule = '<ddddddd',
  load = function(r, value)
    return load_meter(r, value, r[1], r[2])
  end,
  after = function(r, s, cost, cost_part)
    local debt, debt_part = cost, cost_part
    if s.at >= now then debt, debt_part = debt + s.at - now, debt_part + s.part end
    if debt_part >= r[3] then return debt + 1, debt_part - r[3] end
    return debt, debt_part
  end,
  admits = function(r, s, cost, cost_part)
    local debt, debt_part = kinds.m.after(r, s, cost, cost_part)
    return debt < r[1] or (debt == r[1] and debt_part <= r[2])
  end,
  take = function(r, s, cost, cost_part)
    local debt, debt_part = kinds.m.after(r, s, cost, cost_part)
    s.at, s.part = now + debt, debt_part
  end,
  step = function(r, s, cost, cost_part)
    local debt, debt_part = kinds.m.after(r, s, cost, cost_part)
    if debt > r[1] or (debt == r[1] and debt_part > r[2]) then return false end
    if cost > 0 or cost_part > 0 then s.at, s.part = now + debt, debt_part end
    return true
  end,
  save = function(r, s)
    return write('<c1dd', 'm', s.at, s.part), s.at + r[6] + 2
  end,
}

-- The same for limits that come with each call: what another limit wrote holds as it is, up to 2^58 nanoseconds ahead. Their
-- microsecond has a thousand parts, all of them.
kinds.c = {
  rule = kinds.m.rule,
  load = function(r, value)
    return load_meter(r, value, 288230376151711, 744)
  end,
  admits = kinds.m.admits,
  take = kinds.m.take,
  step = kinds.m.step,
  save = function(r, s)
    return write('<c1dd', 'c', s.at, s.part), s.at + r[6] + 2
  end,
}

-- Token bucket that refills by the batch: tokens missing, and since when the next batch is under way.
-- r: capacity, batch, period, what a new key misses, how long a full one is remembered
kinds.b = {
  rule = '<ddddd',
  load = function(r, value)
    if value then
      local _, missing, since = read('<c1dd', value)
      if since + up(missing, r[2]) * r[3] + r[5] > now then
        local ahead = since > now
        if ahead then since = now end
        return { missing = missing, since = since }, ahead
      end
    end
    return { missing = r[4], since = now }, value or r[4] > 0
  end,
  roll = function(r, s)
    local elapsed = now - s.since
    local missing = max(0, min(s.missing, r[1]) - floor(elapsed / r[3]) * r[2])
    return missing, now - fmod(elapsed, r[3])
  end,
  admits = function(r, s, cost)
    return kinds.b.roll(r, s) + cost <= r[1]
  end,
  take = function(r, s, cost)
    local missing, since = kinds.b.roll(r, s)
    if missing == 0 then since = now end
    s.missing, s.since = min(missing + cost, r[1]), since
  end,
  save = function(r, s)
    return write('<c1dd', 'b', s.missing, s.since), s.since + up(s.missing, r[2]) * r[3] + r[5]
  end,
}

-- Fixed window: its start, and what was taken in it.
-- r: limit, length
kinds.f = {
  rule = '<dd',
  load = function(r, value)
    local current = now - fmod(now, r[2])
    if value then
      local _, start, used = read('<c1dd', value)
      if used > 0 and start + r[2] > now then
        local ahead = start > current + r[2]
        if ahead then start = current + r[2] end
        return { start = max(start, current), used = start < current and 0 or used }, ahead
      end
    end
    return { start = current, used = 0 }, value
  end,
  admits = function(r, s, cost)
    return s.used + cost <= r[1]
  end,
  take = function(_, s, cost)
    s.used = s.used + cost
  end,
  save = function(r, s)
    return write('<c1dd', 'f', s.start, s.used), s.used > 0 and s.start + r[2] or 0
  end,
}

-- Fixed window of a calendar, or one that carries over: its start, what of the carry-over had been spent before, and what was
-- taken in it. `edges` finds the starts of the windows before, now, and of the three after; it gives nothing if it is not told
-- those around the present.
-- r: limit, carry-over, and what `edges` needs
local function periods(letter, rule, edges)
  return {
    rule = rule,
    edges = edges,
    load = function(r, value)
      local e = r.edges
      if value then
        local _, start, before, used = read('<c1ddd', value)
        if before + used > 0 then
          if start > e[3] then return { start = e[3], before = before, used = used }, true end
          if start >= e[2] then return { start = start, before = before, used = used }, false end
          if start == e[1] and before + used > r[1] then
            return { start = e[2], before = before + used - r[1], used = 0 }, false
          end
        end
      end
      return { start = e[2], before = 0, used = 0 }, value
    end,
    admits = function(r, s, cost)
      return s.before + s.used + cost <= r[1] + r[2]
    end,
    take = function(_, s, cost)
      s.used = s.used + cost
    end,
    save = function(r, s)
      local missing = s.before + s.used
      local vacant = 0
      if missing > 0 then
        -- One that lies ahead is the next.
        local ends = s.start >= r.edges[3] and 4 or 3
        vacant = r.edges[missing > r[1] and ends + 1 or ends]
      end
      return write('<c1ddd', letter, s.start, s.before, s.used), vacant
    end,
  }
end

kinds.w = periods('w', '<ddd', function(r)
  local current = now - fmod(now, r[3])
  return { current - r[3], current, current + r[3], current + 2 * r[3], current + 3 * r[3] }
end)

kinds.q = periods('q', '<ddddddddddd', function(r)
  -- Nine edges: one before the present window, and three after it.
  for index = 8, 4, -1 do
    if r[index] <= now then
      if now >= r[index + 1] then return nil end
      return { r[index - 1], r[index], r[index + 1], r[index + 2], r[index + 3] }
    end
  end
  return nil
end)

-- Sliding window: the start of the current one, and what was taken in the one before and in it.
-- r: limit, length
kinds.s = {
  rule = '<dd',
  load = function(r, value)
    local length = r[2]
    local current = now - fmod(now, length)
    if value then
      local _, start, before, used = read('<c1ddd', value)
      local vacant = 0
      if used > 0 then vacant = start + 2 * length elseif before > 0 then vacant = start + length end
      if vacant > now then
        local ahead = start > current + length
        if ahead then start = current + length end
        return { start = start, before = before, used = used }, ahead
      end
    end
    return { start = current, before = 0, used = 0 }, value
  end,
  roll = function(r, s)
    local current = now - fmod(now, r[2])
    if s.start >= current then return s.start, s.before, s.used end
    return current, s.start + r[2] == current and s.used or 0, 0
  end,
  admits = function(r, s, cost)
    if cost == 0 then return true end
    local start, before, used = kinds.s.roll(r, s)
    local left = r[1] - used - cost
    return left >= 0 and at_most(before, r[2] - max(0, now - start), left, r[2])
  end,
  take = function(r, s, cost)
    s.start, s.before, s.used = kinds.s.roll(r, s)
    s.used = s.used + cost
  end,
  save = function(r, s)
    local windows = s.used > 0 and 2 or s.before > 0 and 1 or nil
    return write('<c1ddd', 's', s.start, s.before, s.used), windows and s.start + windows * r[2] or 0
  end,
}

-- Sliding log: moments, oldest first, each with what was taken at it.
-- r: limit, length
kinds.l = {
  rule = '<dd',
  load = function(r, value)
    local s, ahead = {}, false
    if value then
      for at = 2, #value, 16 do
        s[#s + 1] = { read('<dd', value, at) }
      end
      if s[#s][1] + r[2] <= now then
        s, ahead = {}, true
      elseif s[#s][1] > now then
        local sum = 0
        while #s > 0 and s[#s][1] >= now do sum = sum + table.remove(s)[2] end
        s[#s + 1] = { now, sum }
        ahead = true
      end
    end
    return s, ahead
  end,
  admits = function(r, s, cost)
    if cost == 0 then return true end
    local used = 0
    for _, entry in ipairs(s) do
      if entry[1] + r[2] > now then used = used + entry[2] end
    end
    return used + cost <= r[1]
  end,
  take = function(r, s, cost)
    while #s > 0 and s[1][1] + r[2] <= now do table.remove(s, 1) end
    if #s > 0 and s[#s][1] >= now then
      s[#s][2] = s[#s][2] + cost
    else
      s[#s + 1] = { now, cost }
    end
  end,
  save = function(r, s)
    local parts = { 'l' }
    for index, entry in ipairs(s) do parts[index + 1] = write('<dd', entry[1], entry[2]) end
    return table.concat(parts), #s > 0 and s[#s][1] + r[2] or 0
  end,
}

-- What a kind does at once where it says nothing of it.
local function step(r, s, cost, cost_part)
  if not r.kind.admits(r, s, cost, cost_part) then return false end
  if cost > 0 or cost_part > 0 then r.kind.take(r, s, cost, cost_part) end
  return true
end

local values = #KEYS > 0 and redis.call('MGET', unpack(KEYS)) or {}
local states, rule_of, dirty = {}, {}, {}

local rules, at, count = {}, 1
count, at = read('<H', ARGV[2], at)
for index = 1, count do
  local kind
  kind, at = read('<c1', ARGV[2], at)
  local rule = { read(kinds[kind].rule, ARGV[2], at) }
  at = table.remove(rule)
  rule.kind = kinds[kind]
  rule.letter = byte(kind)
  rule.step = kinds[kind].step or step
  if rule.kind.edges then
    rule.edges = rule.kind.edges(rule)
    -- Whoever asks sends what there is to know around this time.
    if not rule.edges then return { string.format('%.0f', now) } end
  end
  rules[index] = rule
end

local function load(key, rule)
  local state = states[key]
  if not state then
    local value = values[key]
    -- Another kind of rule wrote it: it says nothing to this one.
    if value and byte(value) ~= rule.letter then value = nil end
    local changed
    state, changed = rule.kind.load(rule, value)
    states[key], rule_of[key] = state, rule
    if changed then dirty[key] = true end
  end
  return state
end

local passes = {}

-- Requests of one hit, which are most: so many, all read at once.
local function alone(count)
  local asked = { read('<' .. rep('HHdd', count), ARGV[3], at) }
  at = asked[#asked]
  for index = 1, count * 4, 4 do
    local rule, key, cost, cost_part = rules[asked[index]], asked[index + 1], asked[index + 2], asked[index + 3]
    local admits = rule.step(rule, states[key] or load(key, rule), cost, cost_part)
    if admits and (cost > 0 or cost_part > 0) then dirty[key] = true end
    passes[#passes + 1] = admits and '1' or '0'
  end
end

-- Any other request.
local function together()
  local allowed, hits = true, {}
  local groups
  groups, at = read('<H', ARGV[3], at)
  for _ = 1, groups do
    local needed, shadow, size
    needed, shadow, size, at = read('<HBH', ARGV[3], at)
    local admitting, first = 0, #hits + 1
    for _ = 1, size do
      local hit = {}
      hit.rule, at = read('<H', ARGV[3], at)
      if hit.rule == 0 then
        -- Without a state: the flag says whether it admits.
        hit.admits, at = read('<B', ARGV[3], at)
        hit.admits = hit.admits == 1
      else
        hit.rule = rules[hit.rule]
        -- What must be there, counting what the same key is asked for before; and what is taken.
        hit.key, hit.need, hit.need_part, hit.cost, hit.cost_part, at = read('<Hdddd', ARGV[3], at)
        hit.state = load(hit.key, hit.rule)
        hit.admits = hit.rule.kind.admits(hit.rule, hit.state, hit.need, hit.need_part)
      end
      if hit.admits then admitting = admitting + 1 end
      hits[#hits + 1] = hit
    end
    local admitted = admitting >= needed
    if not admitted then
      for index = first, #hits do hits[index].admits = false end
      if shadow == 0 then allowed = false end
    end
  end
  if allowed then
    for _, hit in ipairs(hits) do
      if hit.admits and hit.state and (hit.cost > 0 or hit.cost_part > 0) then
        hit.rule.kind.take(hit.rule, hit.state, hit.cost, hit.cost_part)
        dirty[hit.key] = true
      end
    end
  end
  passes[#passes + 1] = allowed and '1' or '0'
end

at = 1
local requests
requests, at = read('<H', ARGV[3], at)
while #passes < requests do
  local count
  count, at = read('<H', ARGV[3], at)
  if count > 0 then alone(count) else together() end
end

for key in pairs(dirty) do
  local value, vacant = rule_of[key].kind.save(rule_of[key], states[key])
  if vacant > now then
    -- A second more than it is worth remembering, in case the clock is set back; ten minutes if the time is told.
    local more = ARGV[1] == '' and 1000 or 600000
    -- As a text: numbers would be written as fractions, which takes longer.
    redis.call('SET', KEYS[key], value, 'PX', string.format('%d', up(vacant - now, 1000) + more))
  elseif values[key] then
    redis.call('DEL', KEYS[key])
  end
end

local answer = { string.format('%.0f', now), table.concat(passes) }
for key = 1, #KEYS do answer[key + 2] = values[key] end
return answer
