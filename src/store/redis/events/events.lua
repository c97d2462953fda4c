-- Reads the outbox.
--
-- KEYS  the partition's prefix
-- ARGV  now, position to continue from: 'now', '' for all that is kept, or a number; most entries, '1' to be notified
--       of the next events by a message, most bytes: reading ends with the entry that exceeds them
-- Returns {last number, the number before the first event that is kept, the number before the first event ever,
--       {entry's last number, count, time, records} each, the time up to which events may belong to removed tasks}
-- Cost  an XRANGE for each 25 entries
function steps.events(step)
  local prefix = step.prefix
  local after, most, stays, bytes_left = arg(step), number(step), arg(step), number(step)
  local AT_ONCE = 25
  local READER_MS = 5000
  if stays == '1' then call('SET', prefix .. KEY.readers, 1, 'PX', READER_MS) end
  local last = call('GET', prefix .. KEY.event_clock) or '0'
  local first_entry = outbox.read(step, '-', 1)[1]
  local birth = call('GET', prefix .. KEY.event_birth) or '0'
  local before = tonumber(last)
  if first_entry then
    before = tonumber(first_entry.last) - tonumber(first_entry.count) - tonumber(first_entry.skipped)
  end
  local entries = {}
  if after ~= 'now' then
    local from = after == '' and '-' or string.format('%d', tonumber(after) + 1)
    while most > 0 and bytes_left > 0 do
      local some = outbox.read(step, from, math.min(most, AT_ONCE))
      for _, entry in ipairs(some) do
        if bytes_left <= 0 then break end
        entries[#entries + 1] = { entry.last, entry.count, entry.at, entry.records }
        bytes_left = bytes_left - #entry.records
      end
      most = #some < AT_ONCE and 0 or most - #some
      if #some > 0 then from = '(' .. some[#some].id end
    end
  end
  return { last, string.format('%d', before), birth, entries, call('GET', prefix .. KEY.ended_until) or '0' }
end
