-- The claims of a turn: they select the next tasks. A part of turn.lua.
local claim
do

-- Tasks that waited too long delay a claim only until they are ended; if there are very many, a sweep continues.
local PASSES = 20
-- The number of places of `ready` that are read at once, and of lanes that one claim checks.
local LANES_AT_ONCE, LANES_MAX = 32, 1000
-- Priorities, the highest first.
local DIGITS = { '9', '8', '7', '6', '5', '4', '3', '2', '1', '0' }

-- Claims only from the given groups, one after the other, in the lanes of one priority.
local function take_of_groups(step, turn, open, tasks, rules, want)
  local got = 0
  for _, lane in ipairs(open) do
    local rule = rules[lane.type]
    for _, group in ipairs(turn.groups) do
      local part = group_lane(lane, group)
      lone.leave(step, part)
      for _ = 1, want + PASSES do
        local most = math.min(want - got, rule.free)
        local limit = group_permits.limit_of(step, lane.type, group, rule.group_limit)
        if limit then most = math.min(most, limit - call('SCARD', group_permits.key_of(step, lane.type, group))) end
        local handed_out, started = 0, 0
        if most > 0 then handed_out, started = take_of_group(step, turn, lane, part, most, tasks) end
        if handed_out == 0 then break end
        got, rule.free = got + started, rule.free - started
      end
      local more = math.min(want - got, rule.free)
      local started = take_with_limits(step, turn, lane, group, more, tasks, rule.group_limit)
      got, rule.free = got + started, rule.free - started
    end
  end
  return got
end

