-- Waiting tasks of groups; a part of the code that all steps share.
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
-- free. `rested` holds the last position of groups that have no task waiting now, if another group that was served
-- waits; the next sweep deletes it. A group that may have several tasks waiting is in `crowded`; for the others no step
-- needs to search for a second task.
--
-- A group that was never served and has one waiting task is in none of these. The zset `lone` has it, by the entry of
-- the task, in the same order as `unserved`. With its second task it leaves `lone` for `group_queue` and `rotation`.

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
    part = setmetatable({ group = group, lane = lane, member_prefix = #group .. '|' .. group .. '|' }, lane.of_parts)
    parts[group] = part
  end
  return part
end

-- Returns up to `most` waiting entries of a group, oldest first, behind `after` if it is given.
local function entries_of(step, part, most, after)
  local queue, prefix = step.prefix .. KEY.group_queue .. part.name, part.member_prefix
  local from = after and after ~= '' and '(' .. prefix .. after or '[' .. prefix
  -- An entry begins with a digit, and ':' sorts after the digits.
  local found = call('ZRANGEBYLEX', queue, from, '(' .. prefix .. ':', 'LIMIT', 0, most)
  for index = 1, #found do found[index] = found[index]:sub(-24) end
  return found
end

-- Counts the entries of a group, only those before `entry` if it is given.
local function count_entries(step, part, entry)
  local queue, prefix = step.prefix .. KEY.group_queue .. part.name, part.member_prefix
  return call('ZLEXCOUNT', queue, '[' .. prefix, '(' .. prefix .. (entry or ':'))
end

-- The zset `lone`: the functions that read it.
local lone = {}
do

-- A score is exact up to 2^53: it has the n of an entry (ids.ts) and the time since `lone_from` of the lane, which
-- changes only while no group is there.
local FROM_N, PER_MS, MS_MAX = 1e9, 2 ^ 24, 2 ^ 28

local function from_of(step, lane)
  if lane.lone_from == nil then
    lane.lone_from = tonumber(call('HGET', step.prefix .. KEY.lone_from, lane.name) or nil) or false
  end
  return lane.lone_from
end

-- Returns the score of an entry; nil for an entry that is too far from `lone_from`.
function lone.score_of(step, lane, entry)
  local from = from_of(step, lane)
  if not from then return nil end
  local ms, n = entry:sub(1, 13) - from, entry:sub(15) - FROM_N
  if ms <= -MS_MAX or ms >= MS_MAX or n < 0 or n >= PER_MS then return nil end
  return string.format('%d', ms * PER_MS + n)
end
-- Returns the same as a bound of a range, for any entry.
function lone.bound_of(step, lane, entry)
  local score = lone.score_of(step, lane, entry)
  return score or (tonumber(entry:sub(1, 13)) < (from_of(step, lane) or 0) and '-inf' or '+inf')
end
function lone.entry_of(step, lane, score)
  local n = score % PER_MS
  return entry_id((score - n) / PER_MS + from_of(step, lane), n + FROM_N)
end

-- Sets `lone_from` if that is possible and useful.
function lone.begin(step, lane)
  local prefix = step.prefix
  -- The least time of an entry (lanes.lua).
  local from, entries_from = from_of(step, lane), math.max(step.now, 1e12)
  if from and math.abs(entries_from - from) < MS_MAX / 2 then return end
  if call('EXISTS', prefix .. KEY.lone .. lane.name) == 1 then return end
  lane.lone_from = entries_from
  call('HSET', prefix .. KEY.lone_from, lane.name, string.format('%d', entries_from))
end

-- Returns the entry of the only task of a group, if the group is there.
function lone.of(step, part)
  local score = call('ZSCORE', step.prefix .. KEY.lone .. part.name, part.group)
  return score and lone.entry_of(step, part, score)
end

end

-- Returns the entry that a lane or a part of it hands out next, or nil; and the last entry that the lane has handed
-- out, if the next one is read from its stream.
local function first_of(step, lane)
  if lane.group then return entries_of(step, lane, 1)[1] or lone.of(step, lane) end
  local back = call('ZRANGE', lane.back, 0, 0)[1]
  if back then return back end
  local last = last_handed_out(lane)
  local following = call('XRANGE', lane.stream, '(' .. last, '+', 'COUNT', 1)[1]
  return following and following[1], last
end

local arrive, join_one, join_rotation
do

-- Returns which groups are in the rotation or at their limit, and the last positions of those that have rested.
local function read_places(step, lane, groups)
  local prefix = step.prefix
  local rotation, at_limit, rested = prefix .. KEY.rotation .. lane.name, prefix .. KEY.at_limit .. lane.name,
    prefix .. KEY.rested .. lane.name
  local any, any_at_limit = call('EXISTS', rotation) == 1, call('EXISTS', at_limit) == 1
  local any_rested = call('EXISTS', rested) == 1
  local present, positions = {}, {}
  if not (any or any_at_limit or any_rested) then return present, positions end
  for from = 1, #groups, CHUNK do
    local to = math.min(from + CHUNK - 1, #groups)
    local scores = any and call('ZMSCORE', rotation, unpack(groups, from, to)) or {}
    local held_back = any_at_limit and call('HMGET', at_limit, unpack(groups, from, to)) or {}
    local last = any_rested and call('HMGET', rested, unpack(groups, from, to)) or {}
    for index = from, to do
      local place, group = index - from + 1, groups[index]
      if scores[place] or held_back[place] then present[group] = true end
      if last[place] then positions[group] = last[place] end
    end
  end
  return present, positions
end

-- Adds groups with their first tasks to the rotation. A group that is in the rotation, or at its limit, keeps its
-- place. `present` and `positions` are what `read_places` has returned, if the caller has called it.
function join_rotation(step, lane, groups, firsts, present, positions)
  local prefix = step.prefix
  if not present then present, positions = read_places(step, lane, groups) end
  local places, newcomers, back, crowded = {}, {}, {}, {}
  for _, group in ipairs(groups) do
    local position = positions[group]
    if present[group] then
      crowded[#crowded + 1] = group
    else
      if limits.are_used(group) then limits.note_lane(step, lane, group) end
      places[#places + 1] = position and shared_time.from_rest(step, lane, position) or age_of(firsts[group])
      places[#places + 1] = group
      if position then
        back[#back + 1] = group
      else
        newcomers[#newcomers + 1] = '0'
        newcomers[#newcomers + 1] = firsts[group] .. '|' .. group
      end
    end
  end
  many('ZADD', prefix .. KEY.rotation .. lane.name, places)
  if back[1] then note_ready(step, lane, ANY_ENTRY) end
  if newcomers[2] then note_ready(step, lane, newcomers[2]:sub(1, 24)) end
  many('ZADD', prefix .. KEY.unserved .. lane.name, newcomers)
  many('HDEL', prefix .. KEY.rested .. lane.name, back)
  many('SADD', prefix .. KEY.crowded .. lane.name, crowded)
end

function join_one(step, part, entry)
  local group = part.group or ''
  join_rotation(step, part.lane or part, { group }, { [group] = entry })
end

-- Moves a group from `lone` to the queue and the rotation.
function lone.leave(step, part)
  local prefix = step.prefix
  local entry = lone.of(step, part)
  if not entry then return end
  call('ZREM', prefix .. KEY.lone .. part.name, part.group)
  -- A process of the previous version may have ended the task.
  if call('HEXISTS', prefix .. KEY.grouped, part.no .. '.' .. entry) == 0 then return end
  call('ZADD', prefix .. KEY.group_queue .. part.name, '0', part.member_prefix .. entry)
  join_one(step, part, entry)
end

-- Adds a further task of a group that is among the arrivals.
local function add_further(arrivals, group, entry)
  local first, size = arrivals.firsts[group], arrivals.more_count
  if entry < first then arrivals.firsts[group], entry = entry, first end
  arrivals.more[size + 1], arrivals.more[size + 2], arrivals.more_count = group, entry, size + 2
  arrivals.several[group] = true
end

-- Adds a waiting task of a group; `text` has its head, extras, payload and previous error. `ends` is when its wait
-- times out, or nil; `is_queued` if the group may have a task in the queue that the rotation does not show.
function arrive(step, lane, group, entry, text, ref, ends, is_queued)
  local size = #step.arrived
  step.arrived[size + 1], step.arrived[size + 2] = lane.no .. '.' .. entry, text
  local arrivals = step.arriving[lane]
  if not arrivals then
    arrivals = { groups = {}, firsts = {}, several = {}, more = {}, more_count = 0, waits = {}, count = 0 }
    step.arriving[lane] = arrivals
  end
  if ends then
    size = #arrivals.waits
    arrivals.waits[size + 1], arrivals.waits[size + 2] = string.format('%d', ends), ref
  end
  arrivals.count = arrivals.count + 1
  if is_queued then arrivals.several[group] = true end
  local first = arrivals.firsts[group]
  if not first then
    arrivals.groups[#arrivals.groups + 1], arrivals.firsts[group] = group, entry
  else
    add_further(arrivals, group, entry)
  end
end

-- Takes groups that receive a further task out of `lone`.
local function take_out_of_lone(step, lane, groups, arrivals)
  local prefix = step.prefix
  local key, left = prefix .. KEY.lone .. lane.name, {}
  for from = 1, #groups, CHUNK do
    local to = math.min(from + CHUNK - 1, #groups)
    for index, score in ipairs(call('ZMSCORE', key, unpack(groups, from, to))) do
      local group = groups[from + index - 1]
      local entry = score and lone.entry_of(step, lane, score)
      if entry then left[#left + 1] = group end
      -- A process of the previous version may have ended the task.
      if entry and call('HEXISTS', prefix .. KEY.grouped, lane.no .. '.' .. entry) == 1 then
        add_further(arrivals, group, entry)
      end
    end
  end
  many('ZREM', key, left)
end

-- Adds groups to `lone`, (score, group) each; returns those that have another task there.
local function join_lone(step, lane, places)
  local key, others, added = step.prefix .. KEY.lone .. lane.name, {}, 0
  for from = 1, #places, CHUNK do
    added = added + call('ZADD', key, 'NX', unpack(places, from, math.min(from + CHUNK - 1, #places)))
  end
  if added == #places / 2 then return others end
  for index = 1, #places, 2 do
    local score = call('ZSCORE', key, places[index + 1])
    if tonumber(score) ~= tonumber(places[index]) then others[#others + 1] = places[index + 1] end
  end
  return others
end

local function place_arrivals(step, lane, arrivals)
  local prefix = step.prefix
  local groups, firsts, several = arrivals.groups, arrivals.firsts, arrivals.several
  local present, positions = read_places(step, lane, groups)
  local alone, queued, shares_time = {}, {}, shared_time.is_of(step, lane.type)
  lone.begin(step, lane)
  for _, group in ipairs(groups) do
    local is_new = not (shares_time or several[group] or present[group] or positions[group] or limits.are_used(group))
    local score = is_new and lone.score_of(step, lane, firsts[group])
    if score then
      local size = #alone
      alone[size + 1], alone[size + 2] = score, group
    else
      queued[#queued + 1] = group
    end
  end
  if #queued > 0 and call('EXISTS', prefix .. KEY.lone .. lane.name) == 1 then
    take_out_of_lone(step, lane, queued, arrivals)
  end
  if #alone > 0 then
    note_ready(step, lane, firsts[alone[2]])
    local others = join_lone(step, lane, alone)
    if #others > 0 then take_out_of_lone(step, lane, others, arrivals) end
    for _, group in ipairs(others) do queued[#queued + 1] = group end
  end
  if #queued == 0 then return end
  local members, crowded = {}, {}
  local function add_member(group, entry)
    members[#members + 1], members[#members + 2] = '0', group_lane(lane, group).member_prefix .. entry
  end
  for _, group in ipairs(queued) do
    add_member(group, firsts[group])
    if several[group] then crowded[#crowded + 1] = group end
  end
  for index = 1, #arrivals.more, 2 do add_member(arrivals.more[index], arrivals.more[index + 1]) end
  many('ZADD', prefix .. KEY.group_queue .. lane.name, members)
  join_rotation(step, lane, queued, firsts, present, positions)
  many('SADD', prefix .. KEY.crowded .. lane.name, crowded)
  for _, group in ipairs(queued) do
    if present[group] and limits.are_used(group) and first_of(step, group_lane(lane, group)) == firsts[group] then
      limits.recheck(step, lane, group)
    end
  end
end

-- Writes the tasks that `arrive` has collected. Each step calls it before it reads groups, and at its end.
function write_arrivals(step)
  local prefix = step.prefix
  if #step.arrived == 0 then return end
  local texts, by_lane = step.arrived, step.arriving
  step.arrived, step.arriving = {}, {}
  many('HSET', prefix .. KEY.grouped, texts)
  for lane, arrivals in pairs(by_lane) do
    count(step, lane.type, 'grouped', arrivals.count)
    many('ZADD', prefix .. KEY.group_waits, arrivals.waits)
    place_arrivals(step, lane, arrivals)
  end
end

end

-- Removes a group from the rotation: it has no waiting task.
local function leave_rotation(step, part, entry, position)
  local prefix = step.prefix
  local group = part.group or ''
  call('ZREM', prefix .. KEY.rotation .. part.name, group)
  if entry then call('ZREM', prefix .. KEY.unserved .. part.name, entry .. '|' .. group) end
  if position and tonumber(position) >= 0 then call('HSET', prefix .. KEY.rested .. part.name, group, position) end
end

-- The first task of a group has left: a group that was never served is now as old as its next task.
local function renew_age(step, part, entry)
  local prefix = step.prefix
  local group, rotation = part.group or '', prefix .. KEY.rotation .. part.name
  local is_newcomer = call('ZREM', prefix .. KEY.unserved .. part.name, entry .. '|' .. group) == 1
  local first = first_of(step, part)
  if is_newcomer then call('ZREM', rotation, group) end
  if not first then call('SREM', prefix .. KEY.crowded .. part.name, group) end
  if is_newcomer and first then join_one(step, part, first) end
  if not is_newcomer and not first and part.group then
    local position = call('ZSCORE', rotation, group)
    if position then leave_rotation(step, part, nil, string.format('%d', position)) end
  end
  if limits.are_used(group) then
    limits.recheck(step, part.lane, group)
    if not first then limits.emptied(step, part.lane, group) end
  end
end

-- The limit of a group may allow another start.
local function end_at_limit(step, lane, group)
  if limits.are_used(group) then return limits.recheck(step, lane, group) end
  local prefix = step.prefix
  local at_limit = prefix .. KEY.at_limit .. lane.name
  local position, marker = limits.at_group_limit(step, lane, group)
  if marker then limits.touch(step, limits.of_group(lane.type, group)) end
  if not position then return end
  write_arrivals(step)
  call('HDEL', at_limit, group)
  if marker then limits.drop_marker(step, lane) end
  local part = group_lane(lane, group)
  local first = first_of(step, part)
  if not first then return end
  if position ~= '' then call('HSET', prefix .. KEY.rested .. lane.name, group, position) end
  join_one(step, part, first)
  wake(step, lane.type, 1)
  free_permits(step, lane.type, 1)
end
