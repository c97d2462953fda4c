-- Reads tasks that the end of a task has not released, oldest first. Some of them may have been removed since.
--
-- KEYS  the partition's prefix
-- ARGV  now, the task's ref, the place to read behind or '', maximum number
-- Returns {the place of the last one, or '' if there are no more; the name of each, …}
-- Cost  one command; its time grows with the number of successors, of which a submission allows 10,000
function steps.successors(step)
  local ref, behind, most = arg(step), arg(step), number(step)
  local places, by_place = flows.successors_behind(step, ref, behind)
  local answer = { #places > most and places[most] or '' }
  for index = 1, math.min(most, #places) do
    local _, name = by_place[places[index]]:match('^(%l) (.*)$')
    answer[index + 1] = name
  end
  return answer
end
