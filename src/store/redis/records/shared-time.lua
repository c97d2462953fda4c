-- Types whose groups share running time, `group_turns`; a part of the code that all steps share.
--
-- In such a type the position of a group in the rotation (groups.lua) is the time in ms that it has used: at a start it
-- grows by the mean of its recent running times, `paces` of the lane, and at the end of the attempt the time that it
-- ran takes the place of that mean. `rotation_clock` is the position of the group that started last. A group that
-- returns begins there, so it has no credit from a time without tasks; `rested` keeps the position of a group that has
-- used more.
local shared_time = {}
do

-- In `paces`: the mean of all groups. Names of groups contain no control characters.
local OF_ALL = '\n'
-- The share of the latest running time in a mean.
local SHARE = 1 / 8
-- The groups without waiting tasks that one sweep checks in a lane.
local RESTED_CHECKED = 1000

local function text(number) return string.format('%d', number) end
local function clock_of(step, lane)
  return tonumber(call('GET', step.prefix .. KEY.rotation_clock .. lane.name) or 0)
end

-- Returns whether the groups of a type share running time.
function shared_time.is_of(step, kind)
  local cached = step.shared_time
  if not cached then
    cached = { any = step.may_have_rare and call('EXISTS', step.prefix .. KEY.group_turns) == 1 }
    step.shared_time = cached
  end
  if not cached.any then return false end
  if cached[kind] == nil then
    local turns = call('HGET', step.prefix .. KEY.group_turns, kind)
    cached[kind] = turns and turns:sub(1, 5) == 'time,'
  end
  return cached[kind]
end

-- Returns the position at which a group returns to the rotation.
function shared_time.from_rest(step, lane, position)
  if not shared_time.is_of(step, lane.type) then return position end
  return text(math.max(position, clock_of(step, lane)))
end

local function expected_of(pace, pace_of_all) return math.max(1, math.floor((pace or pace_of_all or 1) + 0.5)) end

-- Returns the positions of groups that were served, after their starts.
function shared_time.positions(step, lane, served)
  local prefix, groups = step.prefix, {}
  for index, one in ipairs(served) do groups[index] = one.group end
  local scores = call('ZMSCORE', prefix .. KEY.rotation .. lane.name, unpack(groups))
  groups[#groups + 1] = OF_ALL
  local paces = call('HMGET', prefix .. KEY.paces .. lane.name, unpack(groups))
  local clock, positions, first = clock_of(step, lane), {}, nil
  for index, one in ipairs(served) do
    local from = tonumber(scores[index] or -1)
    if from < 0 then from = clock end
    first = first or from
    local expected = expected_of(tonumber(paces[index] or nil), tonumber(paces[#groups] or nil))
    positions[index] = text(from + (one.starts or 1) * expected)
  end
  if first > clock then call('SET', prefix .. KEY.rotation_clock .. lane.name, text(first)) end
  return positions
end

-- Moves a group back by a time that it has used; forward if that is negative.
local function move(step, lane, group, ms, if_gone)
  local prefix = step.prefix
  local score = call('ZSCORE', prefix .. KEY.rotation .. lane.name, group)
  if score then
    local to = text(math.max(score + ms, 0))
    if tonumber(score) >= 0 then call('ZADD', prefix .. KEY.rotation .. lane.name, to, group) end
    return
  end
  for _, key in ipairs({ prefix .. KEY.at_limit .. lane.name, prefix .. KEY.rested .. lane.name }) do
    local position = call('HGET', key, group)
    if position then
      if tonumber(position) then call('HSET', key, group, text(math.max(position + ms, 0))) end
      return
    end
  end
  if if_gone then call('HSET', prefix .. KEY.rested .. lane.name, group, text(clock_of(step, lane) + if_gone)) end
end

-- An attempt of a group has ended, '' for none.
function shared_time.ended(step, lane, group, started_at)
  if not shared_time.is_of(step, lane.type) then return end
  local prefix = step.prefix
  if group == '' and call('EXISTS', prefix .. KEY.rotation .. lane.name) == 0 then return end
  local ran, paces = math.max(1, step.now - started_at), prefix .. KEY.paces .. lane.name
  local pace, of_all = unpack(call('HMGET', paces, group, OF_ALL))
  pace, of_all = tonumber(pace or nil), tonumber(of_all or nil)
  move(step, lane, group, ran - expected_of(pace, of_all), ran)
  local function mean(before) return string.format('%.2f', before and before + (ran - before) * SHARE or ran) end
  call('HSET', paces, group, mean(pace), OF_ALL, mean(of_all))
  local name = limits.group_of(group)
  if name == '' or not limits.are_in_groups(step, lane) then return end
  for _, member in ipairs(limits.lanes_of(step, lane, name)) do
    if member ~= group then move(step, lane, member, ran) end
  end
  if name ~= group then move(step, lane, name, ran) end
end

-- Forgets the groups without waiting tasks that have used no more than others, and all of them if the lane is idle.
function shared_time.tidy(step, lane, is_idle)
  local prefix = step.prefix
  local rested, paces = prefix .. KEY.rested .. lane.name, prefix .. KEY.paces .. lane.name
  if is_idle then return call('UNLINK', rested, paces, prefix .. KEY.rotation_clock .. lane.name) end
  local clock, gone = clock_of(step, lane), {}
  local some = call('HRANDFIELD', rested, RESTED_CHECKED, 'WITHVALUES')
  for index = 1, #some, 2 do
    if tonumber(some[index + 1]) <= clock then gone[#gone + 1] = some[index] end
  end
  many('HDEL', rested, gone)
  many('HDEL', paces, gone)
end

-- Groups share starts again: those with the latest positions come last, and the next ones after them.
function shared_time.ended_for(step, lane)
  local prefix = step.prefix
  local last = tonumber(call('ZRANGE', prefix .. KEY.rotation .. lane.name, -1, -1, 'WITHSCORES')[2] or 0)
  for _, key in ipairs({ prefix .. KEY.at_limit .. lane.name, prefix .. KEY.rested .. lane.name }) do
    for _, position in ipairs(call('HVALS', key)) do last = math.max(last, tonumber(position) or 0) end
  end
  if last > clock_of(step, lane) then call('SET', prefix .. KEY.rotation_clock .. lane.name, text(last)) end
  call('UNLINK', prefix .. KEY.paces .. lane.name)
end

end