-- Claims from lanes of the same priority: the task that has been ready longest is first, whatever its type.
local function take_by_age(step, turn, open, tasks, rules, want)
  local places, firsts = {}, {}
  local function refresh(index)
    local lane = open[index]
    if rules[lane.type].rotates[lane] then
      places[index] = next_ready_place(step, lane, rules[lane.type].group_limit)
      firsts[index] = places[index] and places[index].entry
    else
      firsts[index] = first_of(step, lane)
    end
  end
  for index, lane in ipairs(open) do
    if rules[lane.type].rotates[lane] then join_ungrouped(step, lane) end
    refresh(index)
  end
  local got, passes = 0, want + PASSES
  while passes > 0 do
    passes = passes - 1
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
      local is_set_aside
      started, is_set_aside = take_one(step, turn, lane, places[oldest], tasks)
      if is_set_aside then passes = passes + 1 end
    else
      if second then
        -- As many as are older than the first task of the next lane.
        local _, last = first_of(step, lane)
        most = last and math.max(1, #call('XRANGE', lane.stream, '(' .. last, second, 'COUNT', most)) or 1
      end
      local _
      _, started = take(step, turn, lane, most, tasks)
    end
    got = got + started
    rule.free = rule.free - started
    refresh(oldest)
  end
  return got
end

-- Returns how many starts the rate of a type still allows. The log is `<at>,<how many>` each, oldest first; `started`
-- is their sum.
local function starts_left(step, kind, max, per_ms)
  local prefix = step.prefix
  local log, sum = prefix .. KEY.starts .. kind, tonumber(call('HGET', prefix .. KEY.started, kind) or 0)
  while sum > 0 do
    local oldest = call('LINDEX', log, 0)
    local time, starts = unpack_starts(oldest)
    if time + per_ms > step.now then break end
    call('LPOP', log)
    sum = call('HINCRBY', prefix .. KEY.started, kind, -starts)
  end
  return max - sum
end

local function log_starts(step, kind, starts)
  local prefix = step.prefix
  call('RPUSH', prefix .. KEY.starts .. kind, pack_starts(step.now_text, starts))
  call('HINCRBY', prefix .. KEY.started, kind, starts)
end

local function apply_hold(step, kind, rule, held_until)
  if held_until <= step.now then
    call('HDEL', step.prefix .. KEY.rules, kind .. '/held')
  elseif rule.free > 0 then
    rule.free, rule.bound, rule.limited, rule.held_until = 0, 'hold', 'hold', held_until
  end
end

-- Returns how many tasks the rules allow to start, by type: {lanes, free, limited ('type', 'rate' or 'hold'),
-- group_limit, rate}.
local function rules_of(step, kinds, want)
  local prefix = step.prefix
  local rules = {}
  if #kinds == 0 then return rules end
  local fields = {}
  for _, kind in ipairs(kinds) do
    fields[#fields + 1] = kind
    fields[#fields + 1] = kind .. '/lanes'
    fields[#fields + 1] = kind .. '/held'
  end
  local values = {}
  if #fields <= CHUNK then
    values = call('HMGET', prefix .. KEY.rules, unpack(fields))
  else
    for from = 1, #fields, CHUNK do
      local to = math.min(from + CHUNK - 1, #fields)
      for _, value in ipairs(call('HMGET', prefix .. KEY.rules, unpack(fields, from, to))) do
        values[#values + 1] = value
      end
    end
  end
  for index, kind in ipairs(kinds) do
    local text, lanes, held_until = unpack(values, index * 3 - 2, index * 3)
    if not text and not has_lost(step, step.was_here) and make_type(step, kind) then text = NEW_RULES end
    if text then
      local stored = unpack_rules(text)
      local rule = {
        free = stored.paused == '1' and 0 or want, rotates = {}, group_limit = tonumber(stored.group_limit),
      }
      rules[kind] = rule
      if held_until then apply_hold(step, kind, rule, tonumber(held_until)) end
      if rule.group_limit then group_permits.keep(step, kind) end
      if stored.limit ~= '' and rule.free > 0 then
        local free = stored.limit - call('ZCARD', prefix .. KEY.running .. kind)
        if free < rule.free then rule.free, rule.bound = free, 'type' end
        if rule.free <= 0 then rule.limited = 'type' end
      end
      if stored.rate_max ~= '' and not rule.held_until then
        rule.rate_max, rule.rate_per_ms = tonumber(stored.rate_max), tonumber(stored.rate_per_ms)
        local free = starts_left(step, kind, rule.rate_max, rule.rate_per_ms)
        if free < rule.free then rule.free, rule.bound = free, 'rate' end
        if rule.free <= 0 then rule.limited = rule.limited or 'rate' end
      end
      rule.lanes = rule.free > 0 and lanes_of(step, kind, lanes) or {}
    end
  end
  return rules
end

local function check_groups(step, rule, lane)
  local prefix, name = step.prefix, lane.name
  -- Most lanes have no groups.
  local keys = call('EXISTS', prefix .. KEY.rotation .. name, prefix .. KEY.lone .. name,
    prefix .. KEY.at_limit .. name, prefix .. KEY.ring .. name, prefix .. KEY.aside .. name,
    prefix .. KEY.served .. name)
  lane.has_groups = keys > 0
  rule.rotates[lane] = false
  if not lane.has_groups then return end
  if has_streams_of_groups(step, lane) then adopt_groups(step, lane) end
  rule.rotates[lane] = call('EXISTS', prefix .. KEY.rotation .. name, prefix .. KEY.lone .. name) > 0
  -- The common limit of groups of which one may have its own.
  if rule.rotates[lane] and not rule.group_limit and group_permits.have_own(step, lane.type) then
    rule.group_limit = math.huge
  end
end

-- Claims from the lanes of some types, the highest priority first; returns how many more tasks are wanted.
local function claim_by_priority(step, turn, tasks, want, rules, by_priority)
  for place = 1, #DIGITS do
    local open = by_priority[DIGITS[place]]
    if open and want > 0 then
      local lane, rule = open[1], rules[open[1].type]
      if #turn.groups > 0 then
        want = want - take_of_groups(step, turn, open, tasks, rules, want)
      elseif #open > 1 then
        want = want - take_by_age(step, turn, open, tasks, rules, want)
      elseif rule.rotates[lane] then
        local got = take_in_rotation(step, turn, lane, math.min(want, rule.free), tasks, rule.group_limit)
        want, rule.free = want - got, rule.free - got
      else
        for _ = 1, PASSES do
          local most = math.min(want, rule.free)
          if most <= 0 then break end
          local handed_out, started = take(step, turn, lane, most, tasks)
          want, rule.free = want - started, rule.free - started
          if handed_out < most or started == handed_out then break end
        end
      end
    end
  end
  return want
end

-- Claims from each of a few types.
local function claim_of_types(step, turn, tasks, want)
  local rules = rules_of(step, turn.types, want)
  repeat
    local by_priority = {}
    for _, kind in ipairs(turn.types) do
      local rule = rules[kind]
      for _, lane in ipairs(rule and rule.lanes or {}) do
        append(by_priority, lane.priority, lane)
        check_groups(step, rule, lane)
      end
    end
    want = claim_by_priority(step, turn, tasks, want, rules, by_priority)
  until want <= 0 or not limits.reopen(step)
  return rules
end

local claim_of_typeset
do

-- Marks a type that may start no task at present.
local function park(step, kind, rule)
  local prefix = step.prefix
  local until_ms = waits.end_by_time(rule.bound) and string.format('%d', waits.allowed_at(step, kind, rule)) or '+inf'
  call('ZADD', prefix .. KEY.parked, until_ms, kind)
  for _, lane in ipairs(lanes_of_type(step, kind)) do
    place_lane(step, lane, nil, call('HGET', prefix .. KEY.ready_lanes, lane.name))
    lane.ready_from = nil
  end
end

-- Starts tasks of a lane that are no younger than `until_entry`, if it is given; returns the number started, and the
-- lane's first entry after that. `first` is the entry in `ready`: if the lane's first task is another one, nothing
-- starts.
local function take_first(step, turn, lane, rule, most, tasks, first, until_entry)
  local rotates, place, entry, last = rule.rotates[lane], nil, nil, nil
  local function refresh()
    if rotates then
      place = next_ready_place(step, lane, rule.group_limit)
      entry = place and place.entry
    else
      entry, last = first_of(step, lane)
    end
  end
  if rotates then join_ungrouped(step, lane) end
  refresh()
  if entry ~= first then return 0, entry end
  local started
  if rotates then
    started = take_one(step, turn, lane, place, tasks)
  else
    if until_entry then
      most = last and math.max(1, #call('XRANGE', lane.stream, '(' .. last, until_entry, 'COUNT', most)) or 1
    end
    local _
    _, started = take(step, turn, lane, most, tasks)
  end
  refresh()
  return started, entry
end

-- Claims from the lane at a place of `ready`; returns the number started, and where to continue.
local function claim_at(step, turn, tasks, want, rules, member, until_entry)
  local prefix = step.prefix
  local kind, entry = member:sub(27), member:sub(2, 25)
  local name = string.format('%s:%d', kind, 9 - member:sub(1, 1))
  local rule = rules[kind] or rules_of(step, { kind }, turn.want)[kind]
  local on = '(' .. member
  if not rule then return 0, on end
  rules[kind] = rule
  if rule.free <= 0 then
    park(step, kind, rule)
    return 0, on
  end
  local lane
  for _, other in ipairs(rule.lanes) do
    if other.name == name then lane = other end
  end
  local started, first = 0, nil
  if lane then
    check_groups(step, rule, lane)
    started, first = take_first(step, turn, lane, rule, math.min(want, rule.free), tasks, entry, until_entry)
    rule.free = rule.free - started
    if first ~= entry then place_lane(step, lane, first, entry) end
    lane.ready_from = first
  else
    call('ZREM', prefix .. KEY.ready, member)
    call('HDEL', prefix .. KEY.ready_lanes, name)
  end
  return started, first and first <= entry and '[' .. ready_member(lane, first) or on
end

-- Claims from the ready types among very many types, in the order of `ready`.
function claim_of_typeset(step, turn, tasks, want)
  local prefix = step.prefix
  local allowed = call('ZRANGEBYSCORE', prefix .. KEY.parked, '-inf', step.now_text, 'LIMIT', 0, LANES_AT_ONCE)
  for _, kind in ipairs(allowed) do
    unpark(step, kind)
  end
  local rules, from, claims = {}, '-', 0
  while want > 0 and claims < LANES_MAX do
    local members = call('ZRANGEBYLEX', prefix .. KEY.ready, from, '+', 'LIMIT', 0, LANES_AT_ONCE)
    if not members[1] then
      if not limits.reopen(step) then break end
      from, members = '-', call('ZRANGEBYLEX', prefix .. KEY.ready, '-', '+', 'LIMIT', 0, LANES_AT_ONCE)
    end
    local kinds, mine, following = {}, nil, nil
    for index, member in ipairs(members) do kinds[index] = member:sub(27) end
    for index, is_mine in ipairs(call('SMISMEMBER', prefix .. KEY.typeset .. turn.typeset, unpack(kinds))) do
      if is_mine == 1 and not mine then
        mine = members[index]
      elseif is_mine == 1 then
        following = members[index]
        break
      end
    end
    -- The places after these are not known, so the last one is used as the next.
    if not following and #members == LANES_AT_ONCE then following = members[#members] end
    from = '(' .. members[#members]
    if mine then
      local is_next = following and following:sub(1, 1) == mine:sub(1, 1)
      local started
      started, from = claim_at(step, turn, tasks, want, rules, mine, is_next and following:sub(2, 25) or nil)
      want, claims = want - started, claims + 1
    end
  end
  return rules
end

end

function claim(step, turn)
  local tasks, want = {}, turn.want
  turn.started = 0
  if want <= 0 or turn.leaves == '1' then return tasks, {} end
  -- Each returned entry has its record there.
  local again, parked = step.prefix .. KEY.again, step.prefix .. KEY.limits_parked
  turn.has_back = step.may_have_rare and call('EXISTS', again, parked) > 0
  if turn.has_back then
    limits.reopen_due(step, LANES_AT_ONCE)
    turn.has_back = call('EXISTS', again) == 1
  end
  turn.begun = { types = {}, moved = {}, waits = {}, heads = {} }
  turn.lease_text = string.format('%d', turn.lease_ms)
  turn.expires_at = string.format('%d', step.now + turn.lease_ms)
  local before = {}
  for kind, starts in pairs(step.claimed) do before[kind] = starts end
  local claim_some = turn.typeset ~= '' and claim_of_typeset or claim_of_types
  local rules = claim_some(step, turn, tasks, want)
  write_begun(step, turn)
  for kind, rule in pairs(rules) do
    local starts = (step.claimed[kind] or 0) - (before[kind] or 0)
    turn.started = turn.started + starts
    if rule.rate_max and starts > 0 then log_starts(step, kind, starts) end
  end
  return tasks, rules
end

end
