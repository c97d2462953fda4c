-- Counts the tasks that wait for each of the given tasks.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of tasks, the ref of each
-- Returns per task the count; false if the task does not exist
-- Cost  up to seven look-ups a task
function steps.count_successors(step)
  local answers = {}
  for index = 1, number(step) do
    local ref = arg(step)
    answers[index] = find(step, ref) and call('SCARD', step.prefix .. KEY.successors .. ref) or false
  end
  return answers
end
