-- Waiting tasks of groups; the third part of the code that all steps share.
--
-- They are not in a stream. `grouped` has the text of each, in the same format as `delayed`, by
-- `<lane number>.<entry>`. The zset `group_queue` of the lane has a member `<bytes of the group>|<group>|<entry>` for
-- each, in the order of the text, so the tasks of a group are adjacent, oldest first. A group needs no key of its own,
-- and a step that adds tasks to many groups writes them with a few commands.
--
-- The zset `rotation` is the fair order among the groups of a lane: the groups that have a task to hand out, by the
-- position at which each was last served. A group that was never served comes before all that were, by the age of its
-- first task; scores distinguish those only by the ms, `unserved` has their exact order. Tasks without a group take
-- part as one more group, ''. A group at its limit waits in `at_limit`, by its name, until one of its permits becomes
-- free. `rested` holds the last position of groups that have no task waiting now; the next sweep deletes it. A group
-- that may have several tasks waiting is in `crowded`; for the others no step needs to search for a second task.

local NEVER_SERVED = -9e15
local function age_of(entry) return string.format('%d', NEVER_SERVED + entry:sub(1, 13)) end

-- Returns the part of a lane that holds the tasks of a group; the lane itself for no group.
local function group_lane(lane, group)
  if not group or group == '' then return lane end
  local parts = lane.parts
  if not parts then
    parts, lane.of_parts = {}, { __index = lane }
    lane.parts = parts
  end
  local part = parts[group]
  if not part then
    part = setmetatable({ group = group, lane = lane, prefix = #group .. '|' .. group .. '|' }, lane.of_parts)
    parts[group] = part
  end
  return part
end

-- Returns up to `most` waiting entries of a group, oldest first, behind `after` if it is given.
local function entries_of(part, most, after)
  local queue, prefix = P .. KEY.group_queue .. part.name, part.prefix
  local from = after and after ~= '' and '(' .. prefix .. after or '[' .. prefix
  -- An entry begins with a digit, and ':' sorts after the digits.
  local found = call('ZRANGEBYLEX', queue, from, '(' .. prefix .. ':', 'LIMIT', 0, most)
  for index = 1, #found do found[index] = found[index]:sub(-24) end
  return found
end

-- Counts the entries of a group, only those before `entry` if it is given.
local function count_entries(part, entry)
  local queue, prefix = P .. KEY.group_queue .. part.name, part.prefix
  return call('ZLEXCOUNT', queue, '[' .. prefix, '(' .. prefix .. (entry or ':'))
end

-- Returns the entry that a lane or a part of it hands out next, or nil; and the last entry that the lane has handed
-- out, if the next one is read from its stream.
local function first_of(lane)
  if lane.group then return entries_of(lane, 1)[1] end
  local back = call('ZRANGE', lane.back, 0, 0)[1]
  if back then return back end
  local last = last_handed_out(lane)
  local following = call('XRANGE', lane.stream, '(' .. last, '+', 'COUNT', 1)[1]
  return following and following[1], last
end

-- Adds groups with their first tasks to the rotation. A group that is in the rotation, or at its limit, keeps its
-- place.
local function join_rotation(lane, groups, firsts)
  local rotation, at_limit, rested = P .. KEY.rotation .. lane.name, P .. KEY.at_limit .. lane.name,
    P .. KEY.rested .. lane.name
  local any_at_limit, any_rested = call('EXISTS', at_limit) == 1, call('EXISTS', rested) == 1
  for from = 1, #groups, CHUNK do
    local some = { unpack(groups, from, math.min(from + CHUNK - 1, #groups)) }
    local scores = call('ZMSCORE', rotation, unpack(some))
    local held_back = any_at_limit and call('HMGET', at_limit, unpack(some)) or {}
    local positions = any_rested and call('HMGET', rested, unpack(some)) or {}
    local places, newcomers, back, crowded = {}, {}, {}, {}
    for index, group in ipairs(some) do
      if scores[index] or held_back[index] then
        crowded[#crowded + 1] = group
      else
        places[#places + 1] = positions[index] or age_of(firsts[group])
        places[#places + 1] = group
        if positions[index] then
          back[#back + 1] = group
        else
          newcomers[#newcomers + 1] = '0'
          newcomers[#newcomers + 1] = firsts[group] .. '|' .. group
        end
      end
    end
    many('ZADD', rotation, places)
    if back[1] then note_ready(lane, ANY_ENTRY) end
    if newcomers[2] then note_ready(lane, newcomers[2]:sub(1, 24)) end
    many('ZADD', P .. KEY.unserved .. lane.name, newcomers)
    many('HDEL', rested, back)
    many('SADD', P .. KEY.crowded .. lane.name, crowded)
  end
end

local function join_one(part, entry)
  local group = part.group or ''
  join_rotation(part.lane or part, { group }, { [group] = entry })
end

-- Writes the tasks that `arrive` has collected. Each step calls it before it reads groups, and at its end.
function write_arrivals()
  if #arrived == 0 then return end
  local texts, by_lane = arrived, arriving
  arrived, arriving = {}, {}
  many('HSET', P .. KEY.grouped, texts)
  for lane, arrivals in pairs(by_lane) do
    count(lane.type, 'grouped', arrivals.count)
    many('ZADD', P .. KEY.group_queue .. lane.name, arrivals.members)
    many('ZADD', P .. KEY.group_waits, arrivals.waits)
    join_rotation(lane, arrivals.groups, arrivals.firsts)
    many('SADD', P .. KEY.crowded .. lane.name, arrivals.several)
  end
end

-- Adds a waiting task of a group; `text` has its head, extras, payload and previous error. `ends` is when its wait
-- times out, or nil.
local function arrive(lane, group, entry, text, ref, ends)
  local size = #arrived
  arrived[size + 1], arrived[size + 2] = lane.no .. '.' .. entry, text
  local arrivals = arriving[lane]
  if not arrivals then
    arrivals = { members = {}, groups = {}, firsts = {}, waits = {}, several = {}, count = 0 }
    arriving[lane] = arrivals
  end
  size = #arrivals.members
  arrivals.members[size + 1], arrivals.members[size + 2] = '0', #group .. '|' .. group .. '|' .. entry
  if ends then
    size = #arrivals.waits
    arrivals.waits[size + 1], arrivals.waits[size + 2] = string.format('%d', ends), ref
  end
  local first = arrivals.firsts[group]
  local groups = first and arrivals.several or arrivals.groups
  groups[#groups + 1] = group
  if not first or entry < first then arrivals.firsts[group] = entry end
  arrivals.count = arrivals.count + 1
end

-- Removes a group from the rotation: it has no waiting task.
local function leave_rotation(part, entry, position)
  local group = part.group or ''
  call('ZREM', P .. KEY.rotation .. part.name, group)
  if entry then call('ZREM', P .. KEY.unserved .. part.name, entry .. '|' .. group) end
  if position and tonumber(position) >= 0 then call('HSET', P .. KEY.rested .. part.name, group, position) end
end

-- The first task of a group has left: a group that was never served is now as old as its next task.
local function renew_age(part, entry)
  local group, rotation = part.group or '', P .. KEY.rotation .. part.name
  local is_newcomer = call('ZREM', P .. KEY.unserved .. part.name, entry .. '|' .. group) == 1
  local first = first_of(part)
  if is_newcomer then call('ZREM', rotation, group) end
  if not first then call('SREM', P .. KEY.crowded .. part.name, group) end
  if is_newcomer and first then join_one(part, first) end
  if not is_newcomer and not first and part.group then
    local position = call('ZSCORE', rotation, group)
    if position then leave_rotation(part, nil, string.format('%d', position)) end
  end
end

-- The limit of a group may allow another start.
local function end_at_limit(lane, group)
  local at_limit = P .. KEY.at_limit .. lane.name
  local position = call('HGET', at_limit, group)
  if not position then return end
  write_arrivals()
  call('HDEL', at_limit, group)
  local part = group_lane(lane, group)
  local first = first_of(part)
  if not first then return end
  if position ~= '' then call('HSET', P .. KEY.rested .. lane.name, group, position) end
  join_one(part, first)
  wake(lane.type, 1)
  free_permits(lane.type, 1)
end

-- Groups of the previous version --------------------------------------------------------------------------------------

-- It kept a stream with a consumer group for each group, and may still run beside this version. Claims and sweeps take
-- over the tasks that wait there, in their order; leased tasks stay there until their lease ends.
local adopt_group, adopt_groups, leave_streams_of_groups, has_streams_of_groups, recheck_limits
do

local ADOPTED_MAX, GROUPS_MAX = 500, 100

local function adopt_entry(part, stream, item, m, e)
  local entry, fields = item[1], {}
  for index = 1, #item[2], 2 do fields[item[2][index]] = item[2][index + 1] end
  m, e = m or fields.m, e or fields.e or 'null'
  local ref = head_of(m, part, entry).ref
  arrive(part.lane, part.group, entry, table.concat({ m, fields.x or NO_EXTRAS, fields.p, e }, '\n'))
  count(part.type, 'grouped', -1)
  if ref == part.no .. '.' .. entry then
    call('HDEL', P .. KEY.moved, ref)
  else
    call('HSET', P .. KEY.moved, ref, entry)
  end
  call('XACK', stream, WORKERS, entry)
  call('XDEL', stream, entry)
end

-- Takes over up to `most` tasks that wait in the stream of a group; returns the number.
function adopt_group(part, most)
  local name = part.name .. '|' .. part.group
  local stream, back = P .. KEY.group_stream .. name, P .. KEY.back .. name
  if call('EXISTS', stream) == 0 then return 0 end
  local adopted = 0
  for _, entry in ipairs(call('ZRANGE', back, 0, most - 1)) do
    local item, field = call('XRANGE', stream, entry, entry)[1], part.no .. '.' .. entry
    local again = call('HGET', P .. KEY.again, field)
    if item and again then adopt_entry(part, stream, item, again:match('^([^\n]*)\n(.*)$')) end
    call('HDEL', P .. KEY.again, field)
    call('ZREM', back, entry)
    adopted = adopted + 1
  end
  local last = last_handed_out({ stream = stream })
  for _, item in ipairs(call('XRANGE', stream, '(' .. last, '+', 'COUNT', math.max(most - adopted, 1))) do
    adopt_entry(part, stream, item)
    adopted = adopted + 1
  end
  if call('XLEN', stream) == 0 then call('DEL', stream) end
  return adopted
end

function has_streams_of_groups(lane)
  return call('EXISTS', P .. KEY.ring .. lane.name, P .. KEY.aside .. lane.name, P .. KEY.served .. lane.name) > 0
end

-- A process of that version does not notify the groups in `at_limit` when it frees a permit.
function recheck_limits(lane)
  local groups = call('HRANDFIELD', P .. KEY.at_limit .. lane.name, GROUPS_MAX)
  if #groups == 0 then return end
  local limit = tonumber((call('HGET', P .. KEY.rules, lane.type) or ''):match('^%d,%d*,%l,(%d*),'))
  for _, group in ipairs(groups) do
    if not limit or call('SCARD', P .. KEY.held .. lane.type .. '|' .. group) < limit then end_at_limit(lane, group) end
  end
end

-- Takes over groups of a lane; returns whether there are more.
function adopt_groups(lane)
  local ring, aside, served = P .. KEY.ring .. lane.name, P .. KEY.aside .. lane.name, P .. KEY.served .. lane.name
  local members, left = call('ZRANGE', ring, 0, GROUPS_MAX - 1), ADOPTED_MAX
  local is_in_ring = #members > 0
  if not is_in_ring then members = call('SRANDMEMBER', aside, GROUPS_MAX) end
  local last_position = call('GET', P .. KEY.ring_clock .. lane.name)
  if last_position and tonumber(last_position) > tonumber(call('GET', P .. KEY.rotation_clock .. lane.name) or 0) then
    call('SET', P .. KEY.rotation_clock .. lane.name, last_position)
  end
  local taken_out = {}
  for _, group in ipairs(members) do
    local adopted = 0
    local position, place = call('HGET', served, group), call('ZSCORE', P .. KEY.rotation .. lane.name, group)
    if position and not place then call('HSETNX', P .. KEY.rested .. lane.name, group, position) end
    -- A group that is new here has waited longer there.
    if place and tonumber(place) < 0 and group ~= '' then
      local part = group_lane(lane, group)
      leave_rotation(part, entries_of(part, 1)[1])
      taken_out[#taken_out + 1] = part
      call('SADD', P .. KEY.crowded .. lane.name, group)
    end
    if group ~= '' then adopted = adopt_group(group_lane(lane, group), left) end
    left = left - adopted
    if left <= 0 then break end
    call('ZREM', ring, group)
    call('SREM', aside, group)
  end
  write_arrivals()
  for _, part in ipairs(taken_out) do
    local first = first_of(part)
    if first then join_one(part, first) end
  end
  recheck_limits(lane)
  if call('EXISTS', ring, aside) > 0 then return true end
  call('DEL', P .. KEY.ring_clock .. lane.name, P .. KEY.newcomers .. lane.name, P .. KEY.idle .. lane.name)
  -- A group that has leases of that version stays in `served`, which `leave_streams_of_groups` reads.
  for _, group in ipairs(call('HRANDFIELD', served, GROUPS_MAX)) do
    if call('EXISTS', P .. KEY.group_stream .. lane.name .. '|' .. group) == 0 then call('HDEL', served, group) end
  end
  return false
end

-- Leases of groups of a lane have ended: deletes the entries that the previous version has handed out, (group, entry)
-- each.
function leave_streams_of_groups(lane, left)
  if call('EXISTS', P .. KEY.served .. lane.name) == 0 then return end
  for index = 1, #left, 2 do
    local stream, entry = P .. KEY.group_stream .. lane.name .. '|' .. left[index], left[index + 1]
    if call('EXISTS', stream) == 1 then
      if call('XDEL', stream, entry) == 1 then call('XACK', stream, WORKERS, entry) end
      if call('XLEN', stream) == 0 then call('DEL', stream) end
    end
  end
end

end
