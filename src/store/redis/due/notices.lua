-- Deletes notices that were delivered.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of notices, the id of each
-- Returns 'done'
-- Cost  one XDEL
function steps.notices(step)
  local ids = {}
  for index = 1, number(step) do ids[index] = arg(step) end
  if #ids > 0 then call('XDEL', step.prefix .. KEY.notices, unpack(ids)) end
  return 'done'
end
