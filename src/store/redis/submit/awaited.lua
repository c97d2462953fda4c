-- Counts the tasks that wait for each of the given tasks.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of tasks, the ref of each
-- Returns per task the count; false if the task does not exist
-- Cost  up to seven look-ups a task
function steps.awaited()
  local answers = {}
  for index = 1, number() do
    local ref = arg()
    answers[index] = find(ref) and call('SCARD', P .. KEY.successors .. ref) or false
  end
  return answers
end
