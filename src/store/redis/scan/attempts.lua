-- Reads the attempts of tasks that did not end them.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of tasks, the ref of each
-- Returns per task {number of attempts that are no longer kept, the JSON of each kept one (attempts.lua)}
-- Cost  one read a task
function steps.attempts(step)
  local answers = {}
  for index = 1, number(step) do answers[index] = { attempts.read(step, arg(step)) } end
  return answers
end
