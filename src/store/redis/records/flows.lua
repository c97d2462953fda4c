-- Tasks that wait for others; a part of the code that all steps share.
--
-- A task that waits for others is a text in `dependent`, in the same format as in `delayed`, with a member
-- `<entry>.<lane>` in `dependents`; outcomes.lua describes the outcomes that it keeps.
--
-- In the other direction, `successors:<ref>` holds the tasks that wait for a task, `<letter> <name>`, with the letter
-- of their failure policy. A task whose end does not count remains awaited. `awaited` holds the ref of each task that
-- has such a set, so other tasks cost nothing.
--
-- A change that concerns a task of another partition is written as a notice, which the sweep delivers
-- (partition-messages.ts).

-- Writes a notice for another partition: `<its number> <kind> <ref there> <other name> <more>`.
local function notify(step, name, what, other, more)
  local partition, ref = name:match('^(%d+)/(.*)$')
  if step.notices_written == 0 then broadcast(step, 'due ' .. step.now_text) end
  step.notices_written = step.notices_written + 1
  call('XADD', step.prefix .. KEY.notices, '*', 'n', table.concat({ partition, what, ref, other, more }, ' '))
end

-- Returns the error of a canceled task, as JSON.
local function cancel_reason(name, status)
  if status == 'gone' then
    return string.format(CANCELED_BECAUSE_GONE, id_of(name))
  end
  return string.format(CANCELED_BECAUSE, id_of(name), status)
end

local function leave_dependent(step, lane, ref)
  local prefix = step.prefix
  call('HDEL', prefix .. KEY.dependent, ref)
  call('ZREM', prefix .. KEY.dependents, by_age(ref))
  count(step, lane.type, 'dependent', -1)
end

local function cancel_dependent(step, ref, error)
  local text = call('HGET', step.prefix .. KEY.dependent, ref)
  if not text then return end
  local lane = lane_by_ref(step, ref)
  local m, x, payload = lines_of(text)
  local head = head_of(m, lane)
  leave_dependent(step, lane, ref)
  finish(step, lane, ref, 'canceled', finished_text(step, 'canceled', '', head, x, payload, error, 'null', 'null'))
  keep_key(step, labels_in(x), retention.kept_ms(step, lane.type, 'canceled'))
  count(step, lane.type, 'canceled', 1)
  add_task_event(step, 'canceled', lane, head, 'null', 'null', error, '')
end

-- All tasks that it waited for have ended: it becomes ready, or delayed for the rest of its delay.
local function release(step, ref)
  local text = call('HGET', step.prefix .. KEY.dependent, ref)
  if not text then return end
  local lane = lane_by_ref(step, ref)
  local m, x, payload, e = lines_of(text)
  local head = head_of(m, lane)
  leave_dependent(step, lane, ref)
  if tonumber(head.run_at) > step.now then
    delay(step, lane, ref, head.run_at, join_head(step, head), x, e, payload)
  else
    head.run_at = step.now_text
    enqueue(step, lane, ref, join_head(step, head), x, e, payload)
  end
end

-- Stores a task until all tasks that it awaits have ended.
local function depend(step, lane, ref, m, x, e, payload)
  local prefix = step.prefix
  call('HSET', prefix .. KEY.dependent, ref, table.concat({ m, x, payload, e }, '\n'))
  call('ZADD', prefix .. KEY.dependents, 0, by_age(ref))
  count(step, lane.type, 'dependent', 1)
end

-- Records that the named task has a copy of the result of a task of this partition.
local function note_copy(step, ref, name) call('SADD', step.prefix .. KEY.copies .. ref, name) end

local function await(step, ref, successor)
  local prefix = step.prefix
  call('SADD', prefix .. KEY.successors .. ref, successor)
  call('HSET', prefix .. KEY.awaited, ref, '1')
  step.anything_awaited = true
end

-- A task that `ref` waits for has ended so that it counts, or has been removed.
local function receive_outcome(step, ref, name, outcome)
  local key = step.prefix .. KEY.outcomes .. ref
  if call('HGET', key, name) ~= '' then return end
  put_outcome(key, name, outcome)
  if outcome == GONE then
    cancel_dependent(step, ref, cancel_reason(name, 'gone'))
  elseif call('HINCRBY', key, '#', -1) == 0 then
    release(step, ref)
  end
