-- How failures of types are retried.
--
-- ARGV  now, number of types, each
-- Returns per type its back-off, false where no handler has told of one
-- Cost  one HMGET
function steps.back_offs()
  local kinds = {}
  for index = 1, number() do kinds[index] = arg() end
  return call('HMGET', P .. KEY.back_off, unpack(kinds))
end
