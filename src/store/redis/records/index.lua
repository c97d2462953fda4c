-- The index of all tasks, a stream in the order of submission; a part of the code that all steps share.
--
-- Tasks that were accepted in one step have one place: the entry of the first, and `l`, the numbers of consecutive
-- tasks in each lane, `<lane number>*<how many> …`. A restored task may have a place of its own, with `r`, its ref.
local task_index = {}

function task_index.run_text(no, tasks) return no .. '*' .. tasks end

function task_index.add_runs(step, entry, runs)
  call('XADD', step.prefix .. KEY.index, entry, 'l', table.concat(runs, ' '))
end

function task_index.add_ref(step, entry, ref) call('XADD', step.prefix .. KEY.index, entry, 'r', ref) end

-- Returns {entry, ms, n, ref} of a task with a place of its own, or {entry, ms, n, runs, tasks}: the ms is a text, each
-- run has {no, n, tasks}, and `tasks` is the number of all.
function task_index.unpack(item)
  local place = { entry = item[1], runs = {}, tasks = 0 }
  local ms, n = item[1]:match('^(%d+)-(%d+)$')
  place.ms, place.n = ms, tonumber(n)
  local field, value = unpack(item[2])
  if field == 'r' then
    place.ref = value
    return place
  end
  for no, tasks in value:gmatch('(%d+)%*(%d+)') do
    tasks = tonumber(tasks)
    place.runs[#place.runs + 1] = { no = no, n = place.n + place.tasks, tasks = tasks }
    place.tasks = place.tasks + tasks
  end
  return place
end
