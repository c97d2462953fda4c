-- Reads the lines of a task's log after a position.
--
-- KEYS  the partition's prefix
-- ARGV  now, ref, position, maximum number of lines
-- Returns {number of lines that are no longer kept, the texts of logs.lua with these lines}
-- Cost  the last texts of the list, 50 at a time
function steps.logs(step)
  local ref = arg(step)
  return { logs.read(step, ref, number(step), number(step)) }
end
