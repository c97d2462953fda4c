-- Changes a schedule of a type of this partition, if it is still as the caller read it; then reads all schedules.
--
-- KEYS  the partition's prefix
-- ARGV  now, id or '' to change none, the text that it must have or '' for a new one, its new text or '' to delete it,
--       its next tick or '', its last tick and task or '' to leave them
-- Returns 'stale' | {id, text, last tick and task or '', …}
-- Cost  four commands; grows with the number of schedules
--
-- A schedule has its text in `schedules`, its next tick in `ticks`, and in `made` the last tick that made a task and
-- the ref of that task.
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
      finish_step()
    end
  end
  local all = call('HGETALL', P .. KEY.schedules)
  local answer = {}
  for index = 1, #all, 2 do
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = all[index], all[index + 1], ''
  end
  for index = 1, #answer, 3 do answer[index + 2] = call('HGET', P .. KEY.made, answer[index]) or '' end
  return answer
end
