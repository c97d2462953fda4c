-- Reads the names of all types, the workers, and the statistics of finished tasks, a bounded number per call.
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' for the names of all types; the first slot, the last one, and how many fields may be read; number of
--       types whose fields alone are read, or 0, each; number of buckets of a histogram
-- Returns {types, {worker, description, last seen} each, {sign and worker, attempts, …}, {worker as JSON, leases of
--       groups, …}, {slot, {field, count, …}} each, the slot to continue with or ''}
-- Cost  grows with the size of the answer
local function fields_of(kinds, buckets)
  local fields = {}
  for _, kind in ipairs(kinds) do
    fields[#fields + 1] = kind .. ' f'
    for bucket = 0, buckets - 1 do
      fields[#fields + 1] = kind .. ' w' .. bucket
      fields[#fields + 1] = kind .. ' r' .. bucket
    end
  end
  return fields
end

local function some_of(key, fields)
  if call('EXISTS', key) == 0 then return {} end
  local found, values = {}, {}
  for from = 1, #fields, CHUNK do
    values = call('HMGET', key, unpack(fields, from, math.min(from + CHUNK - 1, #fields)))
    for index, value in ipairs(values) do
      if value then
        found[#found + 1] = fields[from + index - 1]
        found[#found + 1] = value
      end
    end
  end
  return found
end

function steps.who(step)
  local prefix = step.prefix
  local names_all, slot, last, most = arg(step) == '1', number(step), number(step), number(step)
  local kinds, names, workers = {}, {}, {}
  for index = 1, number(step) do kinds[index] = arg(step) end
  local fields = fields_of(kinds, number(step))
  if names_all then
    for _, kind in ipairs(call('HKEYS', prefix .. KEY.rules)) do
      if not kind:find('/', 1, true) then names[#names + 1] = kind end
    end
  end
  local seen, found = {}, call('ZRANGE', prefix .. KEY.seen, 0, -1, 'WITHSCORES')
  for index = 1, #found, 2 do seen[found[index]] = found[index + 1] end
  local described = call('HGETALL', prefix .. KEY.workers)
  for index = 1, #described, 2 do
    local worker = described[index]
    workers[#workers + 1] = { worker, described[index + 1], seen[worker] or '0' }
  end
  local slots = {}
  while slot <= last and most > 0 do
    local number_of_slot = string.format('%d', slot)
    local key = prefix .. KEY.rates .. number_of_slot
    local values = #fields > 0 and some_of(key, fields) or call('HGETALL', key)
    if #values > 0 then
      slots[#slots + 1] = { number_of_slot, values }
    end
    most, slot = most - #values, slot + 1
  end
  local on = slot <= last and string.format('%d', slot) or ''
  return { names, workers, call('HGETALL', prefix .. KEY.worked), call('HGETALL', prefix .. KEY.busy), slots, on }
end
