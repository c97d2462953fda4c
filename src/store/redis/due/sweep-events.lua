-- Trims the outbox; a part of sweep.lua.

local function drop_events_before(step, number)
  local prefix = step.prefix
  call('XTRIM', prefix .. KEY.events, 'MINID', string.format('%d', number))
  call('ZREMRANGEBYSCORE', prefix .. KEY.erased_events, '-inf', string.format('(%d', number))
end

-- Skipped positions are not events. Skips that lie before the first kept event are deleted.
local function trim_events(step, keep)
  local prefix = step.prefix
  local last = tonumber(call('GET', prefix .. KEY.event_clock) or '0')
  local skips = call('LRANGE', prefix .. KEY.event_skips, 0, -1)
  for index, skip in ipairs(skips) do
    local from, to = skip:match('^(%d+):(%d+)$')
    if last - to >= keep then
      for _ = index, #skips do call('RPOP', prefix .. KEY.event_skips) end
      break
    end
    keep, last = keep - (last - to), tonumber(from)
  end
  if last >= keep then drop_events_before(step, last - keep + 1) end
end

local function newest_event(step)
  local item = call('XREVRANGE', step.prefix .. KEY.events, '+', '-', 'COUNT', 1)[1]
  local erased = call('ZRANGE', step.prefix .. KEY.erased_events, -1, -1, 'WITHSCORES')[2]
  return math.max(item and tonumber(outbox.unpack(item).last) or 0, tonumber(erased or '0'))
end

-- Deletes events by age and bytes. The newest entry stays, because readers continue from it. Reading an entry reads its
-- records, which may be large: a binary search finds the first entry to keep, and the others are not read.
local function trim_old_events(step, age_ms, bytes_max)
  local prefix = step.prefix
  local bytes = tonumber(call('GET', prefix .. KEY.event_bytes) or '0')
  local function stays(entry)
    local its_bytes = bytes - tonumber(entry.bytes) + #entry.records
    return tonumber(entry.at) > step.now - age_ms and its_bytes <= bytes_max
  end
  local first = outbox.read(step, '-', 1)[1]
  if not first or stays(first) then return end
  local low, high = tonumber(first.last) + 1, newest_event(step)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = outbox.read(step, string.format('%d', middle), 1)[1]
    if stays(entry) then high = middle else low = math.min(tonumber(entry.last) + 1, high) end
  end
  if high > tonumber(first.last) then drop_events_before(step, high) end
end
