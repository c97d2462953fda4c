-- Lanes that wait for a named limit; a part of the code that all steps share.
--
-- A lane of the rotation (groups.lua) whose next task does not fit a limit waits for that limit: it is in `at_limit`
-- with its position, like a group at its limit, and in `held_back` with its need, as `<units> <limit>`. By limit and
-- lane, `limit_lanes` has the waiting lanes in the order of the rotation, and `limit_needs` has their needs.
-- `limit_waits:<limit>` has the types and priorities of these lanes. `limits_parked` has each limit for which lanes
-- wait, with the time at which it may have room, +inf if that depends on more than time.
--
-- When a limit may have room, as many of its lanes return to the rotation as there are free units, for each type. A
-- claim that visits a lane, and leaves room in one of its limits, lets the next ones return. So the cost of a claim
-- does not grow with the number of lanes that wait, and none waits for good.
do

-- The lanes of a type that return at once, or whose needs are compared.
local LANES_AT_ONCE = 100
-- The lanes of a group that a claim of this group checks.
local LANES_OF_GROUP = 1000
-- The lanes of a lane that a sweep compares with the tasks.
local LANES_CHECKED = 10
-- The lanes that a step sets aside before it leaves the others to the next one.
local ASIDE_MAX = 2000
-- In `at_limit` of a lane: lanes with limits wait for the limit of their group.
local WAITS_FOR_GROUP = '\31'

local function keys_of(step, lane, name)
  local suffix = lane.name .. '|' .. name
  return step.prefix .. KEY.limit_lanes .. suffix, step.prefix .. KEY.limit_needs .. suffix
end

-- Removes members from the lists of a limit.
local function leave_lists(step, lane, name, members)
  local prefix = step.prefix
  local order, needs = keys_of(step, lane, name)
  many('ZREM', order, members)
  many('ZREM', needs, members)
  if call('EXISTS', order) == 1 then return end
  call('SREM', prefix .. KEY.limit_waits .. name, lane.name)
  if call('EXISTS', prefix .. KEY.limit_waits .. name) == 0 then call('ZREM', prefix .. KEY.limits_parked, name) end
end

-- Records that a lane has been visited, or has no more tasks: its limits may have room for others.
function limits.visited(step, lane, member)
  for _, name in ipairs(limits.names_of(member)) do limits.touch(step, name) end
  local group = limits.group_of(member)
  if group ~= '' then limits.touch(step, limits.of_group(lane.type, group)) end
end

function limits.emptied(step, lane, member)
  if not limits.are_used(member) then return end
  limits.visited(step, lane, member)
  if limits.group_of(member) ~= '' then call('ZREM', step.prefix .. KEY.group_lanes .. lane.name, member) end
end

-- Records a lane of a group that has begun to wait, for claims of that group.
function limits.note_lane(step, lane, member)
  if limits.group_of(member) ~= '' then call('ZADD', step.prefix .. KEY.group_lanes .. lane.name, '0', member) end
end
function limits.are_in_groups(step, lane) return call('EXISTS', step.prefix .. KEY.group_lanes .. lane.name) == 1 end
function limits.lanes_of(step, lane, group)
  local from, to = '[' .. group .. '\31', '(' .. group .. '\32'
  return call('ZRANGEBYLEX', step.prefix .. KEY.group_lanes .. lane.name, from, to, 'LIMIT', 0, LANES_OF_GROUP)
end

