-- Changes a schedule of a type that belongs here, if it is still as the caller saw it; then tells of all.
--
-- ARGV  now, id or '' to change none, the text that it must have or '' for one that is new, its new text or '' to drop
--       it, its next tick or '', what it made last or '' to leave that
-- Returns 'stale' | {id, text, what it made last or '', …}
-- Cost  four commands; grows with the number of schedules
--
-- A schedule: its text in `schedules`, its next tick in `ticks`, and in `made` when it last made a task, and which.
function steps.schedules()
  local id, text, new_text, next_at, made = arg(), arg(), arg(), arg(), arg()
  if id ~= '' then
    if (call('HGET', P .. KEY.schedules, id) or '') ~= text then return 'stale' end
    if new_text == '' then
      call('HDEL', P .. KEY.schedules, id)
      call('HDEL', P .. KEY.made, id)
      call('ZREM', P .. KEY.ticks, id)
    else
      move_schedule(id, new_text, next_at)
      if made ~= '' then call('HSET', P .. KEY.made, id, made) end
      if call('ZRANGE', P .. KEY.ticks, 0, 0)[1] == id then broadcast('due ' .. next_at) end
      leave_behind()
    end
  end
  local all = call('HGETALL', P .. KEY.schedules)
  local told = {}
  for index = 1, #all, 2 do
    told[#told + 1], told[#told + 2], told[#told + 3] = all[index], all[index + 1], ''
  end
  for index = 1, #told, 3 do told[index + 2] = call('HGET', P .. KEY.made, told[index]) or '' end
  return told
end
