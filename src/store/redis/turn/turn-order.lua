-- The places of groups in the rotation of a lane; a part of turn.lua, in a block of its own, because Lua allows 200
-- locals at once, over all files.
local order = {}
do

-- A place in the rotation: {group, part, newcomer: the entry that gives the age of a group that was never served,
-- position: when it was last served, or a value that represents its age}; of a group in `lone` {group, newcomer,
-- is_lone}. A lane of tasks that use limits has such a place as well; `uses` has the uses of its first task.

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
function order.next_places(step, lane, most)
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
function order.has_served(step, lane)
  local prefix = step.prefix
  local last = call('ZRANGE', prefix .. KEY.rotation .. lane.name, -1, -1, 'WITHSCORES')[2]
  return (last and tonumber(last) >= 0) or call('EXISTS', prefix .. KEY.at_limit .. lane.name) == 1
end

-- Moves served groups to the end; a group that has no more tasks leaves, and would return at that position.
function order.serve(step, lane, served)
  local prefix = step.prefix
  if #served == 0 then return end
  local by_time = shared_time.is_of(step, lane.type) and shared_time.positions(step, lane, served)
  local last_position = by_time or call('INCRBY', prefix .. KEY.rotation_clock .. lane.name, #served) - #served
  local stay, leave, positions, newcomers = {}, {}, {}, {}
  for index, one in ipairs(served) do
    local group, position = one.group, by_time and by_time[index] or string.format('%d', last_position + index)
    if one.newcomer and not one.is_lone then newcomers[#newcomers + 1] = one.newcomer .. '|' .. group end
    if one.uses then limits.visited(step, lane, group) end
    if group == '' or one.has_more then
      stay[#stay + 1], stay[#stay + 2] = position, group
    else
      limits.emptied(step, lane, group)
      if not one.is_lone then leave[#leave + 1] = group end
      positions[#positions + 1], positions[#positions + 2] = group, position
    end
  end
  many('ZADD', prefix .. KEY.rotation .. lane.name, stay)
  many('ZREM', prefix .. KEY.rotation .. lane.name, leave)
  local keeps = positions[1] and (by_time or order.has_served(step, lane))
  if keeps then many('HSET', prefix .. KEY.rested .. lane.name, positions) end
  many('ZREM', prefix .. KEY.unserved .. lane.name, newcomers)
end

-- Updates places whose tasks were to start: each is served, or as old as its next task.
function order.move_on(step, lane, picked)
  local served = {}
  for _, one in ipairs(picked) do
    if one.started then
      served[#served + 1] = one
    elseif one.newcomer and not one.is_lone then
      renew_age(step, one.part, one.newcomer)
    end
  end
  order.serve(step, lane, served)
end

end