-- Removes some of the lanes in which a process of the previous version has ended the last task.
function limits.tidy_lanes(step, lane)
  local key, gone = step.prefix .. KEY.group_lanes .. lane.name, {}
  if call('EXISTS', key) == 0 then return end
  for _, member in ipairs(call('ZRANDMEMBER', key, LANES_CHECKED)) do
    if not first_of(step, group_lane(lane, member)) then gone[#gone + 1] = member end
  end
  many('ZREM', key, gone)
end

-- Sets the time at which a limit may have room; `which` is 'LT' to keep an earlier one.
local function park(step, name, at, which)
  local text = at < math.huge and string.format('%d', at) or '+inf'
  local is_changed = call('ZADD', step.prefix .. KEY.limits_parked, which or 'CH', 'CH', text, name) == 1
  step.may_have_rare = true
  if is_changed and at < math.huge then step.of_limits.opens_at = math.min(step.of_limits.opens_at or at, at) end
end

-- Sets a lane of the rotation aside until a limit has room for so many units. `write_aside` writes all such lanes.
function limits.set_aside(step, lane, one, name, units, at)
  limits.visited(step, lane, one.group)
  local aside = step.of_limits.aside
  append(aside, lane, { one = one, name = name, units = units, at = at })
  step.of_limits.aside_count = step.of_limits.aside_count + 1
end

-- Returns the lanes to set aside by limit; removes those from other lists that a process of the previous version has
-- returned to the rotation.
local function aside_by_limit(step, lane, some)
  local members, by_limit = {}, {}
  for index, each in ipairs(some) do
    members[index] = each.one.group
    append(by_limit, each.name, each)
  end
  for from = 1, #members, CHUNK do
    local to = math.min(from + CHUNK - 1, #members)
    for index, before in ipairs(call('HMGET', step.prefix .. KEY.held_back .. lane.name, unpack(members, from, to))) do
      if before then leave_lists(step, lane, before:match('^%d+ (.*)$'), { members[from + index - 1] }) end
    end
  end
  return by_limit, members
end

local function write_aside_of(step, lane, some)
  local prefix, suffix = step.prefix, lane.name
  local by_limit, members = aside_by_limit(step, lane, some)
  local unserved, positions, places = {}, {}, {}
  for name, lanes in pairs(by_limit) do
    local order, needs, opens_at = {}, {}, math.huge
    for _, each in ipairs(lanes) do
      local one, units = each.one, string.format('%d', each.units)
      local size, member = #order, one.group
      order[size + 1], order[size + 2] = one.newcomer and age_of(one.newcomer) or one.position, member
      needs[size + 1], needs[size + 2] = units, member
      if one.newcomer then unserved[#unserved + 1] = one.newcomer .. '|' .. member end
      size = #positions
      positions[size + 1], positions[size + 2] = member, one.newcomer and '' or one.position
      size = #places
      places[size + 1], places[size + 2] = member, units .. ' ' .. name
      opens_at = math.min(opens_at, each.at)
    end
    if limits.group_in(name) then positions[#positions + 1], positions[#positions + 2] = WAITS_FOR_GROUP, '' end
    local order_key, needs_key = keys_of(step, lane, name)
    many('ZADD', order_key, order)
    many('ZADD', needs_key, needs)
    call('SADD', prefix .. KEY.limit_waits .. name, suffix)
    park(step, name, opens_at, 'LT')
  end
  many('ZREM', prefix .. KEY.rotation .. suffix, members)
  many('ZREM', prefix .. KEY.unserved .. suffix, unserved)
  many('HSET', prefix .. KEY.at_limit .. suffix, positions)
  many('HSET', prefix .. KEY.held_back .. suffix, places)
end

-- Writes the lanes that `set_aside` has collected; returns whether there were any. It runs before the rotation is read
-- again.
function limits.write_aside(step)
  local all = step.of_limits
  if not all or not next(all.aside) then return false end
  local by_lane = all.aside
  all.aside = {}
  for lane, some in pairs(by_lane) do write_aside_of(step, lane, some) end
  return true
end

-- Returns whether the step has set so many lanes aside that another one is to continue in a lane.
function limits.is_tired(step, lane)
  local all = step.of_limits
  if not all or all.aside_count < ASIDE_MAX then return false end
  all.left_over[lane] = true
  return true
end

-- Lets the next step continue where this one was tired.
function limits.leave_over(step)
  local all = step.of_limits
  for lane in pairs(all and all.left_over or {}) do
    lane.ready_from = nil
    note_ready(step, lane, ANY_ENTRY)
    wake(step, lane.type, 1)
    free_permits(step, lane.type, 1)
  end
end

-- Removes the marker of lanes that wait for the limit of their group, if nothing else is left.
function limits.drop_marker(step, lane)
  local at_limit = step.prefix .. KEY.at_limit .. lane.name
  if call('HLEN', at_limit) == 1 then call('HDEL', at_limit, WAITS_FOR_GROUP) end
end

-- Returns members that wait for limits to the rotation; returns whether any has a task.
function limits.bring_back(step, lane, members)
  local prefix = step.prefix
  write_arrivals(step)
  local at_limit, held_back = prefix .. KEY.at_limit .. lane.name, prefix .. KEY.held_back .. lane.name
  local found, places = call('HMGET', at_limit, unpack(members)), call('HMGET', held_back, unpack(members))
  call('HDEL', at_limit, unpack(members))
  call('HDEL', held_back, unpack(members))
  local by_limit, groups, firsts, positions = {}, {}, {}, {}
  for index, member in ipairs(members) do
    if places[index] then append(by_limit, places[index]:match('^%d+ (.*)$'), member) end
    local first = found[index] and first_of(step, group_lane(lane, member))
    if first then
      groups[#groups + 1], firsts[member] = member, first
      if found[index] ~= '' then positions[member] = found[index] end
    elseif found[index] then
      limits.emptied(step, lane, member)
    end
  end
  for name, some in pairs(by_limit) do leave_lists(step, lane, name, some) end
  limits.drop_marker(step, lane)
  if not groups[1] then return false end
  join_rotation(step, lane, groups, firsts, {}, positions)
  wake(step, lane.type, #groups)
  free_permits(step, lane.type, #groups)
  return true
end

-- A task of a lane that may wait for a limit has left or arrived: the need of its first task may be another.
function limits.recheck(step, lane, member)
  if call('HEXISTS', step.prefix .. KEY.held_back .. lane.name, member) == 1 then
    limits.bring_back(step, lane, { member })
  end
end

-- A process of the previous version takes a lane for a group, and sets it aside at the limit of the group.
function limits.recheck_group(step, lane, member)
  if member == WAITS_FOR_GROUP then return end
  if call('HEXISTS', step.prefix .. KEY.held_back .. lane.name, member) == 0 then
    limits.bring_back(step, lane, { member })
  end
end

-- Returns the position of a group at its limit, and whether lanes with limits may wait for the limit of a group.
function limits.at_group_limit(step, lane, group)
  return unpack(call('HMGET', step.prefix .. KEY.at_limit .. lane.name, group, WAITS_FOR_GROUP))
end

-- Returns how many units of a limit are free, also of that of a group.
local function room_of(step, name)
  local kind, group = limits.group_in(name)
  if not kind then return limits.room_of(step, name) end
  local rules = unpack_rules(call('HGET', step.prefix .. KEY.rules, kind) or NEW_RULES)
  local most = group_permits.limit_of(step, kind, group, tonumber(rules.group_limit))
  return most and most - call('SCARD', group_permits.key_of(step, kind, group)) or math.huge
end

-- Returns those of the given members to the rotation whose limit has room, for a claim that visits no others.
function limits.bring_back_fitting(step, lane, members)
  local fitting = {}
  for index, place in ipairs(call('HMGET', step.prefix .. KEY.held_back .. lane.name, unpack(members))) do
    local units, name = (place or ''):match('^(%d+) (.*)$')
    if units and tonumber(units) <= room_of(step, name) then fitting[#fitting + 1] = members[index] end
  end
  if fitting[1] then limits.bring_back(step, lane, fitting) end
end

-- Returns how many tasks of a lane the limits allow to start, if each uses as much as the first one; the others then
-- have so much less.
function limits.startable_of(step, part, tasks)
  local text = call('HGET', step.prefix .. KEY.grouped, part.no .. '.' .. (first_of(step, part) or ''))
  local uses = text and limits.uses_of(step, extras_of(text))
  if not uses then return tasks end
  tasks = limits.fitting(step, uses, tasks)
  limits.reserve(step, uses, tasks)
  return tasks
end

-- Returns the lane with the smallest need, the need and the member; nil if none waits.
local function least_need(step, name, lanes)
  local least, where, who
  for _, lane in ipairs(lanes) do
    local _, needs = keys_of(step, lane, name)
    local member, units = unpack(call('ZRANGE', needs, 0, 0, 'WITHSCORES'))
    if member and (not least or tonumber(units) < least) then least, where, who = tonumber(units), lane, member end
  end
  return where, least, who
end

-- Returns lanes of one type to the rotation, as many as there is room for; `lanes` have the highest priority first.
local function bring_back_some(step, name, lanes, room)
  local left, count_back, is_any = room, 0, false
  for _, lane in ipairs(lanes) do
    local members = left > 0 and call('ZRANGE', (keys_of(step, lane, name)), 0, LANES_AT_ONCE - 1) or {}
    local needs = members[1] and call('HMGET', step.prefix .. KEY.held_back .. lane.name, unpack(members)) or {}
    local some = {}
    for index, member in ipairs(members) do
      local units = tonumber(needs[index] and needs[index]:match('^%d+') or 0)
      if units <= left and left > 0 and count_back < LANES_AT_ONCE then
        some[#some + 1], left, count_back = member, left - units, count_back + 1
      end
    end
    if some[1] then is_any = limits.bring_back(step, lane, some) or is_any end
  end
  if count_back == 0 then
    local lane, units, member = least_need(step, name, lanes)
    if lane and units <= room then is_any = limits.bring_back(step, lane, { member }) end
  end
  return is_any
end

-- Returns the lanes with lanes that wait for a limit, by type, highest priority first.
local function waiting_lanes(step, name)
  local by_type = {}
  local names = call('SMEMBERS', step.prefix .. KEY.limit_waits .. name)
  table.sort(names, function(a, b) return a:sub(-1) > b:sub(-1) end)
  for _, lane_name in ipairs(names) do
    append(by_type, lane_name:sub(1, -3), open_lane(step, lane_name:sub(1, -3), lane_name:sub(-1)))
  end
  return by_type
end

local function reopen_one(step, name)
  local room, is_any = room_of(step, name), false
  local by_type = waiting_lanes(step, name)
  if room > 0 then
    for _, lanes in pairs(by_type) do is_any = bring_back_some(step, name, lanes, room) or is_any end
  end
  local least
  for _, lanes in pairs(by_type) do
    local _, units = least_need(step, name, lanes)
    if units then least = math.min(least or units, units) end
  end
  if least then
    local at = not limits.group_in(name) and limits.opens_at(step, name, least) or math.huge
    park(step, name, at)
  else
    call('ZREM', step.prefix .. KEY.limits_parked, name)
  end
  return is_any
end

-- Lets lanes return that wait for limits which may have room; returns whether any did.
function limits.reopen(step)
  limits.write_aside(step)
  local all = step.of_limits
  if not all or not next(all.touched) then return false end
  local names, is_any = {}, false
  for name in pairs(all.touched) do names[#names + 1] = name end
  all.touched = {}
  for from = 1, #names, CHUNK do
    local to = math.min(from + CHUNK - 1, #names)
    local times = call('ZMSCORE', step.prefix .. KEY.limits_parked, unpack(names, from, to))
    for index = from, to do
      if times[index - from + 1] then is_any = reopen_one(step, names[index]) or is_any end
    end
  end
  return is_any
end

-- The same for limits whose time has come, a bounded number; returns how many.
function limits.reopen_due(step, most)
  local due = call('ZRANGEBYSCORE', step.prefix .. KEY.limits_parked, '-inf', step.now_text, 'LIMIT', 0, most)
  for _, name in ipairs(due) do limits.touch(step, name) end
  if due[1] then limits.reopen(step) end
  return #due
end

-- Returns when the next limit opens by time, as a text, or nil.
function limits.next_opening(step)
  return call('ZRANGEBYSCORE', step.prefix .. KEY.limits_parked, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
end

-- Ends a step: lanes return, changes are written, and processes learn when the next limit opens.
function limits.finish(step)
  limits.write_ended(step)
  limits.leave_over(step)
  while next(step.of_limits.touched) do limits.reopen(step) end
  limits.write(step)
  local at = step.of_limits.opens_at
  if not at then return end
  local text = string.format('%d', at)
  if step.next_due and (step.next_due == '' or at < tonumber(step.next_due)) then step.next_due = text end
  broadcast(step, 'due ' .. text)
end

end
