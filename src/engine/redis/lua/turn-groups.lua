-- A turn's claims from groups: the rotation of the groups of a lane. The third part of the turn, which turn.lua ends.
-- Lua has room for 200 locals in all files together: what no other file needs ends with the block.
local take, join_alone, serve, whose_turn, take_in_turns
do

-- Members of it that one claim looks at; and those from an older version that one look arranges.
local LOOKS_MAX, ROUND_MAX, TIES_MAX = 10000, 1000, 100

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

-- Tasks without a group take turns with groups, as one more of them.
function join_alone(lane)
  if call('ZSCORE', ring_of(lane), '') then return end
  local first = first_of(lane)
  if first then join_ring(lane, first) end
end

local function leave_ring(part, entry)
  call('ZREM', ring_of(part), part.group or '')
  if entry then call('ZREM', P .. KEY.newcomers .. part.name, entry .. '|' .. (part.group or '')) end
end

local function leave_idle(part, entry)
  leave_ring(part, entry)
  if part.group then call('SADD', P .. KEY.idle .. part.name, part.group) end
end

-- Sets a group aside that has as many leases as it may.
local function is_set_aside(part, entry, group_limit)
  if not group_limit or not part.group then return false end
  if call('SCARD', P .. KEY.held .. part.type .. '|' .. part.group) < group_limit then return false end
  leave_ring(part, entry)
  call('SADD', P .. KEY.aside .. part.name, part.group)
  return true
end

-- Groups that were never served, the longest-ready first; `oldest` is the first score of the rotation.
local function newcomers_of(lane, most, oldest)
  local ring, newcomers = ring_of(lane), P .. KEY.newcomers .. lane.name
  local places = call('ZRANGE', newcomers, 0, most - 1)
  local groups, found, stale = {}, {}, {}
  for index, place in ipairs(places) do groups[index] = place:sub(26) end
  local scores = places[1] and call('ZMSCORE', ring, unpack(groups)) or {}
  for index, place in ipairs(places) do
    local entry = place:sub(1, 24)
    if scores[index] and tonumber(scores[index]) == tonumber(age_of(entry)) then
      found[#found + 1] = { group_lane(lane, groups[index]), entry }
      -- Tasks without a group may also have left without a word.
      if groups[index] == '' and first_of(lane) ~= entry then
        renew_age(lane, entry)
        return newcomers_of(lane, most, oldest)
      end
    else
      stale[#stale + 1] = place
    end
  end
  if #stale > 0 then call('ZREM', newcomers, unpack(stale)) end
  if found[1] and tonumber(age_of(found[1][2])) <= oldest then return found end
  -- An older version has added these to the rotation alone.
  for _, group in ipairs(call('ZRANGEBYSCORE', ring, oldest, oldest, 'LIMIT', 0, TIES_MAX)) do
    local part = group_lane(lane, group)
    local first = first_of(part)
    call('ZREM', ring, group)
    if first then
      join_ring(part, first)
    elseif part.group then
      call('SADD', P .. KEY.idle .. lane.name, group)
    end
  end
  return {}
end

-- Up to `most` parts of a lane whose turn it is, each with the entry of its first task if it is a newcomer; nil if
-- there is none, and nothing in it if one has to look again.
local function next_parts(lane, most)
  local members = call('ZRANGE', ring_of(lane), 0, most - 1, 'WITHSCORES')
  if not members[1] then return nil end
  local parts = {}
  if tonumber(members[2]) < 0 then parts = newcomers_of(lane, most, tonumber(members[2])) end
  if tonumber(members[2]) < 0 and not parts[1] then return parts end
  for index = 1, #members, 2 do
    if tonumber(members[index + 1]) >= 0 then parts[#parts + 1] = { group_lane(lane, members[index]) } end
  end
  return parts
end

-- Puts groups that were served at the end; one that has nothing more leaves, and would come back there.
function serve(lane, served)
  if #served == 0 then return end
  local turn_no = call('INCRBY', P .. KEY.ring_clock .. lane.name, #served) - #served
  local stay, leave, turns, newcomers = {}, {}, {}, {}
  for index, one in ipairs(served) do
    local part, entry = one[1], one[2]
    local group, its_turn = part.group or '', string.format('%d', turn_no + index)
    turns[#turns + 1], turns[#turns + 2] = group, its_turn
    if entry then newcomers[#newcomers + 1] = entry .. '|' .. group end
    -- All that is left of it is what was just handed out.
    if part.group and call('XLEN', part.stream) == 1 then
      leave[#leave + 1] = group
    else
      stay[#stay + 1], stay[#stay + 2] = its_turn, group
    end
  end
  many('HSET', P .. KEY.served .. lane.name, turns)
  many('ZADD', ring_of(lane), stay)
  many('ZREM', ring_of(lane), leave)
  many('ZREM', P .. KEY.newcomers .. lane.name, newcomers)
end

-- The part of a lane whose turn it is, its first entry, and that again if it is a newcomer; nil when no group has
-- anything that may start.
function whose_turn(lane, group_limit)
  for _ = 1, LOOKS_MAX do
    local parts = next_parts(lane, 1)
    if not parts then return nil end
    if parts[1] then
      local part, entry = parts[1][1], parts[1][2]
      local first = entry or first_of(part)
      if not first then
        leave_idle(part, entry)
      elseif not is_set_aside(part, entry, group_limit) then
        return part, first, entry
      end
    end
  end
end

-- One of each group in turn.
function take_in_turns(turn, lane, most, tasks, group_limit)
  join_alone(lane)
  local got, looks = 0, 0
  while got < most and looks < LOOKS_MAX do
    local parts = next_parts(lane, math.min(most - got, ROUND_MAX))
    if not parts then break end
    looks = looks + 1
    local served = {}
    for index = 1, math.min(#parts, most - got) do
      local one = parts[index]
      local part, entry = one[1], one[2]
      looks = looks + 1
      if not is_set_aside(part, entry, group_limit) then
        local handed_out, started = take(turn, part, 1, tasks)
        if started > 0 then
          served[#served + 1] = one
        elseif handed_out == 0 then
          leave_idle(part, entry)
        elseif entry then
          renew_age(part, entry)
        end
        got = got + started
      end
    end
    serve(lane, served)
  end
  return got
end

end
