-- Moves a schedule on to its next tick and makes the task of the one that is due, if it is still as the caller saw it:
-- of all that try, one does.
--
-- ARGV  now, id, the text that it must have, its new text, its next tick or '', the tick that makes a task or '' for
--       none, '1' for none while the last one has not ended; then what submit.lua takes, in one call with one task
-- Returns 'stale' | 'moved' | {'full', waiting} | {'unstorable', 1}, and then nothing has changed
-- Cost  four commands more than submit.lua
function steps.tick()
  local id, text, new_text, next_at, tick, skips = arg(), arg(), arg(), arg(), arg(), arg()
  if call('HGET', P .. KEY.schedules, id) ~= text then return 'stale' end
  local makes = tick ~= ''
  if makes and skips == '1' then
    local made = call('HGET', P .. KEY.made, id)
    local stands = made and find(made:match('%S+$'))
    makes = not stands or stands == 'F'
  end
  if makes then
    local submitted = steps.submit()
    -- It is tried again when the partition has been restored.
    if submitted == 'incomplete' then return 'stale' end
    local numbers, answers = unpack(submitted)
    local told = answers[1]
    if told[1] == 'full' or told[1] == 'unstorable' then return told end
    local ref
    if type(told) == 'string' then
      ref = numbers[1] .. '.' .. told
    else
      ref = told[1] == 'some' and told[4] or told[3]
    end
    call('HSET', P .. KEY.made, id, tick .. ' ' .. ref)
  end
  move_schedule(id, new_text, next_at)
  return 'moved'
end
