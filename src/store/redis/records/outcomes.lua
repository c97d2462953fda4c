-- Outcomes of tasks, as tasks that wait for them keep them; a part of the code that all steps share.
--
-- The hash `outcomes:<ref>` of a task that waits for others has a field for each name that it waits for: '' while that
-- task is awaited, its outcome as JSON `[status, type, result, error]`, or `null` if it was removed without success.
-- '#' holds the number of awaited tasks, '#bytes' the size of all outcomes, and '@<name>' the status and type of a
-- large outcome. Outcomes are copies, so retention may remove the awaited task before the waiting task has run. They
-- are kept until the waiting task is removed, because it may be retried.
local GONE, FORGOTTEN = 'null', '[null,"",null,null]'

local names_in, effect_of, outcome_of, put_outcome, predecessors_of, awaited_by
do

-- The failure policies (task/flow.ts): the letter of each name, and by letter what each final status does.
local LETTERS, EFFECTS = POLICY_LETTERS, POLICY_EFFECTS

-- Returns the names that a task waits for, in order, and the letter of its failure policy; nil if it waits for none.
function names_in(text)
  if not has_predecessors(text) then return nil end
  local extras = unpack_stored_extras(text)
  return extras.names, LETTERS[extras.policy] or extras.policy:sub(1, 1)
end

-- Returns the effect of a task's end on a task that waits for it: it counts, it cancels the waiting task, or the wait
-- goes on. With the policy of a later version, the task waits.
function effect_of(status, policy)
  local effects = EFFECTS[policy]
  return effects and effects[status] or 'waits'
end

-- Returns the outcome of a finished task.
function outcome_of(kind, text)
  local task = unpack_finished(text)
  return string.format('["%s","%s",', task.status, kind) .. task.result .. ',' .. task.error .. ']'
end

-- Returns status and type of an outcome.
local function outline_of(outcome) return outcome:match('^%["%l+","[^"]*"') .. ']' end

-- Stores the outcome of a task that another task waits for. Outcomes stored by earlier versions are not counted in
-- '#bytes'.
function put_outcome(key, name, outcome)
  call('HSET', key, name, outcome)
  call('HINCRBY', key, '#bytes', #outcome)
  if #outcome > 1024 then call('HSET', key, '@' .. name, outline_of(outcome)) end
end

-- Returns the outcomes that a task has waited for, as JSON, in order: complete while they fit, and only status and type
-- of the others, which are not read.
function predecessors_of(step, ref, extras)
  local names = names_in(extras)
  if not names then return '' end
  local key, outcomes, left = step.prefix .. KEY.outcomes .. ref, nil, PREDECESSORS_BYTES_MAX
  local bytes = call('HGET', key, '#bytes')
  if bytes and tonumber(bytes) <= left then
    outcomes = call('HMGET', key, unpack(names))
  else
    outcomes = {}
    for index, name in ipairs(names) do
      local size = call('HSTRLEN', key, name)
      if size <= left then
        left = left - size
        outcomes[index] = call('HGET', key, name)
      else
        outcomes[index] = call('HGET', key, '@' .. name) or outline_of(call('HGET', key, name))
      end
    end
  end
  for index = 1, #names do
    local outcome = outcomes[index]
    if not outcome or outcome == '' or outcome == GONE then outcomes[index] = FORGOTTEN end
  end
  return '[' .. table.concat(outcomes, ',') .. ']'
end

-- Returns the names among those that a task waits for which it still awaits. Outcomes may be large, so none is read.
function awaited_by(step, ref, names)
  local key, awaited = step.prefix .. KEY.outcomes .. ref, {}
  for _, name in ipairs(names) do
    if call('HSTRLEN', key, name) == 0 and call('HEXISTS', key, name) == 1 then awaited[#awaited + 1] = name end
  end
  return awaited
end

end
