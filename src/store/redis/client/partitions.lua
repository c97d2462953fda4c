-- Reads and extends the set of partitions of a cluster that have ever had a type; the first partition keeps it.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of partitions to add, each
-- Returns all of them
-- Cost  two commands
function steps.partitions(step)
  local prefix = step.prefix
  local added = {}
  for index = 1, number(step) do added[index] = arg(step) end
  if #added > 0 then call('SADD', prefix .. KEY.partitions, unpack(added)) end
  return call('SMEMBERS', prefix .. KEY.partitions)
end
