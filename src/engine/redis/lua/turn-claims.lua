-- A turn's claims: whose task is next. The fourth part of the turn, which turn.lua ends.
local claim, wait
do

-- Tasks that waited too long stand in the way only until they are ended; should they be very many, a sweep goes on.
local PASSES = 20
-- Of these groups alone, one after the other, in the lanes of one priority.
local function take_of_groups(turn, open, tasks, rules, want)
  local got = 0
  for _, lane in ipairs(open) do
    local rule = rules[lane.type]
    for _, group in ipairs(turn.groups) do
      local part = group_lane(lane, group)
      for _ = 1, want + PASSES do
        local most = math.min(want - got, rule.free)
        if rule.group_limit then
          most = math.min(most, rule.group_limit - call('SCARD', P .. KEY.held .. lane.type .. '|' .. group))
        end
        local handed_out, started = 0, 0
        if most > 0 then handed_out, started = take_of_group(turn, lane, part, most, tasks) end
        if handed_out == 0 then break end
        got, rule.free = got + started, rule.free - started
      end
    end
  end
  return got
end

-- Lanes of the same priority: the task that has been ready longest goes first, whichever type it is.
local function take_by_age(turn, open, tasks, rules, want)
  local places, firsts = {}, {}
  local function look(index)
    local lane = open[index]
    if rules[lane.type].rotates[lane] then
      places[index] = whose_turn(lane, rules[lane.type].group_limit)
      firsts[index] = places[index] and places[index].entry
    else
      firsts[index] = first_of(lane)
    end
  end
  for index, lane in ipairs(open) do
    if rules[lane.type].rotates[lane] then join_alone(lane) end
    look(index)
  end
  local got = 0
  for _ = 1, want + PASSES do
    local oldest, second
    for index = 1, #open do
      local first = firsts[index]
      if first and rules[open[index].type].free > 0 then
        if not oldest or first < firsts[oldest] then
          oldest, second = index, oldest and firsts[oldest]
        elseif not second or first < second then
          second = first
        end
      end
    end
    if not oldest or got == want then break end
    local lane, started = open[oldest], nil
    local rule = rules[lane.type]
    local most = math.min(want - got, rule.free)
    if rule.rotates[lane] then
      started = take_one(turn, lane, places[oldest], tasks)
    else
      if second then
        -- As many as are older than the next lane's first.
        local _, last = first_of(lane)
        most = last and math.max(1, #call('XRANGE', lane.stream, '(' .. last, second, 'COUNT', most)) or 1
      end
      local _
      _, started = take(turn, lane, most, tasks)
    end
    got = got + started
    rule.free = rule.free - started
    look(oldest)
  end
  return got
end

-- The starts of a type that still count for its rate: `<at>,<how many>` each, oldest first, and their sum.
local function starts_left(kind, max, per_ms)
  local log, sum = P .. KEY.starts .. kind, tonumber(call('HGET', P .. KEY.started, kind) or 0)
  while sum > 0 do
    local oldest = call('LINDEX', log, 0)
    local time, starts = oldest:match('^(%d+),(%d+)$')
    if time + per_ms > now then break end
    call('LPOP', log)
    sum = call('HINCRBY', P .. KEY.started, kind, -starts)
  end
  return max - sum
end

local function log_starts(kind, starts)
  call('RPUSH', P .. KEY.starts .. kind, NOW .. ',' .. starts)
  call('HINCRBY', P .. KEY.started, kind, starts)
end

-- What the rules of the types let start: {lanes, free, limited ('type' or 'rate'), group_limit, rate} by type.
local function rules_of(kinds, want)
  local rules = {}
  if #kinds == 0 then return rules end
  local fields = {}
  for _, kind in ipairs(kinds) do
    fields[#fields + 1] = kind
    fields[#fields + 1] = kind .. '/lanes'
  end
  local values = {}
  for from = 1, #fields, CHUNK do
    for _, value in ipairs(call('HMGET', P .. KEY.rules, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))) do
      values[#values + 1] = value
    end
  end
  for index, kind in ipairs(kinds) do
    local text = values[index * 2 - 1]
    if not text and not has_lost(was_here) and make_type(kind) then text = NEW_RULES end
    if text then
      local paused, limit, group_limit, max, per = text:match('^(%d),(%d*),%l,(%d*),%l,(%d*),(%d*),')
      local rule = { free = paused == '1' and 0 or want, rotates = {}, group_limit = tonumber(group_limit) }
      rules[kind] = rule
      if limit ~= '' and rule.free > 0 then
        rule.free = math.min(rule.free, limit - call('ZCARD', P .. KEY.running .. kind))
        if rule.free <= 0 then rule.limited = 'type' end
      end
      if max ~= '' then
        rule.max, rule.per = tonumber(max), tonumber(per)
        rule.free = math.min(rule.free, starts_left(kind, rule.max, rule.per))
        if rule.free <= 0 then rule.limited = rule.limited or 'rate' end
      end
      rule.lanes = rule.free > 0 and lanes_of(kind, values[index * 2]) or {}
    end
  end
  return rules
end

function claim(turn)
  local tasks, want = {}, turn.want
  if want <= 0 or turn.leaves == '1' then return tasks, {} end
  -- Each entry that was given back has its record there.
  turn.has_back = call('EXISTS', P .. KEY.again) == 1
  turn.begun = { types = {}, moved = {}, waits = {} }
  turn.lease_text = string.format('%d', turn.lease_ms)
  turn.expires = string.format('%d', now + turn.lease_ms)
  local rules = rules_of(turn.types, want)
  local by_priority, before = {}, {}
  for _, kind in ipairs(turn.types) do
    local rule = rules[kind]
    before[kind] = claimed[kind] or 0
    for _, lane in ipairs(rule and rule.lanes or {}) do
      append(by_priority, lane.priority, lane)
      if has_streams_of_groups(lane) then adopt_groups(lane) end
      rule.rotates[lane] = call('EXISTS', P .. KEY.rotation .. lane.name) == 1
    end
  end
  for digit = 9, 0, -1 do
    local open = by_priority[tostring(digit)]
    if open and want > 0 then
      local lane, rule = open[1], rules[open[1].type]
      if #turn.groups > 0 then
        want = want - take_of_groups(turn, open, tasks, rules, want)
      elseif #open > 1 then
        want = want - take_by_age(turn, open, tasks, rules, want)
      elseif rule.rotates[lane] then
        local got = take_in_turns(turn, lane, math.min(want, rule.free), tasks, rule.group_limit)
        want, rule.free = want - got, rule.free - got
      else
        for _ = 1, PASSES do
          local most = math.min(want, rule.free)
          if most <= 0 then break end
          local handed_out, started = take(turn, lane, most, tasks)
          want, rule.free = want - started, rule.free - started
          if handed_out < most or started == handed_out then break end
        end
      end
    end
  end
  write_begun(turn)
  for kind, rule in pairs(rules) do
    local starts = (claimed[kind] or 0) - before[kind]
    if rule.max and starts > 0 then log_starts(kind, starts) end
  end
  return tasks, rules
end

-- When a rate lets the next task start.
local function rate_allows_at(kind, rule)
  local sum = tonumber(call('HGET', P .. KEY.started, kind) or 0)
  for _, entry in ipairs(call('LRANGE', P .. KEY.starts .. kind, 0, -1)) do
    local time, starts = entry:match('^(%d+),(%d+)$')
    sum = sum - starts
    if sum < rule.max then return time + rule.per end
  end
  return now
end

-- Until something comes: whoever waits for a task is told of one, whoever waits for a permit of one that comes free.
function wait(turn, rules)
  for _, kind in ipairs(turn.types) do
    local rule = rules[kind]
    local blocked = rule and rule.limited ~= nil
    for lane in pairs(rule and rule.rotates or {}) do
      blocked = blocked or call('EXISTS', P .. KEY.at_limit .. lane.name) == 1
    end
    if blocked then call('SADD', P .. KEY.blocked .. kind, process) end
    if not blocked or not rule.limited then call('SADD', P .. KEY.waiting .. kind, process) end
    if rule and rule.limited == 'rate' then
      local allowed_at = string.format('%d', rate_allows_at(kind, rule))
      if next_due == '' or allowed_at < next_due then next_due = allowed_at end
      broadcast('due ' .. allowed_at)
    end
  end
end

end
