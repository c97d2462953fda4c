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
    local last, records = next_args(step, 2)
    local entry = outbox.read(step, last, 1)[1]
    -- The entry may have been deleted in the meantime.
    if entry and entry.last == last then
      local text = outbox.pack_erased(entry, records)
      call('XDEL', prefix .. KEY.events, entry.id)
      call('ZREMRANGEBYSCORE', prefix .. KEY.erased_events, last, last)
      call('ZADD', prefix .. KEY.erased_events, last, text)
    end
  end
  return 'done'
end
