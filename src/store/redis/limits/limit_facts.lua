-- Reads what is in use of named limits.
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' to include the holders, '1' to include tasks that wait; number of names, (name, units) each
-- Returns for each {units in use, unfinished tasks that use it, those of them that are not ready, its leases, when its
--       hold or its rate allows so many units or '', {units, ref, lane's name, lease's head and extras} each, refs of
--       ready tasks}
-- Cost  about ten commands for each; with tasks that wait, some for each lane
local HOLDERS_MAX, WAITERS_MAX = 1000, 100
-- The lanes that are searched, and the groups of each.
local LANES_MAX, GROUPS_MAX = 1000, 1000

local function holders_of(step, name)
  local prefix, holders = step.prefix, {}
  local found = call('HRANDFIELD', prefix .. KEY.using .. name, HOLDERS_MAX, 'WITHVALUES')
  for index = 1, #found, 2 do
    local ref = found[index]
    local record = call('HGET', prefix .. KEY.leases, ref)
    if record then
      holders[#holders + 1] = { found[index + 1], ref, lane_by_ref(step, ref).name, head_and_extras(record) }
    end
  end
  return holders
end

-- Adds the refs of the ready tasks of the lanes that use a limit.
local function add_waiters(step, name, lane, members, refs)
  for _, member in ipairs(members) do
    if #refs >= WAITERS_MAX then return end
    if member:find('\31' .. name, 1, true) and (member .. '\31'):find('\31' .. name .. '\31', 1, true) then
      local part = group_lane(lane, member)
      for _, entry in ipairs(entries_of(step, part, WAITERS_MAX - #refs)) do
        local text = call('HGET', step.prefix .. KEY.grouped, lane.no .. '.' .. entry)
        if text then refs[#refs + 1] = unpack_head((split_head(text)), lane, entry).ref end
      end
    end
  end
end

local function waiters_of(step, name)
  local prefix, refs = step.prefix, {}
  local names = call('HKEYS', prefix .. KEY.lanes)
  for index = 1, math.min(#names, LANES_MAX) do
    if #refs >= WAITERS_MAX then break end
    local lane_name = names[index]
    if lane_name:sub(1, 1) ~= '#' then
      local lane = open_lane(step, lane_name:sub(1, -3), lane_name:sub(-1))
      local at_limit = call('HSCAN', prefix .. KEY.at_limit .. lane_name, '0', 'COUNT', GROUPS_MAX)[2]
      add_waiters(step, name, lane, at_limit, refs)
      add_waiters(step, name, lane, call('ZRANGE', prefix .. KEY.rotation .. lane_name, 0, GROUPS_MAX - 1), refs)
    end
  end
  return refs
end

function steps.limit_facts(step)
  local with_holders, with_waiters, answers = arg(step) == '1', arg(step) == '1', {}
  for index = 1, number(step) do
    local name, units = arg(step), number(step)
    local numbers = call('HMGET', step.prefix .. KEY.limits_now, '#' .. name, '~' .. name)
    local opens_at = limits.opens_by_time(step, name, units)
    answers[index] = {
      limits.in_use_of(step, name), tonumber(numbers[1] or 0), tonumber(numbers[2] or 0),
      call('HLEN', step.prefix .. KEY.using .. name), opens_at and string.format('%d', opens_at) or '',
      with_holders and holders_of(step, name) or {}, with_waiters and waiters_of(step, name) or {},
    }
  end
  return answers
end
