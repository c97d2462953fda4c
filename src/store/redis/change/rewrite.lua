-- Replaces the records of events. An entry of a stream cannot be changed, so the new one is written to a zset that
-- readers read as well.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of entries, each: its last number, its records
-- Returns 'done'
-- Cost  three commands an entry
function steps.rewrite()
  for _ = 1, number() do
    local last, body = arg(), arg()
    local entry = outbox_entries(last, 1)[1]
    -- The entry may have been deleted in the meantime.
    if entry and entry[1]:match('^%d+') == last then
      local fields = entry[2]
      local text = table.concat({ entry[1], fields[2], fields[4], fields[8] or '0', body }, '|')
      call('XDEL', P .. KEY.events, entry[1])
      call('ZREMRANGEBYSCORE', P .. KEY.erased_events, last, last)
      call('ZADD', P .. KEY.erased_events, last, text)
    end
  end
  return 'done'
end
