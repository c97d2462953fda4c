-- Reads in which partition the types lie that use named limits, and sets it where none is known; the first partition
-- keeps it.
--
-- KEYS  the partition's prefix
-- ARGV  now, the partition to set or '', number of limits, each
-- Returns the partition of each, '' if none is known
-- Cost  one or two commands for each
function steps.limit_home(step)
  local key, partition, homes = step.prefix .. KEY.limit_homes, arg(step), {}
  for index = 1, number(step) do
    local name = arg(step)
    if partition ~= '' then call('HSETNX', key, name, partition) end
    homes[index] = call('HGET', key, name) or ''
  end
  return homes
end
