-- Moves a schedule to its next tick and makes the task of the due tick, if the schedule is still as the caller read it:
-- of all processes that try, one succeeds.
--
-- KEYS  the partition's prefix
-- ARGV  now, id, the text that it must have, its new text, its next tick or '', the tick that makes a task or '' for
--       none, '1' to make none while the last task has not ended; then the arguments of submit.lua, for one call with
--       one task
-- Returns 'stale' | 'moved' | {'full', waiting} | {'unstorable', 1}, and then nothing has changed
-- Cost  four commands more than submit.lua
function steps.tick()
  local id, text, new_text, next_at, tick, skips = arg(), arg(), arg(), arg(), arg(), arg()
  if call('HGET', P .. KEY.schedules, id) ~= text then return 'stale' end
  local makes = tick ~= ''
  if makes and skips == '1' then
    local made = call('HGET', P .. KEY.made, id)
    local found = made and find(made:match('%S+$'))
    makes = not found or found == 'F'
  end
  if makes then
    local submitted = steps.submit()
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
    call('HSET', P .. KEY.made, id, tick .. ' ' .. ref)
  end
  move_schedule(id, new_text, next_at)
  return 'moved'
end
