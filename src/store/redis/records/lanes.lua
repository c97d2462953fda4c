-- Lanes, and the ids of their entries; a part of the code that all steps share.

local function lane_of(step, kind, priority, no)
  local prefix = step.prefix
  local name = kind .. ':' .. priority
  local lane = { no = no, type = kind, priority = priority, name = name, stream = prefix .. KEY.lane .. name }
  lane.back = prefix .. KEY.back .. name
  step.lanes[no], step.lanes_by_name[name] = lane, lane
  return lane
end

-- The lanes of a type, highest priority first: `priorities` are pairs `<priority>:<number>`.
local function lanes_of(step, kind, priorities)
  local found = {}
  for priority, no in (priorities or ''):gmatch('(%d):(%d+)') do
    found[#found + 1] = step.lanes[no] or lane_of(step, kind, priority, no)
  end
  return found
end

local function lanes_of_type(step, kind)
  return lanes_of(step, kind, call('HGET', step.prefix .. KEY.rules, kind .. '/lanes'))
end

-- Returns the next lane number. The first task of a type and priority creates their lane, with a number that no other
-- lane of this partition has ever had. `#highest` holds the highest number; earlier versions did not write it, so it is
-- only the value to start from.
local function next_lane_number(step)
  local prefix = step.prefix
  local highest = tonumber(call('HGET', prefix .. KEY.lanes, '#highest') or 0)
  if highest == 0 then
    for _, field in ipairs(call('HKEYS', prefix .. KEY.lanes)) do
      highest = math.max(highest, tonumber(field:match('^#(%d+)$') or 0))
    end
  end
  repeat highest = highest + 1 until call('HEXISTS', prefix .. KEY.lanes, '#' .. string.format('%d', highest)) == 0
  call('HSET', prefix .. KEY.lanes, '#highest', string.format('%d', highest))
  return string.format('%d', highest)
end

-- Returns the lane of a type and priority; creates it if it does not exist.
-- @param its_no the number of the lane if it existed before; a new lane gets it
local function open_lane(step, kind, priority, its_no)
  local prefix = step.prefix
  local name = kind .. ':' .. priority
  if step.lanes_by_name[name] then return step.lanes_by_name[name] end
  local no = call('HGET', prefix .. KEY.lanes, name)
  if no then return lane_of(step, kind, priority, no) end
  no = its_no or next_lane_number(step)
  call('HSET', prefix .. KEY.lanes, name, no, '#' .. no, name)
  local lane = lane_of(step, kind, priority, no)
  call('XGROUP', 'CREATE', lane.stream, WORKERS, '0', 'MKSTREAM')
  local sorted = { priority .. ':' .. no }
  local others = call('HGET', prefix .. KEY.rules, kind .. '/lanes') or ''
  for other in others:gmatch('[^,]+') do sorted[#sorted + 1] = other end
  table.sort(sorted, function(a, b) return a > b end)
  call('HSET', prefix .. KEY.rules, kind .. '/lanes', table.concat(sorted, ','))
  return lane
end

-- Entries of a lane that have the same limit on their wait expire in the order of the stream. For each such limit,
-- `waits` holds the entry up to which sweeps have checked. A task costs nothing for this until it has waited that long.
local function watch_waits(step, lane, limit_ms)
  local prefix = step.prefix
  if limit_ms == '0' or lane[limit_ms] then return end
  lane[limit_ms] = true
  local field = lane.no .. ':' .. limit_ms
  if call('HSETNX', prefix .. KEY.waits, field, '0-0') == 1 then
    call('ZADD', prefix .. KEY.waits_due, string.format('%d', step.now + limit_ms), field)
  end
end

-- Returns the lane of a ref and the entry that the task was accepted as.
local function lane_by_ref(step, ref)
  local no, entry = ref:match('^(%d+)%.(.+)$')
  if not no then return nil end
  local lane = step.lanes[no]
  if not lane then
    local name = call('HGET', step.prefix .. KEY.lanes, '#' .. no)
    if not name then return nil end
    lane = lane_of(step, name:sub(1, -3), name:sub(-1), no)
  end
  return lane, entry
end

local function last_handed_out(lane)
  local group = call('XINFO', 'GROUPS', lane.stream)[1]
  for index = 1, #group, 2 do
    if group[index] == 'last-delivered-id' then return group[index + 1] end
  end
end

-- The clock of entries ------------------------------------------------------------------------------------------------

-- Entry ids are `<ms>-<n>`, always with 13 and 10 digits, so they sort as text; they increase over all lanes together.
-- Reserves `count` consecutive ids; returns the ms and the n of the first.
local function reserve(step, count, least_n)
  if not step.clock_ms then
    local last = call('GET', step.prefix .. KEY.clock)
    step.clock_ms, step.clock_n = 0, 0
    if last then step.clock_ms, step.clock_n = tonumber(last:sub(1, 13)), tonumber(last:sub(15)) end
  end
  local ms = math.max(step.now, 1e12)
  local n = least_n or 1e9
  if ms <= step.clock_ms then
    ms = step.clock_ms
    n = math.max(n, step.clock_n + 1)
  end
  step.clock_ms, step.clock_n, step.clock_moved = ms, n + count - 1, true
  return ms, n
end

local function entry_id(ms, n) return string.format('%d-%d', ms, n) end
