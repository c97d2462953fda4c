-- Everything about types and workers, for statistics.
--
-- ARGV  now, number of types or 0 for all, each; '1' to name the holders of their permits
-- Returns {now, types: {type, rules, back-off, schema, defaults, last seen, declared, waiting, delayed, running,
--       {status, count, …}, {ref, lease's head and extras, …},
--       starts that count for the rate, dependent, ceilings, retention} each, {worker, description, last seen, …},
--       {sign and worker, attempts, …}, {worker, running, …}, {stream, length, …}, {slot, {field, count, …}, …}}
-- Cost  some ten commands for each type and lane
local HOLDERS_MAX = 1000
local SLOT_MS, SLOTS = 10000, 30

local function pairs_of(list)
  local found = {}
  for index = 1, #list, 2 do found[list[index]] = list[index + 1] end
  return found
end

function steps.about()
  local kinds = {}
  for index = 1, number() do kinds[index] = arg() end
  local with_holders = arg() == '1'
  if #kinds == 0 then
    for _, kind in ipairs(call('HKEYS', P .. KEY.rules)) do
      if not kind:find('/', 1, true) then kinds[#kinds + 1] = kind end
    end
  end

  local counts_now = pairs_of(call('HGETALL', P .. KEY.counts))
  local types, running_by, streams = {}, {}, {}
  for _, kind in ipairs(kinds) do
    local rules = call('HGET', P .. KEY.rules, kind)
    if rules then
      local finished, holders = {}, {}
      for _, status in ipairs({ 'success', 'failed', 'canceled', 'timeout' }) do
        finished[#finished + 1] = status
        finished[#finished + 1] = counts_now[kind .. ':' .. status] or '0'
      end
      local running = P .. KEY.running .. kind
      if with_holders then
        local refs = call('ZRANGE', running, 0, HOLDERS_MAX - 1)
        local records = #refs > 0 and call('HMGET', P .. KEY.leases, unpack(refs)) or {}
        for index, ref in ipairs(refs) do
          holders[#holders + 1] = ref
          holders[#holders + 1] = records[index]:match('^[^\n]*\n[^\n]*')
        end
      end
      local waiting = tonumber(counts_now[kind .. ':grouped'] or 0)
      if waiting > 0 then
        streams[#streams + 1] = kind .. ' (groups)'
        streams[#streams + 1] = waiting
      end
      for _, lane in ipairs(lanes_of_type(kind)) do
        waiting = waiting + count_waiting_in(lane)
        streams[#streams + 1] = lane.name
        streams[#streams + 1] = call('XLEN', lane.stream)
        for _, consumer in ipairs(call('XPENDING', lane.stream, WORKERS)[4] or {}) do
          running_by[consumer[1]] = (running_by[consumer[1]] or 0) + tonumber(consumer[2])
        end
      end
      types[#types + 1] = {
        kind, rules, call('HGET', P .. KEY.back_off, kind) or '', call('HGET', P .. KEY.schemas, kind) or '',
        call('HGET', P .. KEY.defaults, kind) or '', call('HGET', P .. KEY.known, kind) or '0',
        call('SISMEMBER', P .. KEY.declared, kind), waiting, counts_now[kind .. ':delayed'] or '0',
        call('ZCARD', running), finished, holders,
        with_holders and call('LRANGE', P .. KEY.starts .. kind, 0, -1) or {},
        counts_now[kind .. ':dependent'] or '0', call('HGET', P .. KEY.ceilings, kind) or '',
        call('HGET', P .. KEY.retention, kind) or '',
      }
    end
  end

  local workers, held = {}, {}
  local seen = pairs_of(call('ZRANGE', P .. KEY.seen, 0, -1, 'WITHSCORES'))
  local described = call('HGETALL', P .. KEY.workers)
  for index = 1, #described, 2 do
    workers[#workers + 1] = described[index]
    workers[#workers + 1] = described[index + 1]
    workers[#workers + 1] = seen[described[index]] or '0'
  end
  local busy = call('HGETALL', P .. KEY.busy)
  for index = 1, #busy, 2 do
    local worker = cjson.decode(busy[index])
    running_by[worker] = (running_by[worker] or 0) + tonumber(busy[index + 1])
  end
  for worker, tasks in pairs(running_by) do
    held[#held + 1] = worker
    held[#held + 1] = tasks
  end
  local slots = {}
  local slot = math.floor(now / SLOT_MS)
  for number = slot - SLOTS + 1, slot do
    local fields = call('HGETALL', P .. KEY.rates .. string.format('%d', number))
    if #fields > 0 then
      slots[#slots + 1] = string.format('%d', number)
      slots[#slots + 1] = fields
    end
  end
  return { NOW, types, workers, call('HGETALL', P .. KEY.worked), held, streams, slots }
end
