-- Accepts a task and changes the document of its schedule, if the document is still as the caller read it: of all
-- processes that try, one succeeds.
--
-- KEYS  the partition's prefix
-- ARGV  now, id, the text that it must have, its new text, when it is due or '', the time to store with the task, '1'
--       if the last task must have ended; then the arguments of submit.lua, for one call with one task
-- Returns 'accepted' | 'stale' | 'open' | {'full', waiting} | {'unstorable', 1}; all but the first change nothing
-- Cost  four commands more than submit.lua
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
  local answer = answers[1]
  if answer[1] == 'full' or answer[1] == 'unstorable' then return answer end
  local ref
  if type(answer) == 'string' then
    ref = numbers[1] .. '.' .. answer
  else
    ref = answer[1] == 'some' and answer[4] or answer[3]
  end
  call('HSET', prefix .. KEY.made, id, made_at .. ' ' .. ref)
  move_schedule(step, id, new_text, due_at)
  return 'accepted'
end
