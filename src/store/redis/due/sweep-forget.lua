-- Forgets types that have only a name, when their last worker left long ago and no task of them is kept; a part of
-- sweep.lua. The numbers of their lanes stay taken: refs of removed tasks contain them.
local forget_types
do

local PER_LANE = {
  KEY.lane, KEY.back, KEY.rotation, KEY.rotation_clock, KEY.unserved, KEY.lone, KEY.crowded, KEY.at_limit, KEY.rested,
  KEY.paces, KEY.group_queue, KEY.group_lanes, KEY.ring, KEY.ring_clock, KEY.served, KEY.newcomers, KEY.aside, KEY.idle,
}
local PER_TYPE = { KEY.running, KEY.waiting, KEY.blocked, KEY.starts }

-- Returns the types that have nothing but a name.
local function only_named(step, kinds)
  local named = {}
  for index, record in ipairs(#kinds == 0 and kinds or read_types(step, kinds)) do
    local is_held = record.held ~= '' and tonumber(record.held) > step.now
    local settings = record.back_off .. record.schemas .. record.defaults .. record.ceilings
      .. record.retention .. record.turns
    local is_named = record.rules == NEW_RULES and settings == '' and record.declared == '0'
    if is_named and not is_held then named[#named + 1] = kinds[index] end
  end
  return named
end

local function has_tasks(step, kind)
  local prefix, fields = step.prefix, {}
  for index, status in ipairs(COUNTED_STATUSES) do
    fields[index] = kind .. ':' .. status
    -- A task that has just ended is counted at the end of the step.
    if (step.counts[fields[index]] or 0) > 0 then return true end
  end
  for _, number in ipairs(call('HMGET', prefix .. KEY.counts, unpack(fields))) do
    if number and number ~= '0' then return true end
  end
  for _, lane in ipairs(lanes_of_type(step, kind)) do
    if call('XLEN', lane.stream) > 0 or call('EXISTS', lane.back) == 1 then return true end
    if call('HEXISTS', prefix .. KEY.ready_lanes, lane.name) == 1 then return true end
  end
  return call('EXISTS', prefix .. KEY.running .. kind) == 1
end

local function forget_lane(step, lane)
  local prefix, keys = step.prefix, {}
  for index, key in ipairs(PER_LANE) do keys[index] = prefix .. key .. lane.name end
  call('UNLINK', unpack(keys))
  call('HDEL', prefix .. KEY.lanes, lane.name)
  call('HDEL', prefix .. KEY.lone_from, lane.name)
end

local function forget(step, kind)
  local prefix, keys, counts = step.prefix, {}, {}
  for _, lane in ipairs(lanes_of_type(step, kind)) do forget_lane(step, lane) end
  for index, key in ipairs(PER_TYPE) do keys[index] = prefix .. key .. kind end
  for index, status in ipairs(COUNTED_STATUSES) do counts[index] = kind .. ':' .. status end
  call('UNLINK', unpack(keys))
  call('HDEL', prefix .. KEY.counts, unpack(counts))
  call('HDEL', prefix .. KEY.rules, kind, kind .. '/held', kind .. '/lanes', kind .. '/group_permits')
  for _, key in ipairs({ KEY.known, KEY.started }) do call('HDEL', prefix .. key, kind) end
  for _, key in ipairs({ KEY.parked, KEY.leases_due }) do call('ZREM', prefix .. key, kind) end
end

-- Forgets the types among these that no worker has served for `ttl` ms.
function forget_types(step, sweep, kinds, ttl)
  local stale = {}
  for index, seen in ipairs(#kinds == 0 and kinds or call('HMGET', step.prefix .. KEY.known, unpack(kinds))) do
    if seen and seen + ttl <= step.now then stale[#stale + 1] = kinds[index] end
  end
  for _, kind in ipairs(only_named(step, stale)) do
    if not has_tasks(step, kind) then
      forget(step, kind)
      sweep.tidies = true
    end
  end
end

end
