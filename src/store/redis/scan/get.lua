-- Reads tasks by their refs.
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' to omit long parts, number of tasks, the ref of each
-- Returns per task {place, lane's name, text, entry or progress} (see `find`); false if there is none. For a task that
--       waits for others, the last value is the names that it still awaits
-- Cost  up to five look-ups a task
function steps.get(step)
  local answers, bare = {}, arg(step) == '1'
  for index = 1, number(step) do
    local ref = arg(step)
    local found, text, where = find(step, ref)
    if found == 'dependent' then
      where = table.concat(awaited_by(step, ref, (names_in(extras_of(text)))), ' ')
    end
    if found then text = bare and bare_text(text) or payloads.complete(step, ref, text) end
    if bare and found == 'running' and #where > 24 then where = 'null' end
    answers[index] = found and { found, lane_by_ref(step, ref).name, text, where or '' } or false
  end
  return answers
end
