-- Deletes notices that were delivered.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of notices, the id of each
-- Returns 'done'
-- Cost  one XDEL
function steps.notices()
  local ids = {}
  for index = 1, number() do ids[index] = arg() end
  if #ids > 0 then call('XDEL', P .. KEY.notices, unpack(ids)) end
  return 'done'
end
