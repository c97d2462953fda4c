-- Replaces the records of events. An entry of a stream cannot be changed, so the new one is written to a zset that
-- readers read as well.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of entries, each: its last number, its records
-- Returns 'done'
-- Cost  three commands an entry
function steps.rewrite(step)
  local prefix = step.prefix
  for _ = 1, number(step) do
    local last, body = arg(step), arg(step)
    local entry = outbox_entries(step, last, 1)[1]
    -- The entry may have been deleted in the meantime.
    if entry and entry[1]:match('^%d+') == last then
      local fields = entry[2]
      local text = table.concat({ entry[1], fields[2], fields[4], fields[8] or '0', body }, '|')
      call('XDEL', prefix .. KEY.events, entry[1])
      call('ZREMRANGEBYSCORE', prefix .. KEY.erased_events, last, last)
      call('ZADD', prefix .. KEY.erased_events, last, text)
    end
  end
  return 'done'
end
