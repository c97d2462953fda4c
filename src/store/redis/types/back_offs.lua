-- Reads the back-off of types.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of types, each
-- Returns per type its back-off, false if no handler has declared one
-- Cost  one HMGET
function steps.back_offs(step)
  local kinds = {}
  for index = 1, number(step) do kinds[index] = arg(step) end
  return call('HMGET', step.prefix .. KEY.back_off, unpack(kinds))
end
