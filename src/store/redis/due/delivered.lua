-- Deletes messages that were delivered.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of messages, the id of each
-- Returns 'done'
-- Cost  one XDEL
function steps.delivered(step)
  local ids = {}
  for index = 1, number(step) do ids[index] = arg(step) end
  if #ids > 0 then call('XDEL', step.prefix .. KEY.partition_messages, unpack(ids)) end
  return 'done'
end
