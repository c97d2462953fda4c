-- Reads the back-off of types.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of types, each
-- Returns per type its back-off, false if no handler has declared one
-- Cost  one HMGET
function steps.back_offs()
  local kinds = {}
  for index = 1, number() do kinds[index] = arg() end
  return call('HMGET', P .. KEY.back_off, unpack(kinds))
end
