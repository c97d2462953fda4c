-- The outbox of events; a part of the code that all steps share.
--
-- Each step that causes events writes one entry, with the id `<number of its last event>-<numbers skipped before its
-- first>`: `n` the number of events, `t` the time, `b` the records as JSON (event-records.ts), and `s` the bytes of all
-- records up to and including these.

local outbox = {}
do

-- By prefix: whether this server has given positions to events since it started. Nothing else outlives a step.
local has_given_positions = {}

-- Assigns positions to events. Returns the last position and the number of positions skipped before the first. A server
-- that has restarted, or has taken over, may have lost the last positions it gave: it continues above every position
-- that can have existed. A new store does the same.
local function give_positions(step)
  local prefix = step.prefix
  local last = call('INCRBY', prefix .. KEY.event_clock, step.event_count)
  local before = last - step.event_count
  if has_given_positions[prefix] and before > 0 then return last, 0 end
  has_given_positions[prefix] = true
  local first = math.max(before, step.now * 1000)
  last = first + step.event_count
  call('SET', prefix .. KEY.event_clock, string.format('%d', last))
  if before == 0 then
    call('SET', prefix .. KEY.event_birth, string.format('%d', first))
    return last, 0
  end
  if first > before then call('LPUSH', prefix .. KEY.event_skips, string.format('%d:%d', before, first)) end
  return last, first - before
end

-- Writes the events of a step.
function outbox.write(step)
  if step.event_count == 0 then return end
  local prefix, records = step.prefix, '[' .. table.concat(step.events, ',') .. ']'
  local bytes = string.format('%d', call('INCRBY', prefix .. KEY.event_bytes, #records))
  local id = string.format('%d-%d', give_positions(step))
  call('XADD', prefix .. KEY.events, id, 'n', step.event_count, 't', step.now_text, 'b', records, 's', bytes)
  if step.has_readers == nil then step.has_readers = call('EXISTS', prefix .. KEY.readers) == 1 end
  if step.has_readers then step.broadcasts[#step.broadcasts + 1] = 'events' end
end

-- Returns {id, last, skipped, count, at, records, bytes} of an entry; the values are texts.
function outbox.unpack(item)
  local last, skipped = item[1]:match('^(%d+)-(%d+)$')
  local _, count, _, at, _, records, _, bytes = unpack(item[2])
  bytes = bytes or '0'
  return { id = item[1], last = last, skipped = skipped, count = count, at = at, records = records, bytes = bytes }
end

-- An entry whose contents were erased, as a text.
function outbox.pack_erased(entry, records)
  return table.concat({ entry.id, entry.count, entry.at, entry.bytes, records }, '|')
end
local function unpack_erased(text)
  local id, count, at, bytes, records = text:match('^([^|]*)|([^|]*)|([^|]*)|([^|]*)|(.*)$')
  return outbox.unpack({ id, { 'n', count, 't', at, 'b', records, 's', bytes } })
end

-- Returns entries of the outbox from a position on (`-`, `<number>` or `(<number>-<skipped>`). Erased entries are kept
-- in a zset, because an entry of a stream cannot be changed.
function outbox.read(step, from, most)
  local prefix, found = step.prefix, {}
  for index, item in ipairs(call('XRANGE', prefix .. KEY.events, from, '+', 'COUNT', most)) do
    found[index] = outbox.unpack(item)
  end
  if call('EXISTS', prefix .. KEY.erased_events) == 0 then return found end
  local last = #found == most and found[most].last or '+inf'
  local first = from == '-' and '-inf' or from:match('^%(?%d+')
  for _, text in ipairs(call('ZRANGEBYSCORE', prefix .. KEY.erased_events, first, last, 'LIMIT', 0, most)) do
    found[#found + 1] = unpack_erased(text)
  end
  table.sort(found, function(a, b) return tonumber(a.last) < tonumber(b.last) end)
  for index = #found, most + 1, -1 do found[index] = nil end
  return found
end

-- Records that a task was removed: events up to its end are then reported only for tasks that are kept.
function outbox.note_removed(step, ended_at)
  local prefix = step.prefix
  if ended_at > tonumber(call('GET', prefix .. KEY.ended_until) or '0') then
    call('SET', prefix .. KEY.ended_until, string.format('%d', ended_at))
  end
end

end
