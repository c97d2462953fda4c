-- The claims of a turn from groups: the rotation of the groups of a lane. The third part of the turn, which turn.lua
-- ends. Lua allows 200 locals in all files together, so locals that no other file needs end with the block.
local take, take_of_group, join_ungrouped, take_one, next_ready_place, take_in_rotation
do

-- The most groups that one claim checks, and that one round checks.
local LOOKS_MAX, ROUND_MAX = 10000, 1000

-- Hands out up to `most` entries of a lane, returned entries first; returns how many it handed out and started.
function take(turn, lane, most, tasks)
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
  return #entries, start(turn, lane, entries, tasks)
end

-- A place in the rotation: {part, newcomer: the entry that gives the age of a group that was never served, position:
-- when it was last served, or a value that represents its age}.

-- Starts tasks of groups, {part, entry} each, and marks each that has started; returns the number started.
local function start_picked(turn, lane, picked, tasks)
  if #picked == 0 then return 0 end
  local fields, members = {}, {}
  for index, one in ipairs(picked) do
    fields[index] = lane.no .. '.' .. one.entry
    members[index] = one.part.prefix .. one.entry
  end
  local texts = call('HMGET', P .. KEY.grouped, unpack(fields))
  call('HDEL', P .. KEY.grouped, unpack(fields))
  call('ZREM', P .. KEY.group_queue .. lane.name, unpack(members))
  return start_grouped(turn, lane, picked, texts, tasks)
end

-- Tasks without a group take part in the rotation as one more group.
function join_ungrouped(lane)
  if call('ZSCORE', P .. KEY.rotation .. lane.name, '') then return end
  local first = first_of(lane)
  if first then join_one(lane, first) end
end

local function is_at_limit(one, group_limit)
  local part = one.part
  if not group_limit or not part.group then return false end
  if call('SCARD', P .. KEY.held .. part.type .. '|' .. part.group) < group_limit then return false end
  leave_rotation(part, one.newcomer)
  call('HSET', P .. KEY.at_limit .. part.name, part.group, one.newcomer and '' or one.position)
  return true
end

