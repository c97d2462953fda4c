-- Looks tasks up by their refs.
--
-- ARGV  now, number of tasks, the ref of each
-- Returns per task {where, lane's name, text, entry or progress}, see `find`; false where there is none
-- Cost  up to five look-ups a task
function steps.look()
  local answers = {}
  for index = 1, number() do
    local ref = arg()
    local found, text, where = find(ref)
    answers[index] = found and { found, lane_by_ref(ref).name, text, where or '' } or false
  end
  return answers
end
