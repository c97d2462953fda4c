-- Erases finished tasks.
--
-- KEYS  the partition's prefix
-- ARGV  now, how long a finished task may be kept (ms), 'check' to change nothing, 'task' or 'copy'; number of items;
--       each: the ref of a task; for a copy also the name of the task that the result belongs to, and the outcome
--       without the result
-- Returns per task {'changed' | 'refused' (it has not finished) | 'unknown' | 'more' (a step informs at most so many
--       tasks and reads the undelivered messages at most once; another call continues), …}. After 'changed', 'check'
--       returns when the task ended; 'task' returns the outcome that replaces copies of its result, and the names of
--       tasks in other partitions that have a copy. Per copy 'done'
-- Cost  about ten commands a task and five for each of its copies, and one read of the undelivered messages

-- A successor keeps status and type of the task, and nothing else.
local function blank_copy(step, ref, name, blank)
  local key = step.prefix .. KEY.outcomes .. ref
  local outcome = call('HGET', key, name)
  if not outcome or outcome == '' or outcome == GONE then return end
  call('HINCRBY', key, '#bytes', string.format('%d', -#outcome))
  call('HDEL', key, '@' .. name)
  put_outcome(key, name, blank)
end

-- @param room how many tasks this step may still work on, as `room.tasks`; a task and each copy of its result count
local function erase(step, ref, is_dry_run, room)
  local prefix = step.prefix
  if room.tasks <= 0 then return { 'more' } end
  local found, text = find(step, ref)
  if not found then return { 'unknown' } end
  if found ~= 'finished' then return { 'refused' } end
  local status, ended_at = finished_state(text)
  if is_dry_run then return { 'changed', ended_at } end
  local blank = string.format('["%s","%s",null,null]', status, lane_by_ref(step, ref).type)
  local answer = { 'changed', blank }
  local successors = call('SMEMBERS', prefix .. KEY.copies .. ref)
  room.tasks = room.tasks - 1 - #successors
  for _, successor in ipairs(successors) do
    local is_here, other = place_of(step, successor)
    if is_here then blank_copy(step, other, name_of(step, ref), blank) else answer[#answer + 1] = successor end
  end
  if #answer > 2 then
    partition_messages.blank(step, name_of(step, ref), blank)
    room.tasks = 0
  end
  local key = labels_in(extras_of(text))
  local stored = key and call('GET', prefix .. KEY.key .. key)
  if stored and stored:match('^%S+') == ref then call('DEL', prefix .. KEY.key .. key) end
  return remove_finished(step, ref, text, blank) and answer or { 'more' }
end

function steps.erase(step)
  step.retention_ms = number(step)
  local what, answers, room = arg(step), {}, { tasks = FOLLOWED_MAX }
  for index = 1, number(step) do
    local ref = arg(step)
    if what == 'copy' then
      blank_copy(step, ref, arg(step), arg(step))
      answers[index] = 'done'
    else
      answers[index] = erase(step, ref, what == 'check', room)
    end
  end
  write_finished(step)
  finish_step(step)
  return answers
end