-- Returns the groups that were never served, longest-ready first.
local function newcomers_of(lane, most)
  local unserved = P .. KEY.unserved .. lane.name
  local places = call('ZRANGE', unserved, 0, most - 1)
  local groups, found, stale = {}, {}, {}
  for index, place in ipairs(places) do groups[index] = place:sub(26) end
  local scores = places[1] and call('ZMSCORE', P .. KEY.rotation .. lane.name, unpack(groups)) or {}
  for index, place in ipairs(places) do
    local entry = place:sub(1, 24)
    if scores[index] and tonumber(scores[index]) == NEVER_SERVED + entry:sub(1, 13) then
      found[#found + 1] = { part = group_lane(lane, groups[index]), newcomer = entry, position = scores[index] }
      -- Tasks without a group may leave without an update here.
      if groups[index] == '' and first_of(lane) ~= entry then
        renew_age(lane, entry)
        return newcomers_of(lane, most)
      end
    else
      stale[#stale + 1] = place
    end
  end
  if #stale > 0 then call('ZREM', unserved, unpack(stale)) end
  return found
end

-- Returns up to `most` next places of a lane; nil if there is none, and an empty list if the caller has to try again.
local function next_places(lane, most)
  local rotation = P .. KEY.rotation .. lane.name
  local members = call('ZRANGE', rotation, 0, most - 1, 'WITHSCORES')
  if not members[1] then return nil end
  local places = {}
  if tonumber(members[2]) < 0 then
    places = newcomers_of(lane, most)
    -- A group without a place among the newcomers has lost it: the next read finds it as old as its first task.
    if not places[1] and call('ZSCORE', rotation, members[1]) then
      local part = group_lane(lane, members[1])
      local first = first_of(part)
      leave_rotation(part)
      if first then join_one(part, first) end
    end
    if not places[1] then return places end
  end
  for index = 1, #members, 2 do
    if tonumber(members[index + 1]) >= 0 then
      local position = string.format('%d', members[index + 1])
      places[#places + 1] = { part = group_lane(lane, members[index]), position = position }
    end
  end
  local crowded = P .. KEY.crowded .. lane.name
  if places[1] and call('EXISTS', crowded) == 1 then
    local groups = {}
    for index, one in ipairs(places) do groups[index] = one.part.group or '' end
    for index, is_crowded in ipairs(call('SMISMEMBER', crowded, unpack(groups))) do
      places[index].is_crowded = is_crowded == 1
    end
  end
  return places
end

-- Moves served groups to the end; a group that has no more tasks leaves, and would return at that position.
local function serve(lane, served)
  if #served == 0 then return end
  local last_position = call('INCRBY', P .. KEY.rotation_clock .. lane.name, #served) - #served
  local stay, leave, positions, newcomers = {}, {}, {}, {}
  for index, one in ipairs(served) do
    local group, position = one.part.group or '', string.format('%d', last_position + index)
    if one.newcomer then newcomers[#newcomers + 1] = one.newcomer .. '|' .. group end
    if one.part.group and not one.has_more then
      leave[#leave + 1] = group
      positions[#positions + 1], positions[#positions + 2] = group, position
    else
      stay[#stay + 1], stay[#stay + 2] = position, group
    end
  end
  many('ZADD', P .. KEY.rotation .. lane.name, stay)
  many('ZREM', P .. KEY.rotation .. lane.name, leave)
  many('HSET', P .. KEY.rested .. lane.name, positions)
  many('ZREM', P .. KEY.unserved .. lane.name, newcomers)
end

-- Updates places whose tasks were to start: each is served, or as old as its next task.
local function move_on(lane, picked)
  local served = {}
  for _, one in ipairs(picked) do
    if one.started then
      served[#served + 1] = one
    elseif one.newcomer then
      renew_age(one.part, one.newcomer)
    end
  end
  serve(lane, served)
end

-- Returns whether the first task of a place may start; sets its entry.
local function has_task(one, group_limit)
  local part, first, second = one.part, one.newcomer, nil
  if not part.group then
    first = first_of(part)
  elseif one.is_crowded or not first then
    first, second = unpack(entries_of(part, 2))
    if one.is_crowded and not second then call('SREM', P .. KEY.crowded .. part.name, part.group) end
  end
  if not first then
    leave_rotation(part, one.newcomer, one.position)
    call('SREM', P .. KEY.crowded .. part.name, part.group or '')
    return false
  end
  one.entry, one.has_more = first, second ~= nil
  return not is_at_limit(one, group_limit)
end

-- Returns the next place with a task that may start; nil if there is none.
function next_ready_place(lane, group_limit)
  for _ = 1, LOOKS_MAX do
    local places = next_places(lane, 1)
    if not places then return nil end
    if places[1] and has_task(places[1], group_limit) then return places[1] end
  end
end

-- Starts the first task of a place; returns the number started.
function take_one(turn, lane, one, tasks)
  local started
  if one.part.group then
    started = start_picked(turn, lane, { one }, tasks)
  else
    local _
    _, started = take(turn, lane, 1, tasks)
    one.started = started > 0
  end
  move_on(lane, { one })
  return started
end

-- Starts one task of each group in the order of the rotation.
function take_in_rotation(turn, lane, most, tasks, group_limit)
  join_ungrouped(lane)
  local got, looks = 0, 0
  while got < most and looks < LOOKS_MAX do
    local places = next_places(lane, math.min(most - got, ROUND_MAX))
    if not places then break end
    local picked, all = {}, {}
    looks = looks + 1
    for index = 1, math.min(#places, most - got) do
      local one = places[index]
      looks = looks + 1
      if has_task(one, group_limit) then
        all[#all + 1] = one
        if one.part.group then
          picked[#picked + 1] = one
        else
          -- Keeps the order of the rotation.
          got = got + start_picked(turn, lane, picked, tasks)
          local _, started = take(turn, lane, 1, tasks)
          one.started, picked = started > 0, {}
          got = got + started
        end
      end
    end
    got = got + start_picked(turn, lane, picked, tasks)
    move_on(lane, all)
  end
  return got
end

-- Starts up to `most` tasks of one group; returns how many it handed out and started.
function take_of_group(turn, lane, part, most, tasks)
  local entries, picked = entries_of(part, most + 1), {}
  for index = 1, math.min(most, #entries) do picked[index] = { part = part, entry = entries[index] } end
  if #picked == 0 then return 0, 0 end
  local started = start_picked(turn, lane, picked, tasks)
  if #entries == #picked then call('SREM', P .. KEY.crowded .. lane.name, part.group) end
  if started > 0 then
    serve(lane, { { part = part, newcomer = entries[1], has_more = #entries > #picked } })
  else
    renew_age(part, entries[1])
  end
  return #picked, started
end

end
