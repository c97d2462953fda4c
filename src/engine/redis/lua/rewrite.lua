-- Puts records of events in the place of others. An entry of a stream cannot be changed: the new one goes to a zset
-- that readers look into as well.
--
-- ARGV  now, number of entries, each: its last number, its records
-- Cost  three commands an entry
function steps.rewrite()
  for _ = 1, number() do
    local last, body = arg(), arg()
    local entry = outbox_entries(last, 1)[1]
    -- It may have been dropped meanwhile.
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
