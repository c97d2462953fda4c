-- How many tasks wait for each of some.
--
-- ARGV  now, number of tasks, the ref of each
-- Returns per task the number; false where there is no such task
-- Cost  up to seven look-ups a task
function steps.awaited()
  local answers = {}
  for index = 1, number() do
    local ref = arg()
    answers[index] = find(ref) and call('SCARD', P .. KEY.successors .. ref) or false
  end
  return answers
end
