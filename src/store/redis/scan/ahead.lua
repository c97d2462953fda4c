-- Counts the tasks of the same type that run before a waiting task in the present order of the groups, up to a bound.
-- Tasks of groups at their limit do not count.
--
-- KEYS  the partition's prefix
-- ARGV  now, ref, bound
-- Returns the count
-- Cost  grows with the count, and with the number of groups in the lane

-- Counts the waiting entries of a part of a lane, only those before `entry` if it is given.
local function waiting_before(step, part, entry, most)
  if part.group then return count_entries(step, part, entry) end
  local back = call('ZRANGE', part.back, 0, -1)
  local waiting = 0
  for _, other in ipairs(back) do
    if not entry or other < entry then waiting = waiting + 1 end
  end
  local last = last_handed_out(part)
  if entry and #last == 24 and last > entry then return waiting end
  local to = entry and '(' .. entry or '+'
  return waiting + #call('XRANGE', part.stream, '(' .. last, to, 'COUNT', most)
end

-- Returns the position of a part of a lane in the rotation, and its first entry, which orders parts with the same
-- position; nil if the part is empty.
local function position_of(step, lane, part)
  local prefix = step.prefix
  local first = first_of(step, part)
  if not first then return nil end
  local score = call('ZSCORE', prefix .. KEY.rotation .. lane.name, part.group or '')
    or call('HGET', prefix .. KEY.rested .. lane.name, part.group or '')
  if not score or tonumber(score) < 0 then score = age_of(first) end
  return tonumber(score), first
end

-- Returns all parts of a lane that may have something to hand out.
local function parts_of(step, lane, bound)
  local parts = { lane }
  for _, group in ipairs(call('ZRANGE', step.prefix .. KEY.rotation .. lane.name, 0, bound)) do
    if group ~= '' then parts[#parts + 1] = group_lane(lane, group) end
  end
  return parts
end

-- The same for the groups in `lone`, which have one task each.
local function lone_before(step, lane, before, mine, my_first)
  local key = step.prefix .. KEY.lone .. lane.name
  if before > 0 or (mine and mine >= 0) then return call('ZCARD', key) end
  if not mine then return 0 end
  return call('ZCOUNT', key, '-inf', '(' .. lone.bound_of(step, lane, my_first))
end

function steps.ahead(step)
  local ref, bound = arg(step), number(step)
  local found, _, entry, own = find(step, ref)
  if found ~= 'waiting' then return 0 end
  local ahead = waiting_before(step, own, entry, bound)
  local before = ahead
  for _, lane in ipairs(lanes_of_type(step, own.type)) do
    if lane.priority > own.priority then
      for _, part in ipairs(parts_of(step, lane, bound)) do
        ahead = ahead + (part.group and count_entries(step, part) or count_waiting_in(part))
      end
      ahead = ahead + call('ZCARD', step.prefix .. KEY.lone .. lane.name)
    elseif lane.priority == own.priority then
      -- Every other part is served as often before the task as the task's own group, and once more if it is first in
      -- the rotation.
      local mine, my_first = position_of(step, lane, own)
      for _, part in ipairs(parts_of(step, lane, bound)) do
        local other, first = position_of(step, lane, part)
        if other and part.group ~= own.group then
          local is_before_mine = mine and (other < mine or (other == mine and first < my_first))
          local rounds = is_before_mine and before + 1 or before
          ahead = ahead + math.min(waiting_before(step, part, nil, before + 1), rounds)
        end
      end
      ahead = ahead + lone_before(step, lane, before, mine, my_first)
    end
  end
  return math.min(ahead, bound)
end
