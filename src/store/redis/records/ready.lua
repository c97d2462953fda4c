-- Lanes that have something to hand out; a part of the code that all steps share.
--
-- A worker of many types does not query each of them. `ready` is a zset of lanes in the order in which they are served,
-- with members `<9 - priority><entry>|<type>`; `ready_lanes` has the entry of each. The entry is that of the first
-- task, or an earlier one: a claim that reaches a lane corrects its entry, and removes lanes that are empty. A task
-- that follows others in its lane therefore changes nothing here. Lanes of a type that is paused, or at its limit or
-- rate, are removed too: the type is in `parked`, with the time at which its rate allows a start, until one of its
-- leases ends or its rules change.
local ANY_ENTRY = '0000000000000-0000000000'

local function ready_member(lane, entry) return (9 - lane.priority) .. entry .. '|' .. lane.type end

-- Puts a lane at its place, or removes it if `entry` is nil. `before` is its entry there, if that is known.
local function place_lane(step, lane, entry, before)
  local prefix = step.prefix
  if before then call('ZREM', prefix .. KEY.ready, ready_member(lane, before)) end
  if entry then
    call('ZADD', prefix .. KEY.ready, '0', ready_member(lane, entry))
    call('HSET', prefix .. KEY.ready_lanes, lane.name, entry)
  else
    call('HDEL', prefix .. KEY.ready_lanes, lane.name)
  end
end

-- Records that a lane has a task to hand out from `entry` on.
local function note_ready(step, lane, entry)
  if lane.ready_from and lane.ready_from <= entry then return end
  local before = call('HGET', step.prefix .. KEY.ready_lanes, lane.name)
  if not before or entry < before then place_lane(step, lane, entry, before) end
  lane.ready_from = before and before < entry and before or entry
end

-- Allows a parked type to start tasks again. `without_wake` if the step itself wakes the processes that wait.
local function unpark(step, kind, without_wake)
  if call('ZREM', step.prefix .. KEY.parked, kind) == 0 then return end
  for _, lane in ipairs(lanes_of_type(step, kind)) do note_ready(step, lane, ANY_ENTRY) end
  if without_wake then return end
  wake(step, kind, 1)
  free_permits(step, kind, 1)
end

-- Totals of all types -------------------------------------------------------------------------------------------------

-- Counts the waiting tasks of a lane; tasks of its groups are counted separately.
local function count_waiting_in(lane)
  return call('XLEN', lane.stream) - call('XPENDING', lane.stream, WORKERS)[1] + call('ZCARD', lane.back)
end

-- The numbers of `open` (unfinished) and `finished` tasks are kept beside the counts of each type. A process of the
-- previous version, which has the key `keeper`, changes only the counts: while one runs, and once after that, all tasks
-- are counted again.
local refresh_totals
do

local COUNTED_EVERY_MS = 60000
local PUT_ASIDE = { grouped = true, delayed = true, dependent = true }

local function count_all(step)
  local prefix = step.prefix
  local open, finished = call('HLEN', prefix .. KEY.leases), 0
  local all = call('HGETALL', prefix .. KEY.counts)
  for index = 1, #all, 2 do
    if is_of_final(all[index]) then finished = finished + all[index + 1] end
    if PUT_ASIDE[all[index]:match(':(%l+)$')] then open = open + all[index + 1] end
  end
  for _, name in ipairs(call('HKEYS', prefix .. KEY.lanes)) do
    if name:sub(1, 1) ~= '#' then
      open = open + count_waiting_in({ stream = prefix .. KEY.lane .. name, back = prefix .. KEY.back .. name })
    end
  end
  call('HSET', prefix .. KEY.totals, 'open', open, 'finished', finished, 'counted_at', step.now_text)
  call('HDEL', prefix .. KEY.totals, 'others')
end

-- Runs before a step changes anything, because the step adds its own changes at its end.
function refresh_totals(step)
  local prefix = step.prefix
  local counted_at, others = unpack(call('HMGET', prefix .. KEY.totals, 'counted_at', 'others'))
  if not counted_at or (others and counted_at + COUNTED_EVERY_MS < step.now) then count_all(step) end
  if call('EXISTS', prefix .. KEY.maintainer_before, prefix .. KEY.maintainer_first) > 0 then
    call('HSET', prefix .. KEY.totals, 'others', '1')
  end
end

end
local function total(step, what) return tonumber(call('HGET', step.prefix .. KEY.totals, what)) end
