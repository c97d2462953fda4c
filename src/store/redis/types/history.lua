-- Adds figures to the slots of the rings.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of rings, each: its name, the number of the slot, how long the slot is kept (s); number of types,
--       each: its name ('' for the sum of all), its figures (store/history.ts)
-- Returns 'ok'
-- Cost  three commands a ring and type

-- Adds up two texts `counts|wait|run` of numbers with commas.
local function sum_of(a, b)
  local sums, lists = {}, {}
  for list in (a .. '|'):gmatch('([^|]*)|') do lists[#lists + 1] = list end
  local at = 0
  for list in (b .. '|'):gmatch('([^|]*)|') do
    at = at + 1
    local numbers = {}
    for n in (lists[at] or ''):gmatch('%d+') do numbers[#numbers + 1] = tonumber(n) end
    local index = 0
    for n in list:gmatch('%d+') do
      index = index + 1
      numbers[index] = (numbers[index] or 0) + n
    end
    for place, n in ipairs(numbers) do numbers[place] = string.format('%d', n) end
    sums[at] = table.concat(numbers, ',')
  end
  return table.concat(sums, '|')
end

-- Tasks that ended without a worker are counted apart (`count_end` in changes.lua), because their steps name no slot.
local function take_ends(step, figures)
  local prefix = step.prefix
  local ends = call('HGETALL', prefix .. KEY.history_ends)
  if #ends == 0 then return end
  call('DEL', prefix .. KEY.history_ends)
  for index = 1, #ends, 2 do
    local kind, status = ends[index]:match('^(.*) (%l+)$')
    local counts = {}
    for place, name in ipairs(HISTORY_COUNTS) do counts[place] = name == status and ends[index + 1] or '0' end
    local text = table.concat(counts, ',') .. '||'
    for _, name in ipairs({ kind, '' }) do figures[name] = figures[name] and sum_of(figures[name], text) or text end
  end
end

function steps.history(step)
  local rings, figures = {}, {}
  for index = 1, number(step) do rings[index] = { name = arg(step), slot = arg(step), kept_s = arg(step) } end
  for _ = 1, number(step) do
    local kind, text = next_args(step, 2)
    figures[kind] = text
  end
  take_ends(step, figures)
  for _, ring in ipairs(rings) do
    local key = step.prefix .. KEY.history .. ring.name .. ':' .. ring.slot
    local types = call('HLEN', key)
    for kind, text in pairs(figures) do
      local before = call('HGET', key, kind)
      if before then
        call('HSET', key, kind, sum_of(before, text))
      elseif kind == '' or types <= HISTORY_TYPES_MAX then
        call('HSET', key, kind, text)
        types = types + 1
      end
    end
    call('EXPIRE', key, ring.kept_s)
  end
  return 'ok'
end
