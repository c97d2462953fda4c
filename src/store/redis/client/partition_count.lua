-- Records the number of partitions of a cluster; the first partition keeps it.
--
-- KEYS  the partition's prefix
-- ARGV  now, the number, the number of a queue that was made before it was recorded
-- Returns the recorded number
-- Cost  two or three commands
function steps.partition_count(step)
  local prefix, count, count_before = step.prefix, next_args(step, 2)
  local key = prefix .. KEY.partition_count
  if call('EXISTS', prefix .. KEY.partitions) == 1 then count = count_before end
  call('SET', key, count, 'NX')
  return call('GET', key)
end
