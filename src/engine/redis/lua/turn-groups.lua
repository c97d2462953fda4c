-- A turn's claims from groups: the rotation of the groups of a lane. The third part of the turn, which turn.lua ends.
-- Lua has room for 200 locals in all files together: what no other file needs ends with the block.
local take, take_of_group, join_alone, take_one, whose_turn, take_in_turns
do

-- Groups that one claim looks at, and those of one round.
local LOOKS_MAX, ROUND_MAX = 10000, 1000

-- Hands out up to `most` entries of a lane, what was given back first; returns how many it handed out and started.
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

-- A place in the rotation: {part, newcomer: the entry that it is as old as, if it was never served, turn: when it was
-- served last, or what stands for its age}.

-- Starts tasks of groups, {part, entry} each, and notes at each whether it has started; returns how many.
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

-- Tasks without a group take turns with groups, as one more of them.
function join_alone(lane)
  if call('ZSCORE', P .. KEY.rotation .. lane.name, '') then return end
  local first = first_of(lane)
  if first then join_one(lane, first) end
end

local function is_at_limit(one, group_limit)
  local part = one.part
  if not group_limit or not part.group then return false end
  if call('SCARD', P .. KEY.held .. part.type .. '|' .. part.group) < group_limit then return false end
  rest(part, one.newcomer)
  call('HSET', P .. KEY.at_limit .. part.name, part.group, one.newcomer and '' or one.turn)
  return true
end

-- Groups that were never served, the longest-ready first.
local function newcomers_of(lane, most)
  local unserved = P .. KEY.unserved .. lane.name
  local places = call('ZRANGE', unserved, 0, most - 1)
  local groups, found, stale = {}, {}, {}
  for index, place in ipairs(places) do groups[index] = place:sub(26) end
  local scores = places[1] and call('ZMSCORE', P .. KEY.rotation .. lane.name, unpack(groups)) or {}
  for index, place in ipairs(places) do
    local entry = place:sub(1, 24)
    if scores[index] and tonumber(scores[index]) == NEVER_SERVED + entry:sub(1, 13) then
      found[#found + 1] = { part = group_lane(lane, groups[index]), newcomer = entry, turn = scores[index] }
      -- Tasks without a group may have left without a word.
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

-- Up to `most` places of a lane whose turn it is; nil if there is none, and nothing in it if one has to look again.
local function next_places(lane, most)
  local rotation = P .. KEY.rotation .. lane.name
  local members = call('ZRANGE', rotation, 0, most - 1, 'WITHSCORES')
  if not members[1] then return nil end
  local places = {}
  if tonumber(members[2]) < 0 then
    places = newcomers_of(lane, most)
    -- One that has no place among the newcomers has lost it: the next look finds it as old as its first task.
    if not places[1] and call('ZSCORE', rotation, members[1]) then
      local part = group_lane(lane, members[1])
      local first = first_of(part)
      rest(part)
      if first then join_one(part, first) end
    end
    if not places[1] then return places end
  end
  for index = 1, #members, 2 do
    if tonumber(members[index + 1]) >= 0 then
      places[#places + 1] = { part = group_lane(lane, members[index]), turn = string.format('%d', members[index + 1]) }
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

-- Puts groups that were served at the end; one that has nothing more leaves, and would come back there.
local function serve(lane, served)
  if #served == 0 then return end
  local turn_no = call('INCRBY', P .. KEY.rotation_clock .. lane.name, #served) - #served
  local stay, leave, turns, newcomers = {}, {}, {}, {}
  for index, one in ipairs(served) do
    local group, its_turn = one.part.group or '', string.format('%d', turn_no + index)
    if one.newcomer then newcomers[#newcomers + 1] = one.newcomer .. '|' .. group end
    if one.part.group and not one.has_more then
      leave[#leave + 1] = group
      turns[#turns + 1], turns[#turns + 2] = group, its_turn
    else
      stay[#stay + 1], stay[#stay + 2] = its_turn, group
    end
  end
  many('ZADD', P .. KEY.rotation .. lane.name, stay)
  many('ZREM', P .. KEY.rotation .. lane.name, leave)
  many('HSET', P .. KEY.rested .. lane.name, turns)
  many('ZREM', P .. KEY.unserved .. lane.name, newcomers)
end

-- What became of places whose tasks were to start: served, or as old as the next task.
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

-- Looks at a place: true if its first task may start, which is then its entry.
local function has_task(one, group_limit)
  local part, first, second = one.part, one.newcomer, nil
  if not part.group then
    first = first_of(part)
  elseif one.is_crowded or not first then
    first, second = unpack(entries_of(part, 2))
    if one.is_crowded and not second then call('SREM', P .. KEY.crowded .. part.name, part.group) end
  end
  if not first then
    rest(part, one.newcomer, one.turn)
    call('SREM', P .. KEY.crowded .. part.name, part.group or '')
    return false
  end
  one.entry, one.has_more = first, second ~= nil
  return not is_at_limit(one, group_limit)
end

-- The place whose turn it is; nil when no group has anything that may start.
function whose_turn(lane, group_limit)
  for _ = 1, LOOKS_MAX do
    local places = next_places(lane, 1)
    if not places then return nil end
    if places[1] and has_task(places[1], group_limit) then return places[1] end
  end
end

-- Starts the first task of a place; returns how many started.
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

-- One of each group in turn.
function take_in_turns(turn, lane, most, tasks, group_limit)
  join_alone(lane)
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
          -- In its turn.
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
