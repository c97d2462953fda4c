-- Reads tasks that the end of a task has not released, oldest first. Some of them may have been removed since.
--
-- KEYS  the partition's prefix
-- ARGV  now, the task's ref, the place to read behind or '', maximum number
-- Returns {the place of the last one, or '' if there are no more; the name of each, …}
-- Cost  one command; its time grows with the number of successors, of which a submission allows 10,000
function steps.successors(step)
  local ref, behind, most = arg(step), arg(step), number(step)
  local places, names = {}, {}
  for _, successor in ipairs(call('SMEMBERS', step.prefix .. KEY.successors .. ref)) do
    local name = successor:sub(3)
    -- Tasks of different lanes may have equal entries; the name distinguishes them.
    local place = name:match('%.(.*)$') .. ' ' .. name
    if place > behind then
      places[#places + 1] = place
      names[place] = name
    end
  end
  table.sort(places)
  local answer = { #places > most and places[most] or '' }
  for index = 1, math.min(most, #places) do answer[index + 1] = names[places[index]] end
  return answer
end
