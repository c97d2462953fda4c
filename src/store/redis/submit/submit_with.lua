-- Accepts a task and changes the document of its schedule, if the document is still as the caller read it: of all
-- processes that try, one succeeds.
--
-- KEYS  the partition's prefix
-- ARGV  now, id, the text that it must have, its new text, when it is due or '', the time to store with the task, '1'
--       if the last task must have ended; then the arguments of submit.lua, for one call with one task
-- Returns 'accepted' | 'stale' | 'open' | {'full', waiting} | {'unstorable', 1}; all but the first change nothing
-- Cost  four commands more than submit.lua

-- Returns the ref of the only task of an answer of submit.lua, or the refusal.
local function ref_of(lane_no, answer)
  if type(answer) == 'string' then return lane_no .. '.' .. answer end
  local outcome, conflict, existing = unpack(answer)
  if outcome == 'some' or outcome == 'conflict' then
    -- A task of another request has taken the key of this tick.
    local _, ref = unpack(outcome == 'some' and existing or conflict)
    return ref
  end
  return nil, answer
end

function steps.submit_with(step)
  local prefix = step.prefix
  local id, text, new_text, due_at, made_at, after_last = next_args(step, 6)
  if call('HGET', prefix .. KEY.schedules, id) ~= text then return 'stale' end
  if after_last == '1' then
    local made = call('HGET', prefix .. KEY.made, id)
    local found = made and find(step, made:match('%S+$'))
    if found and found ~= 'finished' then return 'open' end
  end
  local submitted = steps.submit(step)
  -- The caller tries again when the partition has been restored.
  if submitted == 'incomplete' then return 'stale' end
  local numbers, answers = unpack(submitted)
  local ref, refusal = ref_of(numbers[1], answers[1])
  if refusal then return refusal end
  call('HSET', prefix .. KEY.made, id, made_at .. ' ' .. ref)
  move_schedule(step, id, new_text, due_at)
  return 'accepted'
end
