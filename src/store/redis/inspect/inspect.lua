-- Reads the statistics of types.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of types, each; '1' to include the holders of their permits
-- Returns {now, types: {type, values of TYPE_FIELDS, last seen, waiting, delayed, dependent, running,
--       {status, count, …}, {ref, lease's head and extras} each, starts that count for the rate} each,
--       {worker, running, …}, {stream, length, …}}
-- Cost  about ten commands for each type and lane
local HOLDERS_MAX = 1000
-- The final statuses, then 'grouped', 'delayed' and 'dependent' (task/status.ts).
local COUNTED = COUNTED_STATUSES

-- Returns the counts of types in the order of COUNTED, 0 if absent.
local function counts_of(step, kinds)
  local fields, found = {}, {}
  for _, kind in ipairs(kinds) do
    for _, what in ipairs(COUNTED) do fields[#fields + 1] = kind .. ':' .. what end
  end
  for from = 1, #fields, CHUNK do
    local to = math.min(from + CHUNK - 1, #fields)
    for _, value in ipairs(call('HMGET', step.prefix .. KEY.counts, unpack(fields, from, to))) do
      found[#found + 1] = value or '0'
    end
  end
  return found
end

function steps.inspect(step)
  local prefix = step.prefix
  local kinds = {}
  for index = 1, number(step) do kinds[index] = arg(step) end
  local with_holders = arg(step) == '1'
  local all_counts, records = counts_of(step, kinds), read_types(step, kinds)
  local types, running_by, streams = {}, {}, {}
  for place, kind in ipairs(kinds) do
    local record = records[place]
    if record.rules ~= '' then
      local here = { unpack(all_counts, (place - 1) * #COUNTED + 1, place * #COUNTED) }
      local finished, holders = {}, {}
      for index = 1, 4 do finished[index * 2 - 1], finished[index * 2] = COUNTED[index], here[index] end
      local running = prefix .. KEY.running .. kind
      if with_holders then
        local refs = call('ZRANGE', running, 0, HOLDERS_MAX - 1)
        local leases = #refs > 0 and call('HMGET', prefix .. KEY.leases, unpack(refs)) or {}
        for index, ref in ipairs(refs) do
          holders[#holders + 1] = { ref, head_and_extras(leases[index]) }
        end
      end
      local waiting = tonumber(here[5])
      if waiting > 0 then
        streams[#streams + 1] = kind .. ' (groups)'
        streams[#streams + 1] = waiting
      end
      for _, lane in ipairs(lanes_of_type(step, kind)) do
        waiting = waiting + count_waiting_in(lane)
        streams[#streams + 1] = lane.name
        streams[#streams + 1] = call('XLEN', lane.stream)
        for _, consumer in ipairs(call('XPENDING', lane.stream, WORKERS)[4] or {}) do
          running_by[consumer[1]] = (running_by[consumer[1]] or 0) + tonumber(consumer[2])
        end
      end
      types[#types + 1] = {
        kind, type_values(record), call('HGET', prefix .. KEY.known, kind) or '0', waiting, here[6], here[7],
        call('ZCARD', running), finished, holders,
        with_holders and call('LRANGE', prefix .. KEY.starts .. kind, 0, -1) or {},
      }
    end
  end
  local held = {}
  for worker, tasks in pairs(running_by) do
    held[#held + 1] = worker
    held[#held + 1] = tasks
  end
  return { step.now_text, types, held, streams }
end
