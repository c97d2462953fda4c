-- Reads the outbox.
--
-- ARGV  now, position to go on from: 'now', '' for all that is kept, or a number; most entries,
--       '1' to be told by a message of what comes next
-- Returns {last number there is, the number before the first that is kept, the same of the first that ever was,
--       {entry's last number, count, time, body, …}}
-- Cost  one XRANGE
function steps.events()
  local after, most, stays = arg(), number(), arg()
  local READER_MS = 5000
  if stays == '1' then call('SET', P .. KEY.readers, 1, 'PX', READER_MS) end
  local last = call('GET', P .. KEY.event_clock) or '0'
  local first_entry = call('XRANGE', P .. KEY.events, '-', '+', 'COUNT', 1)[1]
  local birth = call('GET', P .. KEY.event_birth) or '0'
  local before = tonumber(last)
  if first_entry then
    local its_last, skipped = first_entry[1]:match('^(%d+)-(%d+)$')
    before = tonumber(its_last) - tonumber(first_entry[2][2]) - tonumber(skipped)
  end
  local entries = {}
  if after ~= 'now' then
    local from = after == '' and '-' or string.format('%d', tonumber(after) + 1)
    for _, entry in ipairs(call('XRANGE', P .. KEY.events, from, '+', 'COUNT', most)) do
      entries[#entries + 1] = entry[1]:match('^%d+')
      for index = 2, 6, 2 do entries[#entries + 1] = entry[2][index] end
    end
  end
  return { last, string.format('%d', before), birth, entries }
end
