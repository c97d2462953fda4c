-- The claims of a turn from groups: the rotation of the groups of a lane. A part of turn.lua, in a block of its own,
-- because Lua allows 200 locals at once, over all files.
local take, take_of_group, join_ungrouped, take_one, next_ready_place, take_in_rotation
do

-- The most groups that one claim checks, and that one round checks.
local CHECKS_MAX, ROUND_MAX = 10000, 1000

-- Hands out up to `most` entries of a lane, returned entries first; returns how many it handed out and started.
function take(step, turn, lane, most, tasks)
  local entries = {}
  local back = turn.has_back and call('ZRANGE', lane.back, 0, most - 1) or {}
  if #back > 0 then
    call('ZREM', lane.back, unpack(back))
    call('XCLAIM', lane.stream, WORKERS, turn.worker, 0, unpack(back))
    for index, entry in ipairs(back) do
      entries[index] = call('XRANGE', lane.stream, entry, entry)[1]
      entries[index].again = true
    end
  end
  if #entries < most then
    local most_read = most - #entries
    local read_now = call('XREADGROUP', 'GROUP', WORKERS, turn.worker, 'COUNT', most_read, 'STREAMS', lane.stream, '>')
    if read_now then
      for _, item in ipairs(read_now[1][2]) do entries[#entries + 1] = item end
    end
  end
  if #entries == 0 then return 0, 0 end
  return #entries, start(step, turn, lane, entries, tasks)
end

-- A place in the rotation: {group, part, newcomer: the entry that gives the age of a group that was never served,
-- position: when it was last served, or a value that represents its age}; of a group in `lone` {group, newcomer,
-- is_lone}.

-- Starts tasks of groups, {group, part, entry} each, and marks each that has started; returns the number started.
local function start_picked(step, turn, lane, picked, tasks)
  if #picked == 0 then return 0 end
  local entries, groups, refs, prefix, members, alone = {}, {}, {}, lane.no .. '.', {}, {}
  for index, one in ipairs(picked) do
    entries[index], groups[index], refs[index] = one.entry, one.group, prefix .. one.entry
    if one.is_lone then
      alone[#alone + 1] = one.group
    else
      members[#members + 1] = one.part.member_prefix .. one.entry
    end
  end
  local texts = call('HMGET', step.prefix .. KEY.grouped, unpack(refs))
  call('HDEL', step.prefix .. KEY.grouped, unpack(refs))
  many('ZREM', step.prefix .. KEY.group_queue .. lane.name, members)
  many('ZREM', step.prefix .. KEY.lone .. lane.name, alone)
  local started, starts = start_grouped(step, turn, lane, entries, groups, refs, texts, tasks)
  for index, one in ipairs(picked) do one.started = starts[index] end
  return started
end

-- Tasks without a group take part in the rotation as one more group.
function join_ungrouped(step, lane)
  if call('ZSCORE', step.prefix .. KEY.rotation .. lane.name, '') then return end
  local first = first_of(step, lane)
  if first then join_one(step, lane, first) end
end

local function is_at_limit(step, lane, one, group_limit)
  local prefix = step.prefix
  local group = one.group
  if not group_limit or group == '' then return false end
  if call('SCARD', prefix .. KEY.held .. lane.type .. '|' .. group) < group_limit then return false end
  local part = one.part or group_lane(lane, group)
  if one.is_lone then lone.leave(step, part) end
  leave_rotation(step, part, one.newcomer)
  call('HSET', prefix .. KEY.at_limit .. lane.name, group, one.newcomer and '' or one.position)
  return true
end

-- Returns the groups that were never served, longest-ready first.
local function newcomers_of(step, lane, most)
  local prefix = step.prefix
  local unserved = prefix .. KEY.unserved .. lane.name
  local places = call('ZRANGE', unserved, 0, most - 1)
  local groups, found, stale = {}, {}, {}
  for index, place in ipairs(places) do groups[index] = place:sub(26) end
  local scores = places[1] and call('ZMSCORE', prefix .. KEY.rotation .. lane.name, unpack(groups)) or {}
  for index, place in ipairs(places) do
    local entry = place:sub(1, 24)
    if scores[index] and tonumber(scores[index]) == NEVER_SERVED + entry:sub(1, 13) then
      local group = groups[index]
      found[#found + 1] = { group = group, part = group_lane(lane, group), newcomer = entry, position = scores[index] }
      -- Tasks without a group may leave without an update here.
      if groups[index] == '' and first_of(step, lane) ~= entry then
        renew_age(step, lane, entry)
        return newcomers_of(step, lane, most)
      end
    else
      stale[#stale + 1] = place
    end
  end
  if #stale > 0 then call('ZREM', unserved, unpack(stale)) end
  return found
end

-- Returns the groups in `lone`, longest-ready first.
local function lone_places(step, lane, most)
  local found, places = call('ZRANGE', step.prefix .. KEY.lone .. lane.name, 0, most - 1, 'WITHSCORES'), {}
  for index = 1, #found, 2 do
    local entry = lone.entry_of(step, lane, found[index + 1])
    places[#places + 1] = { group = found[index], newcomer = entry, entry = entry, is_lone = true }
  end
  return places
end

-- Joins two lists of newcomers in the order of their age.
local function by_age(some, others)
  if not others[1] then return some end
  if not some[1] then return others end
  local places, next_other = {}, 1
  for _, one in ipairs(some) do
    while others[next_other] and others[next_other].newcomer < one.newcomer do
      places[#places + 1], next_other = others[next_other], next_other + 1
    end
    places[#places + 1] = one
  end
  for index = next_other, #others do places[#places + 1] = others[index] end
  return places
end

local function mark_crowded(step, lane, places)
  local crowded, groups, queued = step.prefix .. KEY.crowded .. lane.name, {}, {}
  if call('EXISTS', crowded) == 0 then return end
  for _, one in ipairs(places) do
    if not one.is_lone then groups[#groups + 1], queued[#queued + 1] = one.group, one end
  end
  if not groups[1] then return end
  for index, is_crowded in ipairs(call('SMISMEMBER', crowded, unpack(groups))) do
    queued[index].is_crowded = is_crowded == 1
  end
end

-- Returns up to `most` next places of a lane; nil if there is none, and an empty list if the caller has to try again.
local function next_places(step, lane, most)
  local rotation = step.prefix .. KEY.rotation .. lane.name
  local members, places = call('ZRANGE', rotation, 0, most - 1, 'WITHSCORES'), lone_places(step, lane, most)
  if not members[1] then return places[1] and places end
  if tonumber(members[2]) < 0 then
    local newcomers = newcomers_of(step, lane, most)
    -- A group without a place among the newcomers has lost it: the next read finds it as old as its first task.
    if not newcomers[1] then
      if call('ZSCORE', rotation, members[1]) then
        local part = group_lane(lane, members[1])
        local first = first_of(step, part)
        leave_rotation(step, part)
        if first then join_one(step, part, first) end
      end
      return {}
    end
    places = by_age(newcomers, places)
  end
  for index = 1, #members, 2 do
    if tonumber(members[index + 1]) >= 0 then
      local group, position = members[index], string.format('%d', members[index + 1])
      places[#places + 1] = { group = group, part = group_lane(lane, group), position = position }
    end
  end
  mark_crowded(step, lane, places)
  return places
end

-- Returns whether a group waits that was served before. If none does, no order depends on the positions of groups that
-- have no more tasks.
local function has_served(step, lane)
  local prefix = step.prefix
  local last = call('ZRANGE', prefix .. KEY.rotation .. lane.name, -1, -1, 'WITHSCORES')[2]
  return (last and tonumber(last) >= 0) or call('EXISTS', prefix .. KEY.at_limit .. lane.name) == 1
end

-- Moves served groups to the end; a group that has no more tasks leaves, and would return at that position.
local function serve(step, lane, served)
  local prefix = step.prefix
  if #served == 0 then return end
  local last_position = call('INCRBY', prefix .. KEY.rotation_clock .. lane.name, #served) - #served
  local stay, leave, positions, newcomers = {}, {}, {}, {}
  for index, one in ipairs(served) do
    local group, position = one.group, string.format('%d', last_position + index)
    if one.newcomer and not one.is_lone then newcomers[#newcomers + 1] = one.newcomer .. '|' .. group end
    if group == '' or one.has_more then
      stay[#stay + 1], stay[#stay + 2] = position, group
    else
      if not one.is_lone then leave[#leave + 1] = group end
      positions[#positions + 1], positions[#positions + 2] = group, position
    end
  end
  many('ZADD', prefix .. KEY.rotation .. lane.name, stay)
  many('ZREM', prefix .. KEY.rotation .. lane.name, leave)
  if positions[1] and has_served(step, lane) then many('HSET', prefix .. KEY.rested .. lane.name, positions) end
  many('ZREM', prefix .. KEY.unserved .. lane.name, newcomers)
end

-- Updates places whose tasks were to start: each is served, or as old as its next task.
local function move_on(step, lane, picked)
  local served = {}
  for _, one in ipairs(picked) do
    if one.started then
      served[#served + 1] = one
    elseif one.newcomer and not one.is_lone then
      renew_age(step, one.part, one.newcomer)
    end
  end
  serve(step, lane, served)
end

-- Returns whether the first task of a place may start; sets its entry.
local function has_task(step, lane, one, group_limit)
  local prefix = step.prefix
  if one.is_lone then return not is_at_limit(step, lane, one, group_limit) end
  local part, first, second = one.part, one.newcomer, nil
  if not part.group then
    first = first_of(step, part)
  elseif one.is_crowded or not first then
    first, second = unpack(entries_of(step, part, 2))
    if one.is_crowded and not second then call('SREM', prefix .. KEY.crowded .. part.name, part.group) end
  end
  if not first then
    leave_rotation(step, part, one.newcomer, one.position)
    call('SREM', prefix .. KEY.crowded .. part.name, part.group or '')
    return false
  end
  one.entry, one.has_more = first, second ~= nil
  return not is_at_limit(step, lane, one, group_limit)
end

-- Returns the next place with a task that may start; nil if there is none.
function next_ready_place(step, lane, group_limit)
  for _ = 1, CHECKS_MAX do
    local places = next_places(step, lane, 1)
    if not places then return nil end
    if places[1] and has_task(step, lane, places[1], group_limit) then return places[1] end
  end
end

-- Starts the first task of a place; returns the number started.
function take_one(step, turn, lane, one, tasks)
  local started
  if one.group ~= '' then
    started = start_picked(step, turn, lane, { one }, tasks)
  else
    local _
    _, started = take(step, turn, lane, 1, tasks)
    one.started = started > 0
  end
  move_on(step, lane, { one })
  return started
end

-- Starts up to `most` tasks of groups in `lone` that are next in the rotation, without a limit of the group; returns
-- how many it handed out and started.
local function take_lone(step, turn, lane, most, tasks)
  local key = step.prefix .. KEY.lone .. lane.name
  local first = call('ZRANGE', step.prefix .. KEY.rotation .. lane.name, 0, 0, 'WITHSCORES')
  if first[2] and tonumber(first[2]) < 0 then
    local newcomer = call('ZRANGE', step.prefix .. KEY.unserved .. lane.name, 0, 0)[1]
    if not newcomer then return 0, 0 end
    most = math.min(most, call('ZCOUNT', key, '-inf', '(' .. lone.bound_of(step, lane, newcomer:sub(1, 24))))
    if most == 0 then return 0, 0 end
  end
  local found = call('ZPOPMIN', key, most)
  if not found[1] then return 0, 0 end
  local entries, groups, refs, prefix = {}, {}, {}, lane.no .. '.'
  for index = 2, #found, 2 do
    local entry, place = lone.entry_of(step, lane, found[index]), index / 2
    entries[place], groups[place], refs[place] = entry, found[index - 1], prefix .. entry
  end
  local texts = call('HMGET', step.prefix .. KEY.grouped, unpack(refs))
  call('HDEL', step.prefix .. KEY.grouped, unpack(refs))
  local started, starts = start_grouped(step, turn, lane, entries, groups, refs, texts, tasks)
  if started > 0 and has_served(step, lane) then
    local last_position = call('INCRBY', step.prefix .. KEY.rotation_clock .. lane.name, #groups) - #groups
    local positions = {}
    for index, group in ipairs(groups) do
      local size = #positions
      local position = string.format('%d', last_position + index)
      if starts[index] then positions[size + 1], positions[size + 2] = group, position end
    end
    many('HSET', step.prefix .. KEY.rested .. lane.name, positions)
  end
  return #groups, started
end

-- Starts one task of each group in the order of the rotation.
function take_in_rotation(step, turn, lane, most, tasks, group_limit)
  join_ungrouped(step, lane)
  local got, checks = 0, 0
  while got < most and checks < CHECKS_MAX do
    local handed_out, started = 0, 0
    if not group_limit then
      handed_out, started = take_lone(step, turn, lane, math.min(most - got, ROUND_MAX), tasks)
    end
    got, checks = got + started, checks + handed_out
    if got >= most then break end
    local places = next_places(step, lane, math.min(most - got, ROUND_MAX))
    if not places then break end
    local picked, all, checked = {}, {}, {}
    checks = checks + 1
    for index = 1, math.min(#places, most - got) do
      local one = places[index]
      checks = checks + 1
      -- A process of the previous version may have given a group in `lone` a second place. Its limit allows one start
      -- at a time.
      local is_first = not checked[one.group]
      checked[one.group] = true
      if is_first and has_task(step, lane, one, group_limit) then
        all[#all + 1] = one
        if one.group ~= '' then
          picked[#picked + 1] = one
        else
          -- Keeps the order of the rotation.
          got = got + start_picked(step, turn, lane, picked, tasks)
          local _, started = take(step, turn, lane, 1, tasks)
          one.started, picked = started > 0, {}
          got = got + started
        end
      end
    end
    got = got + start_picked(step, turn, lane, picked, tasks)
    move_on(step, lane, all)
  end
  return got
end

-- Starts up to `most` tasks of one group; returns how many it handed out and started.
function take_of_group(step, turn, lane, part, most, tasks)
  local entries, picked = entries_of(step, part, most + 1), {}
  for index = 1, math.min(most, #entries) do
    picked[index] = { group = part.group, part = part, entry = entries[index] }
  end
  if #picked == 0 then return 0, 0 end
  local started = start_picked(step, turn, lane, picked, tasks)
  if #entries == #picked then call('SREM', step.prefix .. KEY.crowded .. lane.name, part.group) end
  if started > 0 then
    serve(step, lane, { { group = part.group, part = part, newcomer = entries[1], has_more = #entries > #picked } })
  else
    renew_age(step, part, entries[1])
  end
  return #picked, started
end

end
