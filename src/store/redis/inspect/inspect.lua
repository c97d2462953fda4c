-- Reads the statistics of types.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of types, each; '1' to include the holders of their permits; '1' to count the waiting tasks that
--       the limits of their groups allow to start
-- Returns {now, types: {type, values of TYPE_FIELDS, last seen, waiting, delayed, dependent, running,
--       {status, count, …}, {ref, lease's head and extras} each, starts that count for the rate,
--       waiting tasks that the limits of their groups allow to start} each,
--       {worker, running, …}, {stream, length, …}}
-- Cost  about ten commands for each type and lane
local HOLDERS_MAX = 1000
local GROUPS_COUNTED_MAX = 1000
-- The final statuses, then 'grouped', 'delayed' and 'dependent' (task/status.ts).
local COUNTED = COUNTED_STATUSES

-- Returns for each type the stored counts by status, '0' if absent.
local function counts_of(step, kinds)
  local fields, counts = {}, {}
  for _, kind in ipairs(kinds) do
    for _, status in ipairs(COUNTED) do fields[#fields + 1] = kind .. ':' .. status end
  end
  for from = 1, #fields, CHUNK do
    local to = math.min(from + CHUNK - 1, #fields)
    for index, value in ipairs(call('HMGET', step.prefix .. KEY.counts, unpack(fields, from, to))) do
      local place = from + index - 2
      local kind, status = kinds[math.floor(place / #COUNTED) + 1], COUNTED[place % #COUNTED + 1]
      counts[kind] = counts[kind] or {}
      counts[kind][status] = value or '0'
    end
  end
  return counts
end

local function holders_of(step, kind)
  local refs, holders = call('ZRANGE', step.prefix .. KEY.running .. kind, 0, HOLDERS_MAX - 1), {}
  local records = #refs > 0 and call('HMGET', step.prefix .. KEY.leases, unpack(refs)) or {}
  for index, ref in ipairs(refs) do holders[index] = { ref, head_and_extras(records[index]) } end
  return holders
end

-- Counts the waiting tasks of a type; adds the lengths of its streams, and the leases of each worker there.
local function count_waiting(step, kind, grouped, streams, running_by)
  local waiting = grouped
  local function add(name, length) streams[#streams + 1], streams[#streams + 2] = name, length end
  if grouped > 0 then add(kind .. ' (groups)', grouped) end
  for _, lane in ipairs(lanes_of_type(step, kind)) do
    waiting = waiting + count_waiting_in(lane)
    add(lane.name, call('XLEN', lane.stream))
    for _, consumer in ipairs(call('XPENDING', lane.stream, WORKERS)[4] or {}) do
      local worker, leases = unpack(consumer)
      running_by[worker] = (running_by[worker] or 0) + tonumber(leases)
    end
  end
  return waiting
end

-- Counts the waiting tasks of groups that are in the rotation, as far as the limit of each group allows, and named
-- limits if the tasks of a lane use as much as the first one.
local function startable_of_groups(step, kind, group_limit)
  local startable = 0
  for _, lane in ipairs(lanes_of_type(step, kind)) do
    startable = startable + call('ZCARD', step.prefix .. KEY.lone .. lane.name)
    for _, group in ipairs(call('ZRANGE', step.prefix .. KEY.rotation .. lane.name, 0, GROUPS_COUNTED_MAX - 1)) do
      if group ~= '' then
        local part = group_lane(lane, group)
        local tasks, most = count_entries(step, part), group_permits.limit_of(step, kind, group, group_limit)
        if most then tasks = math.min(tasks, most - call('SCARD', group_permits.key_of(step, kind, group))) end
        if tasks > 0 and limits.are_used(group) then tasks = limits.startable_of(step, part, tasks) end
        startable = startable + math.max(tasks, 0)
      end
    end
  end
  return startable
end

local function describe(step, kind, record, counts, waiting, asked)
  local prefix, finished = step.prefix, {}
  for _, status in ipairs(FINAL_STATUSES) do
    finished[#finished + 1], finished[#finished + 2] = status, counts[status]
  end
  return {
    kind, type_values(record), call('HGET', prefix .. KEY.known, kind) or '0', waiting, counts.delayed,
    counts.dependent, call('ZCARD', prefix .. KEY.running .. kind), finished,
    asked.holders and holders_of(step, kind) or {},
    (asked.holders or asked.demand) and call('LRANGE', prefix .. KEY.starts .. kind, 0, -1) or {},
    asked.demand and waiting - tonumber(counts.grouped)
      + startable_of_groups(step, kind, tonumber(unpack_rules(record.rules).group_limit)) or 0,
  }
end

function steps.inspect(step)
  local kinds = {}
  for index = 1, number(step) do kinds[index] = arg(step) end
  local asked = { holders = arg(step) == '1', demand = arg(step) == '1' }
  step.only_reads = true
  local counts, records = counts_of(step, kinds), read_types(step, kinds)
  local types, running_by, streams, running = {}, {}, {}, {}
  for place, kind in ipairs(kinds) do
    local record = records[place]
    if record.rules ~= '' then
      local waiting = count_waiting(step, kind, tonumber(counts[kind].grouped), streams, running_by)
      types[#types + 1] = describe(step, kind, record, counts[kind], waiting, asked)
    end
  end
  for worker, leases in pairs(running_by) do running[#running + 1], running[#running + 2] = worker, leases end
  return { step.now_text, types, running, streams }
end