end

-- Informs a task of the end of a task that it awaits; returns whether it no longer awaits it.
local function inform_successor(step, successor, name, status, outcome)
  local policy, other = successor:match('^(%l) (.*)$')
  local effect = effect_of(status, policy)
  if effect == 'waits' then return false end
  local is_here, ref = place_of(step, other)
  if effect == 'counts' then
    local _, its_ref = place_of(step, name)
    note_copy(step, its_ref, other)
    if is_here then receive_outcome(step, ref, name, outcome) else notify(step, other, 'ended', name, outcome) end
    return true
  end
  if is_here then
    cancel_dependent(step, ref, cancel_reason(name, status))
  else
    notify(step, other, 'cancel', name, status)
  end
  return false
end

-- A task that is awaited no longer exists, and is not known to have succeeded.
local function inform_of_removal(step, name, gone)
  local is_here, ref = place_of(step, name)
  if is_here then receive_outcome(step, ref, gone, GONE) else notify(step, name, 'gone', gone, '') end
end

local function leave_successors(step, ref, informed)
  local prefix = step.prefix
  if #informed > 0 then many('SREM', prefix .. KEY.successors .. ref, informed) end
  if call('EXISTS', prefix .. KEY.successors .. ref) == 0 then call('HDEL', prefix .. KEY.awaited, ref) end
end

-- A task awaits a task of this partition: it receives the outcome, or is certain to receive it later. A task
-- that was canceled by a failure of the awaited task and then retried waits for another end of that task.
local function add_successor(step, ref, policy, name, since)
  local found, text = find(step, ref)
  if not found then return inform_of_removal(step, name, name_of(step, ref)) end
  local successor = policy .. ' ' .. name
  local status, ended_at = text:match('^(%l+)|[%l_]*|(%d+)')
  local is_old = found == 'F' and effect_of(status, policy) == 'cancels' and tonumber(ended_at) <= since
  if found == 'F' and not is_old then
    local outcome = outcome_of(lane_by_ref(step, ref).type, text)
    if inform_successor(step, successor, name_of(step, ref), status, outcome) then
      return leave_successors(step, ref, { successor })
    end
  end
  await(step, ref, successor)
end

local function join_batch(step, batch, ref)
  local prefix = step.prefix
  if not batch then return end
  call('RPUSH', prefix .. KEY.batch .. batch, ref)
  call('HINCRBY', prefix .. KEY.batches, batch, 1)
end

-- Makes a stored task wait for others in their present state. Returns the reason to cancel it, if there is one, and
-- whether nothing is left to wait for. A task that no longer exists was accepted once: it counts as forgotten.
local function begin_waiting(step, ref, names, policy)
  local key, successor = step.prefix .. KEY.outcomes .. ref, policy .. ' ' .. name_of(step, ref)
  local awaited, why = 0, nil
  for _, name in ipairs(names) do
    local is_here, other = place_of(step, name)
    local outcome = ''
    if is_here then
      local found, text = find(step, other)
      local status = found == 'F' and text:match('^%l+')
      local effect = status and effect_of(status, policy) or 'waits'
      if not found then outcome = FORGOTTEN end
      if effect == 'counts' then
        outcome = outcome_of(lane_by_ref(step, other).type, text)
        note_copy(step, other, name_of(step, ref))
      end
      if effect == 'cancels' then why = why or cancel_reason(name, status) end
      if outcome == '' then await(step, other, successor) end
    else
      notify(step, name, 'await', name_of(step, ref), policy .. ' 0')
    end
    if outcome == '' then
      awaited = awaited + 1
      call('HSET', key, name, '')
    else
      put_outcome(key, name, outcome)
    end
  end
  call('HSET', key, '#', awaited)
  return why, awaited == 0
end

-- Returns the state after a retry of a task that waited for others: 'ready' | 'waits', or 'refused' if the wait could
-- never end.
local function wait_again(step, ref, x)
  local names = names_in(x)
  if not names then return 'ready' end
  local key = step.prefix .. KEY.outcomes .. ref
  for _, name in ipairs(names) do
    if call('HSTRLEN', key, name) == #GONE and call('HGET', key, name) == GONE then return 'refused' end
  end
  return #awaited_by(step, ref, names) > 0 and 'waits' or 'ready'
end
